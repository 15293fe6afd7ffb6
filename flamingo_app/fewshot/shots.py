"""Shots: pictures with the texts that the model is to imitate."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from flamingo_app.errors import FlamingoError, PictureError, ShotsError
from flamingo_app.images import Source, open_picture
from flamingo_app.prompt import refuse_special_tokens


@dataclass(frozen=True)
class Shot:
    """A picture and the text that goes with it."""

    image: Source
    text: str


def read_shots(
    path: str | Path, *, option: str = "--shots", left_out: Callable[[ShotsError], None] | None = None
) -> list[Shot]:
    """Read a file of lines `{"image": path, "text": words}`, the paths relative to the file.

    Args:
        option: what the path was given by.
        left_out: told of each picture that cannot be opened, whose line is left out then; None raises.

    Raises:
        ShotsError: the file or a line of it cannot be read, or the picture that a line names; it says which line.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ShotsError(
            expected="a shots file", got=f"{str(path)!r}: {what}", remedy=f"check the path after {option}"
        ) from None
    shots: list[Shot] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                shots.append(_read_shot(line, path.parent))
            except FlamingoError as error:
                where = f"{error.got} in line {number} of {str(path)!r}"
                named = ShotsError(expected=error.expected, got=where, remedy=error.remedy)
                if left_out is None or not isinstance(error, PictureError):
                    raise named from None
                left_out(named)
    if not shots:
        raise ShotsError(
            expected=f"at least one picture and its text after {option}",
            got=f"{str(path)!r}, which has none",
            remedy="write one JSON object a line",
        )
    return shots


def parse_shot(given: str) -> Shot:
    """Read `picture.png=text`, as a command line has it.

    Raises:
        ShotsError: it has another form.
        FlamingoError: its picture cannot be opened, or its text cannot be a prompt.
    """
    parts = given.split("=")
    ways = [("=".join(parts[:count]), "=".join(parts[count:])) for count in range(1, len(parts))]
    # A path may have a = of its own.
    image, text = next((way for way in ways if os.path.isfile(way[0])), ways[0] if ways else ("", ""))  # noqa: PTH113
    if not (image and text.strip()):
        raise ShotsError(expected='picture.png="text" after --shot', got=repr(given), remedy="give both")
    return _checked(Path(image), text)


def _read_shot(line: str, folder: Path) -> Shot:
    try:
        shot: Any = json.loads(line)
    except (ValueError, RecursionError):
        shot = None
    fields = cast("dict[str, Any]", shot) if isinstance(shot, dict) else {}
    image, text = fields.get("image"), fields.get("text")
    if not (isinstance(image, str) and isinstance(text, str) and image and text.strip()):
        raise ShotsError(
            expected='{"image": "path", "text": "words"}', got=repr(line[:60]), remedy="correct the line or take it out"
        )
    return _checked(folder / image, text)


def _checked(image: Path, text: str) -> Shot:
    refuse_special_tokens(text)
    open_picture(image)  # now rather than after minutes of work
    return Shot(image, text)
