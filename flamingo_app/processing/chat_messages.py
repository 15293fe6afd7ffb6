"""Hugging Face's chat messages to turns and pictures.

A message is `{"role": "user" | "assistant", "content": ...}`, its content words, or a list of
`{"type": "text", "text": words}` and `{"type": "image", "image" | "path": picture}`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flamingo_app.errors import PromptError
from flamingo_app.images import Source
from flamingo_app.prompt import Mark, Piece, Prompt, Turn, chat_prompt, refuse_special_tokens, spell_turn


def read_chat(messages: Sequence[Mapping[str, Any]]) -> tuple[list[Turn], list[Source]]:
    """Turns of a chat, and the pictures that came with it, in order.

    A part `{"type": "image"}` alone keeps a place for a picture that is given elsewhere.

    Raises:
        PromptError: for another shape, or a special token typed into the words.
    """
    turns: list[Turn] = []
    pictures: list[Source] = []
    for message in messages:
        role, content = message.get("role"), message.get("content")
        if role not in ("user", "assistant"):
            raise PromptError(
                expected="a message of the user or the assistant", got=f"role {role!r}", remedy="leave it out"
            )
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
        turns.append(Turn(role=role, pieces=tuple(_read_part(part) for part in parts)))
        pictures += [part[key] for part in parts if part["type"] == "image" for key in ("image", "path") if key in part]
    return turns, pictures


def _read_part(part: Mapping[str, Any]) -> Piece:
    match part:
        case {"type": "image"}:
            return Mark.IMAGE
        case {"type": "text", "text": str(words)}:
            refuse_special_tokens(words)
            return words
        case _:
            raise PromptError(
                expected='{"type": "text", "text": words} or {"type": "image", "image": picture}',
                got=repr(part)[:80],
                remedy="write the message's content as a list of these",
            )


def spell_chat(turns: Sequence[Turn], *, reply: bool, open_end: bool) -> Prompt:
    """Spell a chat, up to where the assistant `reply` begins, or leaving the end of the last turn open."""
    if reply:
        return chat_prompt(turns)
    prompt = tuple(piece for turn in turns for piece in spell_turn(turn))
    return prompt[:-1] if open_end else prompt
