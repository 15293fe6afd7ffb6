"""Many pictures, a batch at a time: copies are labelled once, what cannot be opened does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from flamingo_app.fewshot.decoding import Decoded

Label = TypeVar("Label")
Labeller = Callable[[Tensor], Sequence[Label]]
"""What labels a batch of pixel values (pictures 3 height width)."""


@dataclass(frozen=True)
class Outcome(Generic[Label]):
    """What came of one picture: a label, or an error in one line.

    Args:
        sha256: of the file's content, where it could be opened.
    """

    label: Label | None
    error: str | None
    sha256: str | None


def outcomes(
    labeller: Labeller[Label],
    pictures: Iterable[Decoded],
    *,
    batch_size: int,
    known: MutableMapping[str, Label],
) -> Iterator[list[Outcome[Label]]]:
    """Outcomes in the order of the pictures, those of a batch together.

    A batch ends with the picture that fills it; so what is in one depends on the pictures from its start on, and on
    what was known then: a run that begins where another stopped makes the same batches.

    Args:
        batch_size: new pictures at once.
        known: labels by content; those found here are added.
    """
    waiting: list[Decoded] = []
    new: dict[str, Tensor] = {}
    for picture in pictures:
        waiting.append(picture)
        if picture.pixels is not None and picture.sha256 is not None and picture.sha256 not in known:
            new.setdefault(picture.sha256, picture.pixels)
        if len(new) == batch_size:
            yield _labelled(labeller, waiting, new, known)
            waiting, new = [], {}
    if waiting:
        yield _labelled(labeller, waiting, new, known)


def _labelled(
    labeller: Labeller[Label], waiting: Sequence[Decoded], new: dict[str, Tensor], known: MutableMapping[str, Label]
) -> list[Outcome[Label]]:
    if new:
        known.update(zip(new, labeller(torch.stack([*new.values()])), strict=True))
    return [
        Outcome(None if picture.sha256 is None else known[picture.sha256], picture.error, picture.sha256)
        for picture in waiting
    ]
