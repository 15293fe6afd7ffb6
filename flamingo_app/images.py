"""The one door for pictures: a path, bytes or a picture in memory becomes a safe RGB picture."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from flamingo_app.errors import PictureError


@dataclass(frozen=True)
class Packed:
    """A file inside an archive that is not compressed, as webdataset's shards are.

    Args:
        archive: path of the archive.
        name: of the file in it.
        start, size: where its bytes are.
    """

    archive: str
    name: str
    start: int
    size: int

    def __str__(self) -> str:
        return f"{self.archive}/{self.name}"


Source = str | Path | bytes | Image.Image | Packed

FORMATS = {
    "JPEG": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
}
"""What is decoded, and how such files are named. Pillow knows many more formats: each is one more decoder to attack."""

SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)
OTHER_SUFFIXES = frozenset((".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".jxl"))
"""Of photographs that are not decoded: who meets one among pictures names it, rather than pass it over."""

# Between its limit and twice that, Pillow only warns of a decompression bomb.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


@dataclass(frozen=True, kw_only=True)
class PictureLimits:
    """How large a picture may be.

    Args:
        max_bytes: size of the file.
        max_pixels: width times height, read from the header before anything is decoded.
        max_ratio: the longer side in multiples of the shorter: resizing would lose one side, or blow up the other.
    """

    max_bytes: int = 50 * 2**20
    max_pixels: int = 80_000_000
    max_ratio: float = 50.0


DEFAULT_LIMITS = PictureLimits()


def several(pictures: Source | Iterable[Source]) -> Iterable[Source]:
    """Pictures, of which a single one may stand alone."""
    return (pictures,) if isinstance(pictures, Source) else pictures


def open_picture(source: Source, *, limits: PictureLimits = DEFAULT_LIMITS) -> Image.Image:
    """Open a picture: RGB, upright as its EXIF says, transparency flattened onto white, the first frame of several.

    Args:
        source: a path, the bytes of a file, or a picture in memory, which is not changed.
        limits: how large it may be.

    Raises:
        PictureError: for everything else, without a word from the decoder, which could quote the file's content.
    """
    return open_hashed(source, limits=limits)[0]


def open_hashed(source: Source, *, limits: PictureLimits = DEFAULT_LIMITS) -> tuple[Image.Image, str]:
    """As `open_picture`, with the `content_hash`, by which copies are known."""
    if isinstance(source, Image.Image):
        return _safe(source, _name(source), limits), content_hash(source)
    data = source if isinstance(source, bytes) else _read(source, _name(source), limits)
    return _decoded(data, _name(source), limits), content_hash(data)


def open_and_keep(source: Source, *, limits: PictureLimits = DEFAULT_LIMITS) -> tuple[Image.Image, bytes]:
    """As `open_picture`, with the bytes of a file from which it can be opened again, which take less room."""
    if isinstance(source, Image.Image):
        image, file = _safe(source, _name(source), limits), io.BytesIO()
        image.save(file, "PNG", compress_level=1)
        return image, file.getvalue()
    data = source if isinstance(source, bytes) else _read(source, _name(source), limits)
    return _decoded(data, _name(source), limits), data


def content_hash(source: Source, *, limits: PictureLimits = DEFAULT_LIMITS) -> str:
    """SHA-256 of a picture's file, or of its pixels where it never was one, in hexadecimal; nothing is decoded.

    Raises:
        PictureError: a file cannot be read.
    """
    if isinstance(source, Image.Image):
        return hashlib.sha256(f"{source.mode} {source.size} ".encode() + source.tobytes()).hexdigest()
    return hashlib.sha256(source if isinstance(source, bytes) else _read(source, _name(source), limits)).hexdigest()


def _decoded(data: bytes, name: str, limits: PictureLimits) -> Image.Image:
    if not data:
        raise PictureError(expected="a picture", got=f"{name}, which is empty", remedy="save or copy it again")
    if len(data) > limits.max_bytes:
        raise PictureError(
            expected=f"a file of at most {limits.max_bytes / 2**20:.0f} MiB",
            got=f"{name}, which is larger",
            remedy="make the picture smaller",
        )
    try:
        image = Image.open(io.BytesIO(data), formats=list(FORMATS))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise _too_many_pixels(name, limits) from None
    except Exception:  # decoders raise whatever their format's damage makes them trip over
        raise PictureError(
            expected=f"a picture ({', '.join(FORMATS)})",
            got=f"{name}, whose content is none of these",
            remedy="save it as JPEG or PNG",
        ) from None
    return _safe(image, name, limits)


def _name(source: Source) -> str:
    """The source in the user's own words; `repr` keeps control characters out of the message."""
    if isinstance(source, bytes):
        return f"{len(source)} bytes"
    return "a picture in memory" if isinstance(source, Image.Image) else repr(str(source))


def _read(source: str | Path | Packed, name: str, limits: PictureLimits) -> bytes:
    """Bytes of a file, at most one more than the limit."""
    if isinstance(source, str) and "://" in source:
        raise PictureError(expected="a file", got=f"the address {name}", remedy="download it and give the file")
    path = Path(source.archive if isinstance(source, Packed) else source)
    start, most = (source.start, source.size) if isinstance(source, Packed) else (0, limits.max_bytes + 1)
    try:
        # Regular files only: a device or a pipe could go on for ever.
        if path.is_file():
            with path.open("rb") as file:
                file.seek(start)
                return file.read(min(most, limits.max_bytes + 1))
        if path.is_dir():
            what = "a folder" if os.access(path, os.R_OK | os.X_OK) else "a folder that may not be looked into"
        elif path.exists():
            what = "no file"
        else:
            what = "a link that leads nowhere" if path.is_symlink() else "missing"
    except OSError as error:
        what = f"not readable ({error.strerror})"
    raise PictureError(expected="a picture file", got=f"{name}, which is {what}", remedy="check the path")


def _safe(image: Image.Image, name: str, limits: PictureLimits) -> Image.Image:
    if image.width * image.height > limits.max_pixels:
        raise _too_many_pixels(f"{name} of {image.width} x {image.height}", limits)
    if max(image.size) > limits.max_ratio * min(image.size):
        raise PictureError(
            expected=f"a picture at most {limits.max_ratio:.0f} times as long as wide",
            got=f"{name} of {image.width} x {image.height}",
            remedy="cut out the part that matters",
        )
    try:
        return _to_rgb(ImageOps.exif_transpose(image))
    except Exception:  # as in `open_picture`
        raise PictureError(
            expected="a whole picture", got=f"{name}, which is damaged or cut short", remedy="save or copy it again"
        ) from None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        over = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", over.size, "white"), over)
    elif image.mode.startswith("I"):  # 16 bits a pixel, which `convert` would clip to 8
        wide: np.ndarray[Any, Any] = np.asarray(image)
        image = Image.fromarray((wide.clip(0, 65535) / 257).round().astype(np.uint8))
    return image.convert("RGB")


def _too_many_pixels(what: str, limits: PictureLimits) -> PictureError:
    return PictureError(
        expected=f"a picture of at most {limits.max_pixels / 1e6:.0f} million pixels",
        got=f"{what}, which has more",
        remedy="make it smaller",
    )
