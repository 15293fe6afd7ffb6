"""A conversation in a folder: what was said, the pictures, and the memory of what has left its window.

`conversation.json` is written last, and names each file by what it holds: a save that was cut short leaves what was
there before it whole. The pictures of a folder are read as they lie there.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args
from uuid import uuid4

from PIL import Image

from flamingo_app.conversation.messages import Example, Message, Picture
from flamingo_app.errors import ConversationError, PictureError
from flamingo_app.images import open_picture
from flamingo_app.memory.state import MemoryState, Remembers
from flamingo_app.prompt import Role

FORMAT = "flamingo conversation folder 1"
FILE = "conversation.json"


def write_folder(
    folder: Path,
    messages: Iterable[Message],
    examples: Iterable[Example],
    states: dict[str, tuple[str, MemoryState]],
) -> None:
    """Write a conversation, over the one that the folder may hold. What else lies there stays.

    A picture that was lost since is named all the same, as one that is lost.

    Args:
        states: memories by what they are, each with its name.

    Raises:
        ConversationError: it cannot be written there.
    """
    whole: dict[str, Any] = {"format": FORMAT, "memories": {}}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        whole["messages"] = [{"role": m.role, "parts": [_written(p, folder) for p in m.parts]} for m in messages]
        whole["examples"] = [{"picture": _written(e.picture, folder), "text": e.text} for e in examples]
        for what, (name, state) in states.items():
            whole["memories"][what] = f"memory-{name}.safetensors"
            with _beside(folder / whole["memories"][what]) as part:
                state.save(part)
        old = _files(folder)
        with _beside(folder / FILE) as part:
            part.write_bytes(json.dumps(whole, ensure_ascii=False, indent=1).encode())
        for file in old - _files(folder):
            file.unlink(missing_ok=True)
    except OSError as error:
        raise ConversationError(
            expected="a folder that can be written", got=f"{folder}: {error.strerror}", remedy="name another one"
        ) from error


def read_folder(
    folder: Path, model: Remembers | None
) -> tuple[list[Message], list[Example], dict[str, tuple[str, MemoryState]]]:
    """What `write_folder` wrote; pictures are opened where they are read.

    Args:
        model: that is to read the memories; None leaves them.

    Raises:
        ConversationError: it holds no conversation.
        CheckpointError: its memory is damaged, or of other weights.
    """
    folder = folder.absolute()  # pictures are opened later, from wherever that is
    try:
        whole = json.loads((folder / FILE).read_bytes())
        if whole["format"] != FORMAT:
            raise ValueError(f"its format is {whole['format']!r}")
        if not isinstance(whole["messages"], list):
            raise TypeError("its messages are no list")
        messages = [
            Message(role=_role(said["role"]), parts=tuple(_read(part, folder) for part in said["parts"]))
            for said in whole["messages"]
        ]
        examples = [Example(picture=_picture(e["picture"], folder), text=_words(e["text"])) for e in whole["examples"]]
        files = {what: folder / Path(name).name for what, name in whole["memories"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConversationError(
            expected="a folder that Conversation.save wrote",
            got=f"{folder}, whose {FILE} is missing or damaged ({type(error).__name__})",
            remedy="name the folder of a conversation",
        ) from error
    if model is None:
        return messages, examples, {}
    return messages, examples, {what: (_name(file), MemoryState.load(file, model)) for what, file in files.items()}


def _files(folder: Path) -> set[Path]:
    """What the conversation in a folder is made of, beside `conversation.json`; nothing where there is none."""
    try:
        whole = json.loads((folder / FILE).read_bytes())
        shown = [part for said in whole["messages"] for part in said["parts"]]
        shown += [example["picture"] for example in whole["examples"]]
        pictures = {_file(part["picture"], folder) for part in shown if "picture" in part}
        return pictures | {folder / Path(name).name for name in whole["memories"].values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return set()


def _name(file: Path) -> str:
    return file.stem.removeprefix("memory-")


def _written(part: str | Picture | Any, folder: Path) -> dict[str, str]:
    if isinstance(part, str):
        return {"words": part}
    file = _file(part.name, folder)
    if not _whole(file):
        file.parent.mkdir(exist_ok=True)
        with suppress(PictureError), _beside(file) as beside:
            part.open().save(beside, "PNG")
    return {"picture": part.name}


def _whole(file: Path) -> bool:
    """Whether a picture lies there that was not damaged since."""
    try:
        with Image.open(file, formats=["PNG"]) as image:
            image.verify()
    except Exception:  # whatever the damage makes the decoder trip over
        return False
    return True


def _read(part: dict[str, str], folder: Path) -> str | Picture:
    return _words(part["words"]) if "words" in part else _picture(part, folder)


def _words(words: str) -> str:
    words.encode()  # half a surrogate is no word
    return words


def _role(role: str) -> Role:
    if role not in get_args(Role):
        raise ValueError(f"its role is {role!r}")
    return cast(Role, role)


def _picture(part: dict[str, str], folder: Path) -> Picture:
    return Picture(name=part["picture"], open=partial(open_picture, _file(part["picture"], folder)))


def _file(name: str, folder: Path) -> Path:
    return folder / "pictures" / f"{Path(name).name}.png"


@contextmanager
def _beside(file: Path) -> Generator[Path]:
    """A file to write, which takes this one's place once it is whole."""
    part = file.with_name(f"{uuid4().hex}.part")
    yield part
    part.replace(file)
