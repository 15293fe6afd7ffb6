"""Captions to JSON lines, COCO or CSV, in a file that is whole or not there."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from io import TextIOBase
from pathlib import Path
from typing import Any

from flamingo_app.errors import FlamingoError

Record = dict[str, Any]
"""file_name, text, score; and error where the picture failed, text and score being None."""

FIELDS = ("file_name", "text", "score", "error")


def write_records(records: Iterable[Record], file: TextIOBase, form: str) -> None:
    """Write records as they come ("jsonl", "csv"), or all at the end ("coco")."""
    match form:
        case "coco":
            file.write(f"{_json(_coco(list(records)))}\n")
        case "csv":
            table: csv.DictWriter[str] = csv.DictWriter(file, FIELDS, lineterminator="\n")
            table.writeheader()
            table.writerows(records)
        case _:
            for record in records:
                file.write(f"{_json(record)}\n")
                file.flush()


def _coco(records: list[Record]) -> Record:
    """COCO's captions format; a failed picture is listed with its error and has no annotation."""
    images: list[Record] = []
    annotations: list[Record] = []
    for number, record in enumerate(records, start=1):
        images.append({"id": number} | {key: record[key] for key in ("file_name", "error") if key in record})
        if "error" not in record:
            annotations.append({"id": number, "image_id": number, "caption": record["text"], "score": record["score"]})
    return {"images": images, "annotations": annotations}


def _json(value: Record) -> str:
    """One line of JSON; where a file's name is no UTF-8, its bytes are escaped as Python does, so that none is lost."""
    line = json.dumps(value, ensure_ascii=False)
    return line if line.isascii() or _is_utf8(line) else json.dumps(value)


def _is_utf8(text: str) -> bool:
    return text == text.encode(errors="ignore").decode()


@contextmanager
def destination(out: str | None) -> Generator[TextIOBase]:
    """Standard output, or a file that appears under its name once everything is in it.

    Raises:
        FlamingoError: the file cannot be written.
    """
    if out is None:
        stdout: Any = sys.stdout
        stdout.reconfigure(encoding="utf-8", errors="surrogateescape")  # names that are no UTF-8 keep their bytes
        yield stdout
        return
    target = Path(out).resolve()  # a link stays, what it leads to is replaced
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        if target.exists() and not target.is_file():
            raise IsADirectoryError("a folder or a device")
        file = part.open("x", encoding="utf-8", errors="surrogateescape", newline="")
    except OSError as error:
        raise FlamingoError(
            expected="a file that can be written",
            got=f"--out {out!r}: {error.strerror or error}",
            remedy="choose another, in a folder that exists",
        ) from None
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
