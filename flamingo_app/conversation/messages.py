"""What each side of a chat said: words and pictures, in their order."""

from __future__ import annotations

from dataclasses import dataclass

from PIL.Image import Image

from flamingo_app.errors import PromptError
from flamingo_app.prompt import Mark, Role, Turn, refuse_special_tokens

Part = str | Image


@dataclass(frozen=True, kw_only=True)
class Message:
    """One message of a chat.

    Args:
        role: who speaks, "user" or "assistant".
        parts: words and pictures in the order in which they are to be read.
    """

    role: Role
    parts: tuple[Part, ...]

    @property
    def pictures(self) -> tuple[Image, ...]:
        """The pictures alone, in order."""
        return tuple(part for part in self.parts if not isinstance(part, str))

    @property
    def turn(self) -> Turn:
        """The message with a mark where each picture stands, as `flamingo_app.prompt` spells it."""
        pieces = (part if isinstance(part, str) else Mark.IMAGE for part in self.parts)
        return Turn(role=self.role, pieces=tuple(pieces))

    def check(self) -> None:
        """Raise `PromptError` for a message that says and shows nothing, or spells a special token."""
        if not self.pictures and not any(part.strip() for part in self.parts if isinstance(part, str)):
            raise PromptError(
                expected="words or a picture", got="an empty message", remedy="write something and send again"
            )
        for part in self.parts:
            if isinstance(part, str):
                refuse_special_tokens(part)
