"""One JSON line for every step: what it drew and what came of it. A run that goes on writes over what it repeats."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Journal:
    """The lines of a run.

    Args:
        path: the file; lines of steps from `start` on are dropped, and a line that was cut short.
    """

    def __init__(self, path: Path, start: int) -> None:
        self.path = path
        kept = [line for line in lines(path) if line["step"] < start]
        temporary = path.with_suffix(".writing")
        temporary.write_text("".join(f"{json.dumps(line)}\n" for line in kept))
        temporary.rename(path)

    def write(self, line: dict[str, Any]) -> None:
        """Add a line, in one piece."""
        with self.path.open("a") as file:
            file.write(f"{json.dumps(line)}\n")

    def sync(self) -> None:
        """Put what was written on the disk: a checkpoint is to have all lines before it."""
        with self.path.open("a") as file:
            os.fsync(file.fileno())


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a journal."""
    if not path.exists():
        return
    for line in path.read_text().splitlines():
        try:
            yield json.loads(line)
        except ValueError:  # a kill cut it short, so it is the last
            return
