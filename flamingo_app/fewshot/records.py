"""Records to JSON lines, COCO or CSV."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from io import TextIOBase
from pathlib import Path
from typing import Any

from flamingo_app.errors import FlamingoError

Record = dict[str, Any]
"""file_name, and what came of it; error where the picture failed, the rest being None."""
PLOTS = (".png", ".svg", ".pdf")
"""What the name of a plot may end in."""


def write_records(records: Iterable[Record], file: TextIOBase, form: str, fields: Sequence[str]) -> None:
    """Write records as they come ("jsonl", "csv"), or all at the end ("coco")."""
    match form:
        case "coco":
            file.write(f"{line_of(_coco(list(records)))}\n")
        case "csv":
            table: csv.DictWriter[str] = csv.DictWriter(file, [*fields, "error"], lineterminator="\n")
            table.writeheader()
            table.writerows({key: _cell(value) for key, value in record.items()} for record in records)
        case _:
            for record in records:
                file.write(f"{line_of(record)}\n")
                file.flush()


def _cell(value: Any) -> Any:
    return line_of(value) if isinstance(value, dict) else value


def _coco(records: list[Record]) -> Record:
    """COCO's captions format; a failed picture is listed with its error and has no annotation."""
    images: list[Record] = []
    annotations: list[Record] = []
    for number, record in enumerate(records, start=1):
        images.append({"id": number} | {key: record[key] for key in ("file_name", "error") if key in record})
        if "error" not in record:
            annotations.append({"id": number, "image_id": number, "caption": record["text"], "score": record["score"]})
    return {"images": images, "annotations": annotations}


def line_of(value: Any) -> str:
    """One line of JSON; where a file's name is no UTF-8, its bytes are escaped as Python does, so that none is lost."""
    line = json.dumps(value, ensure_ascii=False)
    return line if line.isascii() or _is_utf8(line) else json.dumps(value)


def _is_utf8(text: str) -> bool:
    return text == text.encode(errors="ignore").decode()


def standard_output() -> TextIOBase:
    """Where names that are no UTF-8 keep their bytes."""
    stdout: Any = sys.stdout
    stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    return stdout


def check_destination(out: str, option: str = "--out", *, plot: bool = False) -> Path:
    """The file that is meant by an option; a link is followed.

    Args:
        plot: whether a plot is to be drawn there, so that its ending must be one of `PLOTS`.

    Raises:
        FlamingoError: it cannot be written.
    """
    target = Path(out).resolve()
    if plot and target.suffix.lower() not in PLOTS:
        expected = f"a plot's name, ending in {', '.join(PLOTS)}"
        raise FlamingoError(expected=expected, got=f"{option} {out!r}", remedy="choose one")
    what = None
    if target.exists() and not target.is_file():
        what = "a folder or a device"
    elif not target.parent.is_dir():
        what = "No such file or directory"
    elif not all(os.access(path, os.W_OK) for path in (target, target.parent) if path.exists()):
        what = "Permission denied"
    if what is None:
        return target
    raise FlamingoError(
        expected="a file that can be written",
        got=f"{option} {out!r}: {what}",
        remedy="choose another, in a folder that exists",
    )


@contextmanager
def whole_file(target: Path) -> Generator[TextIOBase]:
    """A file that appears under its name once everything is in it."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with part.open("x", encoding="utf-8", errors="surrogateescape", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
