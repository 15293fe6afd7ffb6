"""What a user writes: from the browser's words and files to a message, and back into the box to be changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from gradio.utils import get_upload_folder

from flamingo_app.conversation import Picture
from flamingo_app.errors import PictureError, PromptError

Draft = tuple[str | Picture, ...]
"""Words and pictures in their order."""

KEPT = "kept:"
"""Before the name of a picture that the conversation showed before."""


def read_draft(payload: Any, *, put: Callable[[Path], Picture], kept: Callable[[str], Picture], most: int) -> Draft:
    """What came from the page.

    Args:
        payload: a list of `{"words": text}` and `{"picture": path of an uploaded file, or a kept picture}`.
        put: keeps an uploaded file.
        kept: finds a picture of the conversation by its name.
        most: pictures in one message.

    Raises:
        PromptError: for what is no message.
        PictureError: for a file that is no safe picture.
    """
    given = cast(list[object], payload) if isinstance(payload, list) else [None]
    if sum(isinstance(part, dict) and "picture" in part for part in given) > most:
        raise PromptError(expected=f"at most {most} pictures", got="more", remedy="send some of them later")
    parts: list[str | Picture] = []
    for part in given:
        match part:
            case {"words": str(words)}:
                parts.append(words)
            case {"picture": str(path)}:
                parts.append(read_picture(path, put=put, kept=kept))
            case _:
                raise PromptError(expected="words and pictures", got="something else", remedy="write the message again")
    return tuple(parts)


def read_picture(path: str, *, put: Callable[[Path], Picture], kept: Callable[[str], Picture]) -> Picture:
    """A picture that was uploaded to the page, or kept before.

    Raises:
        PictureError: for a file that is no safe picture, or was not uploaded: the browser's word is not trusted.
    """
    if path.startswith(KEPT):
        return kept(path.removeprefix(KEPT))
    file = uploaded(path)
    try:
        return put(file)
    except PictureError as error:  # a person knows the file by its name, not by where the page put it
        got = error.got.replace(str(file), file.name)
        raise PictureError(expected=error.expected, got=got, remedy=error.remedy) from None


def uploaded(path: str) -> Path:
    """A file that was uploaded to the page; nothing else is opened, whatever the browser says.

    Raises:
        PictureError: for any other.
    """
    folder = Path(get_upload_folder()).resolve()
    file = folder if "\0" in path else Path(path).resolve()
    if file.is_relative_to(folder) and file.is_file():
        return file
    raise PictureError(expected="an uploaded file", got=f"{file.name!r}", remedy="add it again")


def show_draft(draft: Sequence[str | Picture], address: Callable[[Picture], str]) -> list[dict[str, Any]]:
    """A draft as the page takes it.

    Args:
        address: where the browser finds a picture.
    """
    return [
        {"words": part} if isinstance(part, str) else {"picture": {"path": f"{KEPT}{part.name}", "url": address(part)}}
        for part in draft
    ]
