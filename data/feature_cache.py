"""Patches of the frozen image tower, written once: a memory-mapped table of features beside a list of hashes.

A picture is known by its content, a store by everything that makes pixels into patches. Blocks of `BLOCK` pictures are
appended, features first, hashes after them, so that a hash without its features cannot be; what was cut short at the
end is written again, in the same blocks, and so with the same last bits.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from data.documents import Picture
from flamingo_app.images import content_hash, open_picture
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.processing import FlamingoProcessor

BLOCK = 16
DIGEST = 32  # bytes of a SHA-256


def content(picture: Picture) -> bytes:
    """The picture's `content_hash`, as bytes."""
    return bytes.fromhex(content_hash(picture))


class FeatureCache:
    """Features of pictures for one image tower and one way of making pictures ready.

    Args:
        folder: where stores are kept; each gets a folder of its own there.
    """

    def __init__(self, folder: Path, model: FlamingoForConditionalGeneration, processor: FlamingoProcessor) -> None:
        config = model.config
        transform = {
            "vision": config.vision_hash,
            "feature": config.to_dict()["vision_feature"],
            "pictures": {k: v for k, v in processor.image_processor.to_dict().items() if not k.startswith("_")},
        }
        key = hashlib.sha256(json.dumps(transform, sort_keys=True).encode()).hexdigest()[:16]
        self.folder = folder / key
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "transform.json").write_text(json.dumps(transform, indent=1) + "\n")
        self.shape = _shape(model, processor)
        self._open()

    def _open(self) -> None:
        """Read the hashes, and leave off what was cut short."""
        features, hashes = self.folder / "features.f32", self.folder / "hashes.bin"
        row = int(np.prod(self.shape)) * 4
        sizes = [path.stat().st_size if path.exists() else 0 for path in (features, hashes)]
        count = min(sizes[0] // row, sizes[1] // DIGEST)
        for path, size in ((features, count * row), (hashes, count * DIGEST)):
            with path.open("ab") as file:
                file.truncate(size)
        known = hashes.read_bytes()
        self.rows = {known[DIGEST * i : DIGEST * (i + 1)]: i for i in range(count)}
        self.__dict__.pop("features", None)

    @cached_property
    def features(self) -> Any:
        """The table (pictures patches dim), mapped from the disk."""
        return np.memmap(self.folder / "features.f32", np.float32, "r", shape=(len(self.rows), *self.shape))

    def __getstate__(self) -> dict[str, Any]:
        """For processes that read ahead: each maps the table for itself."""
        return {name: value for name, value in self.__dict__.items() if name != "features"}

    def add(
        self, pictures: Iterable[Picture], model: FlamingoForConditionalGeneration, processor: FlamingoProcessor
    ) -> int:
        """Encode those that are not there yet; returns how many there were."""
        missing = self._missing(pictures)
        before = len(self.rows)
        with (self.folder / "features.f32").open("ab") as features, (self.folder / "hashes.bin").open("ab") as hashes:
            while block := list(islice(missing, BLOCK)):
                pixels = processor.image_processor.pixels([picture for _, picture in block]).to(model.device)
                with torch.inference_mode():
                    patches = model.vision_encoder(pixels[:, None, None].to(model.dtype))[:, 0, 0]
                for file, data in (
                    (features, patches.float().cpu().numpy().tobytes()),
                    (hashes, b"".join(digest for digest, _ in block)),
                ):
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
        self._open()
        return len(self.rows) - before

    def _missing(self, pictures: Iterable[Picture]) -> Iterator[tuple[bytes, Picture]]:
        known = set(self.rows)
        for picture in pictures:
            digest = content(picture)
            if digest not in known:
                known.add(digest)
                yield digest, picture

    def patches(self, pictures: Sequence[Picture]) -> Tensor:
        """Patches of pictures that were added, (pictures patches dim)."""
        return torch.from_numpy(np.stack([self.features[self.rows[content(picture)]] for picture in pictures]))


@torch.inference_mode()
def _shape(model: FlamingoForConditionalGeneration, processor: FlamingoProcessor) -> tuple[int, int]:
    """(patches, dim) of a picture."""
    pixels = processor.image_processor.pixels([open_picture(Image.new("RGB", (8, 8)))]).to(model.device)
    _, patches, dim = model.vision_encoder(pixels[:, None, None].to(model.dtype))[:, 0, 0].shape
    return patches, dim
