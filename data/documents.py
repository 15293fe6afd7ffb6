"""What a model is fine-tuned on, whatever file it came in: words and pictures in reading order.

A `Document` is what somebody has; a `Sample` is the same spelled for the model, each piece with its weight in the loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from data.episodes import Weighted
from flamingo_app.errors import DataError, FlamingoError
from flamingo_app.images import Source as Picture
from flamingo_app.prompt import Mark, Piece, refuse_special_tokens, said

Part = str | Path | bytes


@dataclass(frozen=True, kw_only=True)
class Document:
    """Words (str) and pictures (a path, or the bytes of a file) in reading order.

    Args:
        name: where it stands, in the user's own words: "metadata.jsonl line 3".
        parts: at least one.
    """

    name: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A training example: pieces with their weights in the loss, and the pictures that stand at the marks.

    Args:
        name: of the document it was spelled from.
    """

    name: str
    pieces: tuple[Weighted, ...]
    pictures: tuple[Picture, ...]


class Source(Protocol):
    """A collection of samples that can be read in any order, any number of times."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample:
        """The sample at an index.

        Raises:
            DataError: for a record that cannot be read; pictures are not opened here.
        """
        ...

    def name(self, index: int) -> str:
        """What to call a record in messages, also where it cannot be read."""
        ...


def spell(document: Document) -> Sample:
    """A document as the field trains on it (Awadalla et al. 2023, "OpenFlamingo", section 3.3).

    Pictures and the words after them are one chunk.

    Raises:
        DataError: words that spell a special token, or are no words.
    """
    pieces: list[Piece] = []
    pictures: list[Path | bytes] = []
    spoken = False  # whether words have followed the latest picture
    for part in document.parts:
        if not isinstance(part, str):
            pieces += [Mark.END_OF_CHUNK, Mark.IMAGE] if spoken else [Mark.IMAGE]
            pictures.append(part)
            spoken = False
        elif words := said(_plain(part, document.name)):
            pieces += words
            spoken = bool(pictures)
    pieces += [Mark.END_OF_CHUNK] if spoken else []
    return Sample(name=document.name, pieces=field_weights(pieces), pictures=tuple(pictures))


def field_weights(pieces: Sequence[Piece]) -> tuple[Weighted, ...]:
    """The weights in the loss that the field gives: words count from a picture up to the end of its chunk, and so does
    that end; not the pictures' marks, words before the first picture, or words between a chunk's end and a picture.
    """
    weighted: list[Weighted] = []
    inside = False
    for piece in pieces:
        inside = inside or piece is Mark.IMAGE
        weighted.append((piece, float(inside and piece is not Mark.IMAGE)))
        inside = inside and piece is not Mark.END_OF_CHUNK
    return tuple(weighted)


def _plain(words: str, name: str) -> str:
    try:
        refuse_special_tokens(words)
    except FlamingoError as error:
        raise DataError(expected=error.expected, got=f"{error.got} of {name}", remedy="take it out") from None
    if any("\ud800" <= letter <= "\udfff" for letter in words):
        raise DataError(expected=f"words in UTF-8 at {name}", got=ascii(words)[:40], remedy="save the file as UTF-8")
    return words
