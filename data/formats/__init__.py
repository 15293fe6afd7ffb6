"""What can be trained on, told apart by looking at it.

FOLDER with metadata.jsonl            Hugging Face imagefolder: file_name, text          pairs
FILE.csv                              columns file_name, text                            pairs
FILE.json                             COCO captions                                      pairs
FILE.tar, a glob, FOLDER of .tar      webdataset: picture and .txt or .json; or MMC4     tar, interleaved
FILE.jsonl                            MMC4 or OBELICS documents; or imagefolder lines    interleaved, pairs
picture-book:COUNT                    our own episodes                                   pages
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from data.documents import Source
from data.formats.interleaved import SIMILARITY, Mmc4, Obelics
from data.formats.lines import JsonLines
from data.formats.pages import PictureBook
from data.formats.pairs import ImageFolder, read_coco, read_csv
from data.formats.tar import TarPairs, TarRecords
from flamingo_app.errors import DataError

BOOK = "picture-book:"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How to read what needs telling.

    Args:
        image_root: folder that pictures' paths are relative to; None is that of the file that names them.
        similarity: of MMC4 pictures to their sentences, at least.
    """

    image_root: Path | None = None
    similarity: float = SIMILARITY


def open_source(path: str, reading: Reading, where: str = "after --data") -> Source:
    """A source by what lies at a path.

    Args:
        where: the path stands.

    Raises:
        DataError: nothing there, nothing in it, or nothing that is known.
    """
    try:
        source = _open(path, reading, where)
    except OSError as error:
        raise DataError(
            expected=f"a data set {where}", got=f"{path!r} ({error.strerror})", remedy="check the path"
        ) from None
    if len(source) == 0:
        raise DataError(
            expected=f"at least one record {where}", got=f"{path!r}, which has none", remedy="check the path"
        )
    return source


def _open(path: str, reading: Reading, where: str) -> Source:
    if path.startswith(BOOK):
        count = path.removeprefix(BOOK)
        return PictureBook(int(count) if count.isdecimal() else 0)
    place = Path(path)
    if place.is_dir() and (place / "metadata.jsonl").is_file():
        return ImageFolder(place / "metadata.jsonl", reading.image_root)
    if place.is_dir() and (place / "metadata.csv").is_file():
        return read_csv(place / "metadata.csv", reading.image_root)
    if shards := _shards(place):
        records = TarRecords(shards)
        looked_at = records.records[:100]  # the first may be damaged
        documents = looked_at and all(suffix == ".json" for _, members in looked_at for suffix in members)
        return Mmc4(records, reading.similarity) if documents else TarPairs(records)
    match place.suffix:
        case ".csv":
            return read_csv(place, reading.image_root)
        case ".json":
            return read_coco(place, reading.image_root)
        case ".jsonl":
            return _lines(place, reading)
        case _:
            what = "has neither metadata.jsonl nor shards" if place.is_dir() else "is none of these"
            raise DataError(
                expected=f"a folder with metadata.jsonl, a .csv, .json or .jsonl file, or .tar shards {where}",
                got=f"{path!r}, which {what if place.exists() else 'is missing'}",
                remedy="see docs/howto/fine-tune.md for what each must hold",
            )


def _lines(path: Path, reading: Reading) -> Source:
    lines = JsonLines(path)
    for number in range(min(len(lines), 100)):  # the first may be damaged
        with suppress(DataError):
            record = lines[number]
            if "text_list" in record:
                return Mmc4(lines, reading.similarity)
            if "texts" in record:
                return Obelics(lines, reading.image_root or path.parent)
    return ImageFolder(path, reading.image_root)


def _shards(place: Path) -> list[Path]:
    """The tar files that a path means: itself, those in a folder, or a glob's."""
    if place.is_dir():
        return sorted(place.glob("*.tar"))
    if any(letter in place.name for letter in "*?["):
        return sorted(place.parent.glob(place.name))
    return [place] if place.suffix == ".tar" and place.is_file() else []
