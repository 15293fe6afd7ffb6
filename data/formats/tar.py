"""Tar shards, as webdataset has them: read member by member where they lie, in any order.

Members whose paths are equal up to the first dot of their file name are one record. The shards' headers are read once;
after that a record is a seek away, so that a sample depends on its number alone and not on who read what before.
"""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from data.documents import Document, Sample, spell
from data.formats.lines import field, read_object
from flamingo_app.errors import DataError
from flamingo_app.images import SUFFIXES


@dataclass(frozen=True)
class Member:
    """Where a file lies in a shard."""

    shard: Path
    start: int
    size: int

    def read(self) -> bytes:
        with self.shard.open("rb") as file:
            file.seek(self.start)
            return file.read(self.size)


class TarRecords:
    """Records of shards: {suffix: member} by number, in the order of the shards.

    Raises:
        DataError: a shard cannot be read as a plain tar file.
    """

    def __init__(self, shards: Sequence[Path]) -> None:
        self.records: list[tuple[str, dict[str, Member]]] = []
        for shard in shards:
            found: dict[str, dict[str, Member]] = {}
            for info in _members(shard):
                path = PurePosixPath(info.name)  # to which ./a.png is a.png
                key, dot, suffix = path.name.partition(".")
                members = found.setdefault(str(path.parent / key), {})
                members[f"{dot}{suffix}".lower()] = Member(shard, info.offset_data, info.size)
            self.records += [(f"{shard.name} record {key}", members) for key, members in found.items()]

    def __len__(self) -> int:
        return len(self.records)

    def name(self, index: int) -> str:
        return self.records[index][0]


class TarPairs:
    """Records of a picture and its text: .txt, or .json with `caption` or `text`."""

    def __init__(self, records: TarRecords) -> None:
        self.records = records

    def __len__(self) -> int:
        return len(self.records)

    def name(self, index: int) -> str:
        return self.records.name(index)

    def __getitem__(self, index: int) -> Sample:
        name, members = self.records.records[index]
        picture = next((members[suffix] for suffix in members if suffix in SUFFIXES), None)
        if picture is None:
            raise DataError(
                expected=f"a picture in {name}", got=", ".join(members), remedy="add it, or take the record out"
            )
        return spell(Document(name=name, parts=(picture.read(), _text(name, members))))


def _text(name: str, members: dict[str, Member]) -> str:
    if ".txt" in members:
        return members[".txt"].read().decode("utf-8", errors="replace")
    if ".json" in members:
        record = read_object(members[".json"].read(), name)
        return field(record, "caption" if "caption" in record else "text", str, name)
    raise DataError(expected=f"a .txt or .json in {name}", got=", ".join(members), remedy="add it")


def _members(shard: Path) -> list[tarfile.TarInfo]:
    try:
        with tarfile.open(shard, "r:") as tar, shard.open("rb") as file:
            members = [info for info in tar if info.isfile()]
            file.seek(tar.offset)
            if any(file.read(tarfile.BLOCKSIZE)):  # tarfile takes a damaged header for the end
                raise tarfile.ReadError(f"damaged at byte {tar.offset}")
            return members
    except (OSError, tarfile.TarError) as error:
        raise DataError(
            expected="a plain tar file", got=f"{shard} ({error})", remedy="unpack it once if it is compressed"
        ) from None
