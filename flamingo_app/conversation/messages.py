"""What each side of a chat said: words and pictures, in their order."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property, partial
from hashlib import sha256
from typing import Any

from PIL.Image import Image

from flamingo_app.errors import PromptError
from flamingo_app.images import Source, open_and_keep, open_picture
from flamingo_app.prompt import Mark, Role, Turn, refuse_special_tokens, refuse_unreadable


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture of a chat, opened when the model reads it: what was read before is known by its name alone.

    Args:
        name: the same for the same picture, another for another: a sha256.
        open: gives the picture itself.
    """

    name: str
    open: Callable[[], Image] = field(repr=False)

    @classmethod
    def of(cls, source: Source) -> Picture:
        """A picture from a file, bytes or memory.

        What is kept of it are the bytes of a file: the pixels of a long chat would fill memory.

        Raises:
            PictureError: for what is no safe picture.
        """
        image, data = open_and_keep(source)
        size = f"{image.width}x{image.height}:".encode()
        return cls(name=sha256(size + image.tobytes()).hexdigest(), open=partial(open_picture, data))


Part = str | Image | Picture


@dataclass(frozen=True, kw_only=True)
class Message:
    """One message of a chat.

    Args:
        role: who speaks, "user" or "assistant".
        parts: words and pictures in the order in which they are to be read.
    """

    role: Role
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        known = (part if isinstance(part, str | Picture) else Picture.of(part) for part in self.parts)
        object.__setattr__(self, "parts", tuple(known))

    def __getstate__(self) -> dict[str, Any]:
        """What was said, without what it was spelled as."""
        return {"role": self.role, "parts": self.parts}

    @cached_property  # a long chat asks every message of it at every turn
    def pictures(self) -> tuple[Picture, ...]:
        """The pictures alone, in order."""
        return tuple(part for part in self.parts if isinstance(part, Picture))

    @property
    def text(self) -> str:
        """The words alone, as one text."""
        return " ".join(part.strip() for part in self.parts if isinstance(part, str)).strip()

    @cached_property
    def turn(self) -> Turn:
        """The message with a mark where each picture stands, as `flamingo_app.prompt` spells it."""
        pieces = (part if isinstance(part, str) else Mark.IMAGE for part in self.parts)
        return Turn(role=self.role, pieces=tuple(pieces))

    @cached_property
    def scripts(self) -> dict[Hashable, tuple[int | str, ...]]:
        """Its tokens with the names of its pictures in their places, for each tokenizer that spelled it."""
        return {}

    @cached_property
    def turns(self) -> dict[Hashable, Any]:
        """The turns that begin with it, as they are written into a memory, by the tokens of their messages."""
        return {}

    def check(self) -> None:
        """Raise `PromptError` for a message that says and shows nothing, spells a special token, or cannot be read."""
        if not self.pictures and not any(part.strip() for part in self.parts if isinstance(part, str)):
            raise PromptError(
                expected="words or a picture", got="an empty message", remedy="write something and send again"
            )
        for part in self.parts:
            if isinstance(part, str):
                refuse_special_tokens(part)
                refuse_unreadable(part)
                if "\0" in part:  # which databases cannot keep
                    raise PromptError(expected="words", got="a character NUL", remedy="take it out")


@dataclass(frozen=True, kw_only=True)
class Example:
    """A picture and what is to be said about it, shown to the model before a chat."""

    picture: Picture
    text: str

    def check(self) -> None:
        """Raise `PromptError` for an empty text, or one that spells a special token or cannot be read."""
        if not self.text.strip():
            raise PromptError(expected="words for the picture", got="none", remedy="write what the model should say")
        refuse_special_tokens(self.text)
        refuse_unreadable(self.text)
