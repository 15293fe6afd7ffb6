"""A conversation as it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from flamingo_app.conversation.messages import Example, Message, Part, Picture
from flamingo_app.conversation.store.pictures import Pictures

Status = Literal["asked", "whole", "length", "stopped"]
"""Of an answer: none yet, or nobody is left to give it; whole; cut at its longest; stopped by a person."""

TITLE_LENGTH = 60


@dataclass(frozen=True, kw_only=True)
class SavedTurn:
    """What the user said and showed, and the answer; only an answer that ended is ever kept.

    Args:
        said: words and pictures in their order.
        answer: None while there is none.
        status: how the answer ended.
    """

    said: tuple[str | Picture, ...]
    answer: str | None = None
    status: Status = "asked"

    @property
    def messages(self) -> list[Message]:
        """The turn as the model reads it."""
        asked = Message(role="user", parts=self.said)
        return [asked] if self.answer is None else [asked, Message(role="assistant", parts=(self.answer,))]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A conversation in a list."""

    id: str
    title: str
    updated: float


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A whole conversation.

    Args:
        remembers: whether what has left the window is read.
        forgotten: how many of the first turns are not, all the same.
        pool: the set of examples of which the most similar are chosen for each new picture; "" chooses none.
        num_similar: how many of them.
    """

    id: str
    title: str
    turns: tuple[SavedTurn, ...] = ()
    examples: tuple[Example, ...] = ()
    remembers: bool = True
    forgotten: int = 0
    pool: str = ""
    num_similar: int = 0

    @property
    def messages(self) -> list[Message]:
        """All that was said, as the model reads it."""
        return [message for turn in self.turns for message in turn.messages]


def title_of(said: Sequence[Part]) -> str:
    """The first words of a message."""
    words = " ".join(" ".join(part for part in said if isinstance(part, str)).split())
    return words[:TITLE_LENGTH] or "A picture"


def write_parts(said: Sequence[Part]) -> list[dict[str, str]]:
    """Words and pictures as JSON."""
    return [{"text": part} if isinstance(part, str) else {"picture": _name(part)} for part in said]


def read_parts(said: Sequence[dict[str, str]], pictures: Pictures) -> tuple[str | Picture, ...]:
    """Words and pictures from JSON."""
    return tuple(part["text"] if "text" in part else pictures.picture(part["picture"]) for part in said)


def write_examples(examples: Sequence[Example]) -> list[dict[str, str]]:
    """Examples as JSON."""
    return [{"picture": example.picture.name, "text": example.text} for example in examples]


def read_examples(examples: Sequence[dict[str, str]], pictures: Pictures) -> tuple[Example, ...]:
    """Examples from JSON."""
    return tuple(Example(picture=pictures.picture(each["picture"]), text=each["text"]) for each in examples)


def _name(part: Any) -> str:
    assert isinstance(part, Picture)
    return part.name
