"""From the browser's files to pictures in memory, and back to files that the page can show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gradio.processing_utils import save_pil_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

from flamingo_app.errors import PictureError
from flamingo_app.images import open_picture

LARGEST_SIDE = 1024
"""Pixels; pictures are kept no larger, since no image tower reads more, and every open page keeps its own."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture of the chat.

    Args:
        image: what the model sees.
        file: the same as a file that the page may show.
    """

    image: Image.Image
    file: Path


def open_upload(path: str) -> Picture:
    """Open a file that was uploaded to the page.

    Raises:
        PictureError: for a file that is no safe picture, or was not uploaded: the browser's word is not trusted.
    """
    folder = Path(get_upload_folder()).resolve()
    file = Path(path).resolve()
    if not file.is_relative_to(folder) or not file.is_file():
        raise PictureError(
            expected="an uploaded picture", got=f"{file.name!r}", remedy="add the picture to the message again"
        )
    try:
        image = open_picture(file)
    except PictureError as error:  # a person knows the file by its name, not by where the page put it
        got = error.got.replace(str(file), file.name)
        raise PictureError(expected=error.expected, got=got, remedy=error.remedy) from None
    image.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    return Picture(image=image, file=Path(save_pil_to_cache(image, str(folder), format="png")))
