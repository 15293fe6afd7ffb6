"""Pictures by sha256 under an fsspec URL: a local folder, or whatever storage fsspec has a driver for."""

from __future__ import annotations

import io
import os
import re
import time
from collections.abc import Collection
from datetime import datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from fsspec.core import url_to_fs  # pyright: ignore[reportUnknownVariableType]
from fsspec.implementations.local import LocalFileSystem
from PIL import Image

from flamingo_app.conversation.messages import Picture
from flamingo_app.errors import PictureError
from flamingo_app.images import Source, open_picture

LARGEST_SIDE = 1024
"""Pixels; pictures are kept no larger, since no image tower reads more."""

GRACE_SECONDS = 3600.0
"""A picture is written before the turn that shows it: one so young may only be waiting for its turn."""

NAME = re.compile(r"[0-9a-f]{64}")


class Pictures:
    """Pictures as PNG files, each under the sha256 of its bytes.

    Args:
        url: a folder, or any URL of fsspec.

    Raises:
        PictureError: from `put` and `open`, for what is no safe picture, is missing or is damaged.
    """

    def __init__(self, url: str) -> None:
        files, root = cast("tuple[Any, str]", url_to_fs(url))
        self.files, self.root = files, root
        self.files.makedirs(self.root, exist_ok=True)

    def put(self, source: Source) -> Picture:
        """Keep a picture, made smaller where it is large; the same picture twice is one file."""
        image = open_picture(source)
        image.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
        buffer = io.BytesIO()
        image.save(buffer, format="PNG", compress_level=1)
        data = buffer.getvalue()
        name = sha256(data).hexdigest()
        self._write(self.path(name), data)
        return self.picture(name)

    def picture(self, name: str) -> Picture:
        """A picture that was kept, opened when it is needed."""
        if not NAME.fullmatch(name):
            raise _missing(name)
        return Picture(name=name, open=partial(self.open, name))

    def open(self, name: str) -> Image.Image:
        """The picture itself."""
        return open_picture(self.read(name))

    def read(self, name: str) -> bytes:
        """Its file, which must be what was written."""
        try:
            data: bytes = self.files.cat_file(self.path(name))
        except OSError:
            raise _missing(name) from None
        if sha256(data).hexdigest() != name:
            raise _missing(name)
        return data

    def path(self, name: str) -> str:
        """Where a picture lies, inside the file system."""
        return f"{self.root}/{name}.png"

    def sweep(self, shown: Collection[str]) -> None:
        """Delete what no conversation shows any more."""
        known = set(shown)
        for entry in self.files.ls(self.root, detail=True):
            name = Path(entry["name"]).stem
            if name not in known and NAME.fullmatch(name) and _age(entry) > GRACE_SECONDS:
                self.files.rm_file(entry["name"])

    def _write(self, path: str, data: bytes) -> None:
        if not isinstance(self.files, LocalFileSystem):
            self.files.pipe_file(path, data)
            return
        part = Path(f"{path}.{uuid4().hex}.part")
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)


def _age(entry: dict[str, Any]) -> float:
    written = entry.get("mtime") or entry.get("LastModified") or entry.get("created")
    if isinstance(written, datetime):
        written = written.timestamp()
    return time.time() - written if isinstance(written, int | float) else 0.0


def _missing(name: str) -> PictureError:
    return PictureError(
        expected="a picture of this conversation",
        got=f"{name[:64]!r}, which is gone or damaged",
        remedy="show it again",
    )
