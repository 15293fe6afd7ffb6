"""One picture, one text: the Hugging Face imagefolder with metadata.jsonl, CSV, and COCO captions JSON."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from data.documents import Document, Sample, spell
from data.formats.lines import JsonLines, field, read_object
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
        record, name = self.lines[index], self.name(index)
        return _pair(name, self.root, field(record, "file_name", str, name), field(record, "text", str, name))


class Pairs:
    """Pairs of (name of the record, file, text) that were read at once, files relative to a folder."""

    def __init__(self, records: Sequence[tuple[str, str, str]], root: Path) -> None:
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
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if not {"file_name", "text"} <= set(reader.fieldnames or ()):
            raise DataError(
                expected="a CSV file with columns file_name and text",
                got=f"{path} with {', '.join(reader.fieldnames or ()) or 'no header'}",
                remedy="name its columns in the first line",
            )
        rows = [(f"{path.name} line {reader.line_num}", row["file_name"] or "", row["text"] or "") for row in reader]
    return Pairs(rows, image_root or path.parent)


def read_coco(path: Path, image_root: Path | None = None) -> Pairs:
    """COCO captions: `images` with ids and file names, `annotations` with image ids and captions; one pair a caption.

    Raises:
        DataError: it is no such file.
    """
    whole = read_object(path.read_bytes(), str(path))
    try:
        files: dict[int, str] = {image["id"]: image["file_name"] for image in whole["images"]}
        captions = [(files[note["image_id"]], note["caption"]) for note in whole["annotations"]]
    except (KeyError, TypeError) as error:
        raise DataError(
            expected="COCO captions: images with id and file_name, annotations with image_id and caption",
            got=f"{path}, where {error} is amiss",
            remedy="give the captions file of COCO, not that of its boxes",
        ) from None
    rows = [(f"{path.name} annotation {number}", *pair) for number, pair in enumerate(captions)]
    return Pairs(rows, image_root or path.parent)


def _pair(name: str, root: Path, file: str, text: str) -> Sample:
    if not file:
        raise DataError(expected=f"a file_name at {name}", got="none", remedy="name the picture or take the row out")
    return spell(Document(name=f"{name} ({file})", parts=(root / file, text)))
