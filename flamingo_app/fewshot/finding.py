"""What somebody typed to the pictures that are meant."""

from __future__ import annotations

import csv
import glob
import io
import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

from flamingo_app.errors import DataError, PictureError
from flamingo_app.images import OTHER_SUFFIXES, SUFFIXES, Packed, Source

NAMES = ("file_name", "image", "path")
"""What a list may call its column of pictures."""

LISTS = (".csv", ".jsonl")
SHARDS = (".tar",)


def find_pictures(given: Sequence[str]) -> dict[str, Source]:
    """Pictures by the names they have in records, in this order, each name once.

    Files as they were given, but for a `./` before them; folders' pictures in the order of their paths; globs' matches
    likewise; lists' as they are listed, relative to the list; those in webdataset shards as they are packed. What is
    named like a picture and is none, is of a format that is not decoded, or is not there, is kept: opening it says so.
    In folders, hidden files and links to folders are passed over.

    Raises:
        PictureError: for a folder, a list or a shard without pictures, or a glob that matches nothing.
        DataError: for a list or a shard that cannot be read.
    """
    return {name: source for each in given for name, source in _expand(each)}


def name_of(picture: Source) -> str | None:
    """What a picture is called in records; one in memory has no name."""
    return _plain(str(picture)) if isinstance(picture, str | Path | Packed) else None


def _plain(path: str) -> str:
    """One name for `a.png` and `./a.png`."""
    return str(Path(path)) if path.startswith("./") else path


def _expand(given: str) -> Iterator[tuple[str, Source]]:
    if os.path.exists(given) or not re.search(r"[*?\[]", given):  # noqa: PTH110  # Path.exists fails for long names
        matches = [given]
    else:
        found = glob.glob(given, recursive=True)  # noqa: PTH207  # Path.glob takes no absolute patterns
        matches = sorted(match for match in found if not any(map(_leads_back, Path(match).parents)))
    if not matches:
        raise PictureError(expected="pictures", got=f"{given!r}, which matches none", remedy="check the pattern")
    for match in matches:
        suffix = Path(match).suffix.lower()
        if suffix in LISTS:
            yield from ((path, path) for path in _listed(match, suffix))
        elif suffix in SHARDS:
            yield from ((str(packed), packed) for packed in _packed(match))
        else:
            yield from ((path, path) for path in _files(match))


@cache
def _leads_back(folder: Path) -> bool:
    """Whether it is a link to a folder that it lies in."""
    return folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve())


def _files(path: str) -> list[str]:
    """The path itself, or the pictures in and below the folder that it is, and what cannot be looked into."""
    if not path or not os.path.isdir(path):  # noqa: PTH112  # Path takes no words for the current folder
        return [_plain(path)]
    pictures: list[Path] = []

    def cannot_look(error: OSError) -> None:
        pictures.append(Path(error.filename))

    for folder, folders, files in os.walk(path, onerror=cannot_look):
        folders[:] = [name for name in folders if not name.startswith(".")]
        pictures.extend(Path(folder, name) for name in files if _is_picture(name))
        if not (folders or files) and folder != path and _is_picture(folder):
            pictures.append(Path(folder))  # made by mistake
    if not pictures:
        raise PictureError(
            expected=f"a folder with pictures ({' '.join(sorted(SUFFIXES))})", got=repr(path), remedy="check the path"
        )
    return [str(picture) for picture in sorted(pictures)]


def _is_picture(name: str) -> bool:
    """By its name."""
    path = Path(name)
    return path.suffix.lower() in SUFFIXES | OTHER_SUFFIXES and not path.name.startswith(".")


def _listed(path: str, suffix: str) -> list[str]:
    """The pictures that a list names, one a line, under one of `NAMES`."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise DataError(expected="a list of pictures", got=f"{path!r}: {what}", remedy="check the path") from None
    if suffix == ".csv":
        rows: Iterable[Any] = _rows(path, text)
    else:
        rows = (_object(line) for line in text.split("\n") if line.strip())
    named = [_relative(path, number, row) for number, row in enumerate(rows, start=1)]
    if not named:
        raise PictureError(expected="a list with pictures", got=f"{path!r}, which names none", remedy="check the list")
    return named


def _rows(path: str, text: str) -> list[Any]:
    try:
        return [*csv.DictReader(io.StringIO(text, newline=""))]
    except csv.Error as error:
        raise DataError(expected="a list of pictures", got=f"{path!r}: {error}", remedy="correct it") from None


def _object(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _relative(path: str, number: int, row: Any) -> str:
    fields = cast("Mapping[str, Any]", row) if isinstance(row, Mapping) else {}
    name = next((fields[key] for key in NAMES if fields.get(key)), None)
    if not isinstance(name, str):
        raise DataError(
            expected=f"a path under {', '.join(NAMES[:-1])} or {NAMES[-1]}",
            got=f"none in row {number} of {path!r}",
            remedy="name the column so",
        )
    return str(Path(path).parent / name)


def _packed(path: str) -> list[Packed]:
    """The pictures in an archive, found by their headers: the workers that decode them read their bytes."""
    try:
        with tarfile.open(path, "r:") as archive:
            members = [
                Packed(path, _plain(member.name), member.offset_data, member.size)
                for member in archive
                if member.isreg() and Path(member.name).suffix.lower() in SUFFIXES | OTHER_SUFFIXES
            ]
    except (OSError, tarfile.TarError) as error:
        what = error.strerror if isinstance(error, OSError) else "damaged, compressed, or no archive"
        raise DataError(
            expected="a shard: an uncompressed tar archive", got=f"{path!r}: {what}", remedy="check the file"
        ) from None
    if not members:
        raise PictureError(
            expected=f"a shard with pictures ({' '.join(sorted(SUFFIXES))})", got=repr(path), remedy="check the path"
        )
    return members
