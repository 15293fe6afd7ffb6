"""JSON lines that are read where they lie: only the places of the lines are held."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np

from flamingo_app.errors import DataError


class JsonLines:
    """The objects of a JSONL file, by their number; blank lines are passed over.

    Args:
        path: a file; it must not change while it is read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        starts: list[tuple[int, int]] = []  # (offset, number)
        offset = 0
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    starts.append((offset, number))
                offset += len(line)
        self._starts = np.array(starts, dtype=np.int64).reshape(-1, 2)

    def __len__(self) -> int:
        return len(self._starts)

    def name(self, index: int) -> str:
        return f"{self.path.name} line {self._starts[index, 1]}"

    def __getitem__(self, index: int) -> dict[str, Any]:
        """An object.

        Raises:
            DataError: the line is no JSON object.
        """
        with self.path.open("rb") as file:
            file.seek(int(self._starts[index, 0]))
            line = file.readline()
        return read_object(line, self.name(index))


def read_object(text: bytes, name: str) -> dict[str, Any]:
    """A JSON object, or a `DataError` that says where it should have been."""
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise DataError(
            expected=f"a JSON object at {name}", got=repr(text[:40]), remedy="correct the line or take it out"
        )
    return cast("dict[str, Any]", found)


def field(record: dict[str, Any], key: str, kind: type, name: str) -> Any:
    """A field of a record that must be of a kind, or a `DataError`."""
    value = record.get(key)
    if not isinstance(value, kind):
        raise DataError(
            expected=f"{key!r} at {name}, a {kind.__name__}", got=repr(value)[:40], remedy="correct it or take it out"
        )
    return value
