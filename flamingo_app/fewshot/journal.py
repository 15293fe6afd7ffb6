"""A file of records that grows batch by batch, and that a later run goes on with, however this one ends.

    out.jsonl           one record a line, in the order of the pictures
    .out.jsonl.run      what made them: first the settings, then for each batch where it ends, and its pictures' hashes

A batch is written whole, and on the disk, before the second file says so. What follows the last batch that it names is
written again.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from flamingo_app.errors import FlamingoError
from flamingo_app.fewshot.records import Record, line_of


@dataclass
class Journal:
    """Records that were written before, and those that are added.

    Args:
        path: of the records.
        run_path: of the settings and hashes; it only grows.
        settings: what they depend on; those of a run that is gone on with must be the same.
        fields: that each record has.

    Attributes:
        records: those in the file, in its order.
        hashes: of the contents of pictures, by their names.
    """

    path: Path
    run_path: Path
    settings: Mapping[str, Any]
    fields: Sequence[str] = ("file_name",)
    records: list[Record] = field(default_factory=list[Record])
    hashes: dict[str, str] = field(default_factory=dict[str, str])
    _files: list[BinaryIO] = field(default_factory=list[BinaryIO])
    _size: int = 0
    _end: int = 0
    _known_end: int | None = None
    _is_overwritten: bool = False

    def read(self, *, overwrite: bool = False) -> None:
        """Read what an earlier run has left; nothing is changed yet.

        Args:
            overwrite: leave it unread, to be written over.

        Raises:
            FlamingoError: the file holds something else, or records that other settings made.
        """
        self._is_overwritten = overwrite
        if overwrite or not self.path.is_file() or not self.path.stat().st_size:
            return
        content = self.path.read_bytes()
        lines = _complete_lines(self.run_path.read_bytes()) if self.run_path.is_file() else []
        if lines:
            self._check_settings(cast("dict[str, Any]", _parsed(lines[0]) or {}))
            self._known_end = 0
        for line in lines[1:]:
            batch = cast("dict[str, Any]", _parsed(line) or {"end": 0, "sha256": {}})
            self._known_end = batch["end"]
            self.hashes |= batch["sha256"]
        whole = content[: self._known_end] if self._known_end is not None else b""
        if self._known_end is None or len(whole) < self._known_end or whole[-1:] not in (b"", b"\n"):
            # Not as that run left it: somebody has changed the file, or lost the other one.
            whole = content[: _complete(content)] or (b"" if lines else content + b"\n")
        self.records = [self._record(line) for line in _complete_lines(whole)]
        self._size, self._end = len(content), len(whole)

    def _record(self, line: bytes) -> Record:
        record = _parsed(line)
        if isinstance(record, dict) and record.keys() >= {*self.fields}:
            return cast(Record, record)
        raise something_else(self.path)

    def _check_settings(self, earlier: Mapping[str, Any]) -> None:
        different = [name for name, value in self.settings.items() if earlier.get(name) != value]
        if different:
            raise FlamingoError(
                expected="the settings that its records were made with",
                got=f"--out {self.path.name!r} with other {', '.join(different)}",
                remedy="give the same again, choose another file, or give --overwrite",
            )

    def append(self, records: Sequence[Record], hashes: Mapping[str, str]) -> None:
        """Add a batch.

        Raises:
            FlamingoError: another run is writing to the file.
        """
        if not self._files:
            self._open()
        data = "".join(f"{line_of(record)}\n" for record in records).encode()
        _write(self._files[0], data)
        os.fsync(self._files[0].fileno())  # a machine that stops must not keep the second file's word for it alone
        self._end += len(data)
        self._commit(hashes)
        self.records += records

    def _open(self) -> None:
        """Make both files end with the last batch that is whole."""
        file, run = self.path.open("ab"), self.run_path.open("ab")
        self._files = [file, run]
        try:
            fcntl.flock(run, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = self._is_overwritten or self.path.stat().st_size == self._size
        except OSError:
            alone = False
        if not alone:
            raise FlamingoError(
                expected="a file that no other run is writing",
                got=f"--out {self.path.name!r}",
                remedy="wait for that run, or stop it, or choose another file",
            )
        file.truncate(self._end)
        if self._known_end is None:
            run.truncate(0)
            _write(run, f"{line_of(dict(self.settings))}\n".encode())
        else:
            run.truncate(_complete(self.run_path.read_bytes()))
        if self._known_end != self._end:
            self._commit({})

    def _commit(self, hashes: Mapping[str, str]) -> None:
        """Say that the records up to here are whole."""
        line = line_of({"end": self._end, "sha256": dict(hashes)})
        _write(self._files[1], f"{line}\n".encode())

    def close(self) -> None:
        for file in self._files:
            file.close()


def something_else(path: Path) -> FlamingoError:
    return FlamingoError(
        expected="a file of records to go on with, or none",
        got=f"--out {path.name!r}, which holds something else",
        remedy="choose another, or give --overwrite",
    )


def _write(file: BinaryIO, data: bytes) -> None:
    file.write(data)
    file.flush()


def _complete(content: bytes) -> int:
    """Length of the lines that are whole."""
    return content.rfind(b"\n") + 1


def _complete_lines(content: bytes) -> list[bytes]:
    return content[: _complete(content)].split(b"\n")[:-1]


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None
