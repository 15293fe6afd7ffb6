"""Pictures to pixel values ahead of the model, in processes of their own; what cannot be opened says why."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from flamingo_app.errors import PictureError
from flamingo_app.images import Source, open_hashed
from flamingo_app.processing import FlamingoImageProcessor
from flamingo_app.workers import end_with_parent

AT_ONCE = 8
"""Pictures that go to a process and come back together."""


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """A picture as the model takes it, or why there is none.

    Args:
        pixels: (3 height width).
        sha256: of the file's content.
        error: one line.
    """

    pixels: Float[Tensor, "3 height width"] | None = None
    sha256: str | None = None
    error: str | None = None


class Decode(Dataset[list[Decoded]]):
    """Sources to pictures; the library's loader takes its items in any process."""

    def __init__(self, image_processor: FlamingoImageProcessor) -> None:
        self.image_processor = image_processor

    def __getitem__(self, index: Any) -> list[Decoded]:
        return [self.decode(source) for source in index]

    def decode(self, source: Source) -> Decoded:
        try:
            picture, sha256 = open_hashed(source)
        except PictureError as error:
            return Decoded(error=str(error))
        return Decoded(pixels=self.image_processor.pixels([picture])[0], sha256=sha256)


def decoded(
    sources: Iterable[Source], image_processor: FlamingoImageProcessor, *, workers: int = 0
) -> Iterator[Decoded]:
    """Pictures in the order of their sources.

    Args:
        workers: processes that decode ahead; 0 decodes here, each picture when it is asked for.
    """
    loader: Any = DataLoader(
        Decode(image_processor),
        sampler=_chunks(sources, AT_ONCE if workers else 1),  # pyright: ignore[reportArgumentType]  # any iterable
        batch_size=None,
        num_workers=workers,
        worker_init_fn=end_with_parent,
    )
    return chain.from_iterable(loader)


def spare_workers(num_pictures: int) -> int:
    """How many processes are worth starting for so many pictures."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(max(1, processors - 1), 8, num_pictures // (4 * AT_ONCE))


def _chunks(sources: Iterable[Source], size: int) -> Iterator[list[Source]]:
    rest = iter(sources)
    while chunk := list(islice(rest, size)):
        yield chunk
