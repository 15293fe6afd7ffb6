"""CLIP embeddings of shots, kept on disk by the content of their pictures."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from flamingo_app.images import Source, content_hash
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.processing import FlamingoProcessor

AT_ONCE = 64


def index_folder() -> Path:
    """Where indexes are kept: the user's folder for what can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flamingo-app" / "embeddings"


@dataclass(frozen=True)
class Index:
    """A file of embeddings; one that is damaged or cannot be written is as good as none. A path of None is none."""

    path: Path | None

    @classmethod
    def of(cls, model: FlamingoForConditionalGeneration, processor: FlamingoProcessor, folder: Path) -> Index:
        """That of a tower and of how it wants pictures; a tower that nobody has named has none."""
        if model.config.vision_hash is None:
            return cls(None)
        what = f"{model.config.vision_hash} {processor.image_processor.to_json_string()}"
        return cls(folder / f"{hashlib.sha256(what.encode()).hexdigest()}.safetensors")

    def embeddings(
        self, pictures: Sequence[Source], embed: Callable[[Sequence[Source]], Tensor]
    ) -> Float[Tensor, "pictures dim"]:
        """Of each picture, from the file where its content is known, else by `embed`, and into the file."""
        names = [content_hash(picture) for picture in pictures]
        known = self._read()
        missing = {name: picture for name, picture in zip(names, pictures, strict=True) if name not in known}
        for start in range(0, len(missing), AT_ONCE):
            part = list(missing)[start : start + AT_ONCE]
            known |= zip(part, embed([missing[name] for name in part]).cpu(), strict=True)
        if missing:
            self._write(known)
        return torch.stack([known[name] for name in names])

    def _read(self) -> dict[str, Tensor]:
        try:
            return load_file(self.path) if self.path else {}
        except (OSError, SafetensorError):
            return {}

    def _write(self, known: dict[str, Tensor]) -> None:
        if self.path is None:
            return
        part = self.path.with_name(f"{self.path.name}.{os.getpid()}.part")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            save_file({name: value.contiguous() for name, value in known.items()}, part)
            part.replace(self.path)
        except OSError:
            with suppress(OSError):
                part.unlink()
