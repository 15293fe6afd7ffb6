"""The one place that spells a prompt, for training and for use.

A prompt is a tuple of pieces: words, and two marks.

    caption shots    <image> a dog.<|endofchunk|><image> two cats.<|endofchunk|><image>
    a chat           user:<image> what is this?\\nassistant: a dog.<|endofchunk|>user: ...

Words are tokenised piece by piece and never parsed for special tokens, so nothing that a user types can become one;
and because both sides spell through this module, training and use cut the text at the same places.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, Protocol, runtime_checkable

from flamingo_app.errors import PromptError

IMAGE_TOKEN = "<image>"
END_OF_CHUNK_TOKEN = "<|endofchunk|>"


class Mark(Enum):
    """A place in a prompt that is one special token, not words."""

    IMAGE = IMAGE_TOKEN
    END_OF_CHUNK = END_OF_CHUNK_TOKEN


Piece = str | Mark
Prompt = tuple[Piece, ...]
Role = Literal["user", "assistant"]


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One turn of a chat: who speaks, and the words and pictures in their order."""

    role: Role
    pieces: Prompt


@runtime_checkable
class Tokenizer(Protocol):
    """What spelling needs of a Hugging Face tokenizer."""

    def encode(self, text: str, *, add_special_tokens: bool, split_special_tokens: bool) -> list[int]: ...
    def convert_tokens_to_ids(self, tokens: str) -> Any: ...  # an int; for a list, a list


def caption_prompt(shots: Iterable[str] = (), *, lead_in: str = "", pictured: bool = True) -> Prompt:
    """Spell captioned shots, then the picture to be captioned (Alayrac et al. 2022, section 2.1 and appendix A.2).

    Args:
        shots: the captions of the pictures shown first, in order.
        lead_in: words that the caption must begin with.
        pictured: whether the shots' pictures are shown; otherwise their captions stand alone.
    """
    return (*shots_prompt(shots, pictured=pictured), Mark.IMAGE, *said(lead_in))


def shots_prompt(shots: Iterable[str], *, pictured: bool = True) -> Prompt:
    """What stands before the picture in `caption_prompt`: the same before every picture that has the same shots."""
    opening = (Mark.IMAGE,) if pictured else ()
    return tuple(piece for text in shots for piece in (*opening, *spell_answer(text)))


def spell_answer(text: str) -> Prompt:
    """A whole caption or label, with the mark that ends it."""
    return (*said(text), Mark.END_OF_CHUNK)


def chat_prompt(turns: Sequence[Turn]) -> Prompt:
    """Spell a chat whose last turn is the user's, up to the words the assistant is to go on with."""
    pieces: list[Piece] = []
    for turn in turns:
        pieces += spell_turn(turn)
    return (*pieces, "assistant:")


def spell_turn(turn: Turn) -> Prompt:
    """Spell one whole turn: a user's ends at the line, an assistant's at the end of the chunk."""
    end: Piece = "\n" if turn.role == "user" else Mark.END_OF_CHUNK
    return (f"{turn.role}:", *(word for piece in turn.pieces for word in said(piece)), end)


def said(piece: Piece) -> Prompt:
    """A piece as it stands inside a prompt: words are trimmed and follow one space; empty words vanish."""
    if isinstance(piece, Mark):
        return (piece,)
    words = piece.strip()
    return (f" {words}",) if words else ()


def refuse_special_tokens(text: str) -> None:
    """Raise `PromptError` where somebody typed the spelling of a special token."""
    for mark in Mark:
        if mark.value in text:
            raise PromptError(
                expected="plain words",
                got=f"the literal {mark.value} in the text",
                remedy="take it out: pictures are given as files, and go where you put them",
            )


def refuse_unreadable(text: str) -> None:
    """Raise `PromptError` for a text that is none: no tokenizer reads half of a character."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise PromptError(expected="words", got="half of a character (a lone surrogate)", remedy="take it out")


def encode(prompt: Prompt, tokenizer: Tokenizer) -> list[int]:
    """Token ids of a prompt; only a `Mark` becomes a special token.

    A tokenizer with a `beside_image_token` has that on both sides of every picture, as Idefics' models read them.
    """
    beside: int | None = getattr(tokenizer, "beside_image_token_id", None)
    ids: list[int] = []
    for piece in prompt:
        if isinstance(piece, Mark):
            around = [beside] if piece is Mark.IMAGE and beside is not None else []
            ids += [*around, tokenizer.convert_tokens_to_ids(piece.value), *around]
        else:
            ids += tokenizer.encode(piece, add_special_tokens=False, split_special_tokens=True)
    return ids


def num_images(prompt: Prompt) -> int:
    """How many pictures a prompt has places for."""
    return sum(piece is Mark.IMAGE for piece in prompt)
