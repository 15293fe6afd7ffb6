"""One picture, one text: the Hugging Face imagefolder with metadata.jsonl, CSV, and COCO captions JSON."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.documents import Document, Sample, spell
from data.formats.lines import JsonLines, read_object
from flamingo_app.errors import DataError


class ImageFolder:
    """Lines `{"file_name": path, "text": words}`, the paths relative to the file."""

    def __init__(self, metadata: Path, image_root: Path | None = None) -> None:
        self.lines, self.root = JsonLines(metadata), image_root or metadata.parent

    def __len__(self) -> int:
        return len(self.lines)

    def name(self, index: int) -> str:
        return self.lines.name(index)

    def __getitem__(self, index: int) -> Sample:
        record = self.lines[index]
        return _pair(self.name(index), self.root, record.get("file_name"), record.get("text"))


class Pairs:
    """Pairs of (name of the record, file, text) that were read at once, files relative to a folder."""

    def __init__(self, records: Sequence[tuple[str, Any, Any]], root: Path) -> None:
        self.records, self.root = records, root

    def __len__(self) -> int:
        return len(self.records)

    def name(self, index: int) -> str:
        return self.records[index][0]

    def __getitem__(self, index: int) -> Sample:
        name, file, text = self.records[index]
        return _pair(name, self.root, file, text)


def read_csv(path: Path, image_root: Path | None = None) -> Pairs:
    """A CSV file with columns `file_name` and `text`, and any others.

    Raises:
        DataError: it has no such columns.
    """
    # What is no UTF-8 is told of its row, when that is read.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.DictReader(file)
        try:
            if not {"file_name", "text"} <= set(reader.fieldnames or ()):
                raise DataError(
                    expected="a CSV file with columns file_name and text, and commas between them",
                    got=f"{path} with {', '.join(reader.fieldnames or ()) or 'no header'}",
                    remedy="name its columns in the first line",
                )
            rows = [(f"{path.name} line {reader.line_num}", row["file_name"], row["text"]) for row in reader]
        except csv.Error as error:
            raise DataError(
                expected="a CSV file",
                got=f"{path}, whose line {reader.line_num} has a {error}",
                remedy="put it in quotation marks that end, or take it out",
            ) from None
    return Pairs(rows, image_root or path.parent)


def read_coco(path: Path, image_root: Path | None = None) -> Pairs:
    """COCO captions: `images` with ids and file names, `annotations` with image ids and captions; one pair a caption.

    Raises:
        DataError: it is no such file.
    """
    whole = read_object(path.read_bytes(), str(path))
    try:
        files = {image["id"]: image["file_name"] for image in whole["images"]}
        notes: list[dict[str, Any]] = list(whole["annotations"])
        pairs = [(files.get(note.get("image_id")), note.get("caption")) for note in notes]
        if notes and not any("caption" in note for note in notes):
            raise KeyError("caption")
    except (AttributeError, KeyError, TypeError) as error:
        raise DataError(
            expected="COCO captions: images with id and file_name, annotations with image_id and caption",
            got=f"{path}, where {error} is amiss",
            remedy="give the captions file of COCO, not that of its boxes",
        ) from None
    return Pairs(
        [(f"{path.name} annotation {number}", *pair) for number, pair in enumerate(pairs)], image_root or path.parent
    )


def _pair(name: str, root: Path, file: Any, text: Any) -> Sample:
    for what, value in (("file_name", file), ("text", text)):
        if not isinstance(value, str) or not value:
            raise DataError(
                expected=f"a {what} at {name}", got=repr(value)[:40], remedy="write it, or take the row out"
            )
    return spell(Document(name=f"{name} ({file})", parts=(root / file, text)))
