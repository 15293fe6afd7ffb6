"""Pages of many pictures and texts: MMC4 and OBELICS documents."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from data.documents import Document, Part, Sample, spell
from data.formats.lines import JsonLines, field, read_object
from data.formats.tar import TarRecords
from flamingo_app.errors import DataError

SIMILARITY = 0.24  # what OpenFlamingo trained with


class Documents:
    """Documents that stand one to a record, in lines or in shards."""

    records: JsonLines | TarRecords

    def __len__(self) -> int:
        return len(self.records)

    def name(self, index: int) -> str:
        return self.records.name(index)


class Mmc4(Documents):
    """MMC4 documents (Zhu et al. 2023): `text_list`, and `image_info` with pictures in base64.

    Each picture goes before the sentence that it is assigned to: one to one, so that the similarities add up to the
    most where the document has a `similarity_matrix`, else where `matched_text_index` says. Pairs that are less similar
    than the threshold lose their picture.

    Args:
        records: lines of a file, or members of shards.
        similarity: the threshold on CLIP's similarity of picture and sentence.
    """

    def __init__(self, records: JsonLines | TarRecords, similarity: float = SIMILARITY) -> None:
        self.records, self.similarity = records, similarity

    def __getitem__(self, index: int) -> Sample:
        name = self.name(index)
        record = json_record(self.records, index)
        sentences: list[str] = field(record, "text_list", list, name)
        images: list[dict[str, Any]] = field(record, "image_info", list, name)
        shown: dict[int, list[bytes]] = {}
        try:
            for image, sentence in self._assigned(record, images, len(sentences)):
                if not 0 <= sentence < len(sentences):
                    raise ValueError(f"there is no sentence {sentence}")
                shown.setdefault(sentence, []).append(decode(images[image]["image_base64"], name))
        except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
            raise _misshapen("an MMC4 document", name, error) from None
        parts: list[Part] = []
        for number, sentence in enumerate(sentences):
            parts += [*shown.get(number, ()), str(sentence)]
        return spell(Document(name=name, parts=tuple(parts)))

    def _assigned(
        self, record: dict[str, Any], images: Sequence[dict[str, Any]], sentences: int
    ) -> list[tuple[int, int]]:
        """(picture, sentence) of what is similar enough, in the order of the pictures."""
        there = [number for number, image in enumerate(images) if image.get("image_base64")]
        if matrix := record.get("similarity_matrix"):
            similar = np.array([matrix[number] for number in there], dtype=float).reshape(len(there), sentences)
            rows, columns = linear_sum_assignment(similar, maximize=True)
            pairs = [(there[row], int(column), similar[row, column]) for row, column in zip(rows, columns, strict=True)]
        else:
            pairs = [(n, int(images[n]["matched_text_index"]), float(images[n]["matched_sim"])) for n in there]
        return [(image, sentence) for image, sentence, similarity in pairs if similarity >= self.similarity]


class Obelics(Documents):
    """OBELICS documents (Laurençon et al. 2023): parallel lists `images` and `texts`, in each place one of the two.

    A picture is a path relative to the file, or base64 after "base64:".
    """

    def __init__(self, records: JsonLines | TarRecords, root: Path) -> None:
        self.records, self.root = records, root

    def __getitem__(self, index: int) -> Sample:
        name = self.name(index)
        record = json_record(self.records, index)
        images, texts = field(record, "images", list, name), field(record, "texts", list, name)
        parts: list[Part] = []
        try:
            for image, text in zip(images, texts, strict=True):
                if (image is None) == (text is None):
                    raise ValueError("a place has both, or neither")
                if not isinstance(text if image is None else image, str):
                    raise TypeError(f"{(text if image is None else image)!r} stands for a string")
                parts.append(str(text) if image is None else self._picture(image, name))
        except (TypeError, ValueError) as error:
            raise _misshapen("an OBELICS document", name, error) from None
        return spell(Document(name=name, parts=tuple(parts)))

    def _picture(self, image: str, name: str) -> Path | bytes:
        prefix, colon, rest = image.partition(":")
        return decode(rest, name) if colon and prefix == "base64" else self.root / image


def json_record(records: JsonLines | TarRecords, index: int) -> dict[str, Any]:
    """A record of lines, or of shards whose records are .json members."""
    if isinstance(records, JsonLines):
        return records[index]
    name, members = records.records[index]
    if ".json" not in members:
        raise DataError(expected=f"a .json in {name}", got=", ".join(members), remedy="add it, or take the record out")
    return read_object(members[".json"].read(), name)


def decode(text: str, name: str) -> bytes:
    """Bytes of base64, or a `DataError`."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise DataError(
            expected=f"a picture in base64 at {name}", got=repr(text[:20]), remedy="write it again, or take it out"
        ) from None


def _misshapen(what: str, name: str, error: Exception) -> DataError:
    return DataError(expected=f"{what} at {name}", got=f"one where {error}", remedy="correct it or take it out")
