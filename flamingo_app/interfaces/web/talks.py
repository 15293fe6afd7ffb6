"""Conversations to click in an empty chat: what somebody might ask a model, message after message."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from flamingo_app.conversation import Picture
from flamingo_app.errors import CheckpointError
from flamingo_app.images import open_picture
from flamingo_app.interfaces.web.drafts import Draft

FACE = 72  # pixels a side of the pictures on a button
MOST_FACES = 3


class Words(BaseModel):
    """Words of a message."""

    words: str


class Shown(BaseModel):
    """A picture of a message: a file beside the list."""

    picture: str


class Talk(BaseModel):
    """What is asked, one message after the other."""

    title: str
    messages: list[list[Words | Shown]]


@dataclass(frozen=True, kw_only=True)
class Talks:
    """Those of a model.

    Args:
        folder: where the pictures lie.
    """

    folder: Path = Path()
    talks: tuple[Talk, ...] = ()

    @classmethod
    def read(cls, folder: Path) -> Talks:
        """Read `talks.json` in a folder; without one there are none.

        Raises:
            CheckpointError: for a file of another shape.
        """
        file = folder / "talks.json"
        if not file.is_file():
            return cls(folder=folder)
        try:
            return cls(folder=folder, talks=TypeAdapter(tuple[Talk, ...]).validate_json(file.read_bytes()))
        except ValidationError:
            raise CheckpointError(
                expected="a readable talks.json", got=f"{file}, which is damaged", remedy="restore it, or delete it"
            ) from None

    def drafts(self, number: int, put: Callable[[Path], Picture]) -> list[Draft]:
        """The messages of one, its pictures kept by `put`; none where it is not there.

        Raises:
            PictureError: for a file that is no safe picture.
        """
        return [
            tuple(part.words if isinstance(part, Words) else put(self._file(part)) for part in message)
            for talk in self.talks[number : number + 1]
            for message in talk.messages
        ]

    def buttons(self) -> list[dict[str, Any]]:
        """What the page shows of each: its title and its first pictures.

        Raises:
            PictureError: for a file that is no safe picture.
        """
        return [
            {"title": talk.title, "faces": [_face(self._file(part)) for part in _shown(talk)[:MOST_FACES]]}
            for talk in self.talks
        ]

    def _file(self, part: Shown) -> Path:
        return self.folder / Path(part.picture).name


def _shown(talk: Talk) -> list[Shown]:
    return [part for message in talk.messages for part in message if isinstance(part, Shown)]


def _face(file: Path) -> str:
    image, buffer = open_picture(file), io.BytesIO()
    image.resize((FACE, FACE)).save(buffer, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
