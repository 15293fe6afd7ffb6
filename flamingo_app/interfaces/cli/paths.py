"""What somebody typed to the pictures that are meant."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path

from flamingo_app.errors import PictureError
from flamingo_app.images import SUFFIXES


def find_pictures(given: Sequence[str]) -> list[str]:
    """Files as they were given, folders' pictures in order of their paths, globs' matches likewise; each path once.

    A file that is not there is kept: opening it says so. Hidden files in folders are passed over.

    Raises:
        PictureError: for a folder without pictures, or a glob that matches nothing.
    """
    return list(dict.fromkeys(path for each in given for path in _expand(each)))


def _expand(given: str) -> list[str]:
    if Path(given).exists() or not re.search(r"[*?\[]", given):
        return _files(given)
    matches = sorted(glob.glob(given, recursive=True))  # noqa: PTH207  # Path.glob takes no absolute patterns
    if not matches:
        raise PictureError(expected="pictures", got=f"{given!r}, which matches none", remedy="check the pattern")
    return [path for match in matches for path in _files(match)]


def _files(path: str) -> list[str]:
    """The path itself, or the pictures in and below the folder that it is."""
    folder = Path(path)
    if not path or not folder.is_dir():  # no words are no path, though pathlib takes them for the current folder
        return [path]
    pictures = sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
        and file.is_file()
    )
    if not pictures:
        raise PictureError(
            expected=f"a folder with pictures ({' '.join(sorted(SUFFIXES))})", got=repr(path), remedy="check the path"
        )
    return [str(picture) for picture in pictures]
