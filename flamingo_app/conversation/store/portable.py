"""A conversation as a file, and back: JSON with its pictures inside, or an archive with Markdown for people."""

from __future__ import annotations

import base64
import io
import json
import zipfile
import zlib
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flamingo_app.conversation.messages import Example, Picture
from flamingo_app.conversation.store.pictures import Pictures
from flamingo_app.conversation.store.records import Saved, SavedTurn, Status, write_examples, write_parts
from flamingo_app.errors import ConversationError
from flamingo_app.prompt import refuse_special_tokens

FORMAT = "flamingo-conversation"
MOST_BYTES = 256 * 2**20


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")
    text: str | None = None
    picture: str | None = None


class _Turn(BaseModel):
    said: list[_Part]
    answer: str | None = None
    status: Status = "asked"


class _Example(BaseModel):
    picture: str
    text: str


class _File(BaseModel):
    format: Literal["flamingo-conversation"]
    version: Literal[1]
    title: Annotated[str, Field(max_length=1000)]
    turns: list[_Turn]
    examples: list[_Example] = []
    pictures: dict[str, str] = {}


def to_json(saved: Saved, pictures: Pictures) -> bytes:
    """All of a conversation in one file."""
    names = sorted({picture.name for picture in _shown(saved)})
    turns = [{"said": write_parts(turn.said), "answer": turn.answer, "status": turn.status} for turn in saved.turns]
    whole: dict[str, Any] = {
        "format": FORMAT,
        "version": 1,
        "title": saved.title,
        "turns": turns,
        "examples": write_examples(saved.examples),
        "pictures": {name: base64.b64encode(pictures.read(name)).decode() for name in names},
    }
    return json.dumps(whole, ensure_ascii=False, indent=1).encode()


def from_file(data: bytes, pictures: Pictures) -> tuple[str, list[SavedTurn], list[Example]]:
    """Title, turns and examples of an archive or of the JSON alone; its pictures are kept.

    Raises:
        ConversationError: for what is no such file; one that fails leaves no conversation behind.
        PictureError: for a picture in it that is none.
    """
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return _from_json(data, pictures)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, archive.open("conversation.json") as file:
            return _from_json(file.read(MOST_BYTES + 1), pictures)
    except (KeyError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError):
        raise _no_file("an archive without a readable conversation.json") from None


def _from_json(data: bytes, pictures: Pictures) -> tuple[str, list[SavedTurn], list[Example]]:
    if len(data) > MOST_BYTES:
        raise _no_file(f"more than {MOST_BYTES // 2**20} MB")
    try:
        file = _File.model_validate_json(data)
        kept = {name: pictures.put(base64.b64decode(text, validate=True)) for name, text in file.pictures.items()}
        examples = [Example(picture=kept[each.picture], text=each.text) for each in file.examples]
        turns = [
            SavedTurn(said=tuple(_part(part, kept) for part in turn.said), answer=turn.answer, status=turn.status)
            for turn in file.turns
        ]
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise _no_file(f"{where}: {first['msg'].splitlines()[0]}") from None
    except KeyError as error:
        raise _no_file(f"a turn whose picture {str(error)[:20]} is not in the file") from None
    except ValueError:
        raise _no_file("a picture that is not base64") from None
    for turn in turns:
        turn.messages[0].check()
    for example in examples:
        example.check()
    return file.title, turns, examples


def to_archive(saved: Saved, pictures: Pictures) -> bytes:
    """A ZIP with conversation.md, the pictures that it shows, and conversation.json to import again."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("conversation.md", to_markdown(saved))
        archive.writestr("conversation.json", to_json(saved, pictures))
        for name in sorted({picture.name for picture in _shown(saved)}):
            archive.writestr(f"pictures/{name}.png", pictures.read(name))
    return buffer.getvalue()


def to_markdown(saved: Saved) -> str:
    """A conversation to read; its pictures stand beside it in `pictures`."""
    lines = [f"# {saved.title}", ""]
    for example in saved.examples:
        lines += [f"> {_picture(example.picture)} {example.text}", ""]
    for turn in saved.turns:
        said = " ".join(part.strip() if isinstance(part, str) else _picture(part) for part in turn.said)
        lines += [f"**You:** {said}", ""]
        if turn.answer is not None:
            note = "" if turn.status == "whole" else f" *({turn.status})*"
            lines += [f"**Flamingo:** {turn.answer}{note}", ""]
    return "\n".join(lines)


def _shown(saved: Saved) -> list[Picture]:
    said = [part for turn in saved.turns for part in turn.said if isinstance(part, Picture)]
    return [*said, *(example.picture for example in saved.examples)]


def _part(part: _Part, kept: dict[str, Picture]) -> str | Picture:
    if part.picture is not None:
        return kept[part.picture]
    refuse_special_tokens(part.text or "")
    return part.text or ""


def _picture(picture: Picture) -> str:
    return f"![picture](pictures/{picture.name}.png)"


def _no_file(got: str) -> ConversationError:
    return ConversationError(expected="a conversation that was exported here", got=got, remedy="export it again")
