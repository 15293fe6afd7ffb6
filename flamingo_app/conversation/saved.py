"""A conversation in a folder: what was said, the pictures, and the memory of what has left its window.

`conversation.json` is written last, and names the memory's file by its content: a save that was cut short leaves what
was there before it whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from flamingo_app.conversation.messages import Example, Message, Picture
from flamingo_app.errors import ConversationError
from flamingo_app.images import open_picture
from flamingo_app.memory.state import MemoryState, Remembers

FORMAT = "flamingo conversation folder 1"
FILE = "conversation.json"


def write_folder(
    folder: Path,
    messages: Iterable[Message],
    examples: Iterable[Example],
    states: dict[str, MemoryState | None],
) -> None:
    """Write a conversation, over the one that the folder may hold.

    Args:
        states: memories by what they are; None for none.

    Raises:
        ConversationError: it cannot be written there.
    """
    whole: dict[str, Any] = {"format": FORMAT, "memories": {}}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        whole["messages"] = [{"role": m.role, "parts": [_written(p, folder) for p in m.parts]} for m in messages]
        whole["examples"] = [{"picture": _written(e.picture, folder), "text": e.text} for e in examples]
        for what, state in states.items():
            if state is not None:
                whole["memories"][what] = f"memory-{state.name}.safetensors"
                state.save(folder / whole["memories"][what])
        _replace(folder / FILE, json.dumps(whole, ensure_ascii=False, indent=1).encode())
        for old in folder.glob("memory-*.safetensors"):
            if old.name not in whole["memories"].values():
                old.unlink()
    except OSError as error:
        raise ConversationError(
            expected="a folder that can be written", got=f"{folder}: {error.strerror}", remedy="name another one"
        ) from error


def read_folder(folder: Path, model: Remembers) -> tuple[list[Message], list[Example], dict[str, MemoryState]]:
    """What `write_folder` wrote; pictures are opened where they are read.

    Raises:
        ConversationError: it holds no conversation.
        CheckpointError: its memory is damaged, or of other weights.
    """
    try:
        whole = json.loads((folder / FILE).read_bytes())
        if whole["format"] != FORMAT:
            raise ValueError(f"its format is {whole['format']!r}")
        messages = [
            Message(role=said["role"], parts=tuple(_read(part, folder) for part in said["parts"]))
            for said in whole["messages"]
        ]
        examples = [Example(picture=_picture(e["picture"], folder), text=e["text"]) for e in whole["examples"]]
        files = {what: folder / Path(name).name for what, name in whole["memories"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConversationError(
            expected="a folder that Conversation.save wrote",
            got=f"{folder}, whose {FILE} is missing or damaged ({type(error).__name__})",
            remedy="name the folder of a conversation",
        ) from error
    return messages, examples, {what: MemoryState.load(file, model) for what, file in files.items()}


def _written(part: str | Picture | Any, folder: Path) -> dict[str, str]:
    if isinstance(part, str):
        return {"words": part}
    file = folder / "pictures" / f"{part.name}.png"
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        part_file = file.with_name(f"{uuid4().hex}.part")
        part.open().save(part_file, "PNG")
        part_file.replace(file)
    return {"picture": part.name}


def _read(part: dict[str, str], folder: Path) -> str | Picture:
    return part["words"] if "words" in part else _picture(part, folder)


def _picture(part: dict[str, str], folder: Path) -> Picture:
    name = part["picture"]
    return Picture(name=name, open=partial(open_picture, folder / "pictures" / f"{Path(name).name}.png"))


def _replace(file: Path, data: bytes) -> None:
    part = file.with_name(f"{file.name}.part")
    part.write_bytes(data)
    part.replace(file)
