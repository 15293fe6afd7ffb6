"""What somebody typed to the pictures that are meant."""

from __future__ import annotations

import csv
import glob
import io
import json
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from flamingo_app.errors import DataError, PictureError
from flamingo_app.images import SUFFIXES, Packed, Source

NAMES = ("file_name", "image", "path")
"""What a list may call its column of pictures."""

LISTS = (".csv", ".jsonl")
SHARDS = (".tar",)


def find_pictures(given: Sequence[str]) -> dict[str, Source]:
    """Pictures by the names they have in records, in this order, each name once.

    Files as they were given; folders' pictures in the order of their paths; globs' matches likewise; lists' as they
    are listed, relative to the list; those in webdataset shards as they are packed. A file that is not there is kept:
    opening it says so. Hidden files in folders are passed over.

    Raises:
        PictureError: for a folder or a shard without pictures, or a glob that matches nothing.
        DataError: for a list or a shard that cannot be read.
    """
    return {name: source for each in given for name, source in _expand(each)}


def _expand(given: str) -> Iterator[tuple[str, Source]]:
    if Path(given).exists() or not re.search(r"[*?\[]", given):
        matches = [given]
    else:
        matches = sorted(glob.glob(given, recursive=True))  # noqa: PTH207  # Path.glob takes no absolute patterns
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


def _listed(path: str, suffix: str) -> list[str]:
    """The pictures that a list names, one a line, under one of `NAMES`."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise DataError(expected="a list of pictures", got=f"{path!r}: {what}", remedy="check the path") from None
    if suffix == ".csv":
        rows: Iterable[Any] = csv.DictReader(io.StringIO(text, newline=""))
    else:
        rows = (_object(line) for line in text.split("\n") if line.strip())
    return [_relative(path, number, row) for number, row in enumerate(rows, start=1)]


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
                Packed(path, member.name, member.offset_data, member.size)
                for member in archive
                if member.isreg() and Path(member.name).suffix.lower() in SUFFIXES
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
