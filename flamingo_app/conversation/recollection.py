"""The turns that have left the window, written into the memory one after another."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import sha256
from itertools import accumulate
from typing import Any, TypeVar

import torch
from PIL import Image

from flamingo_app.conversation.messages import Message, Picture
from flamingo_app.conversation.prefixes import Script
from flamingo_app.errors import PictureError
from flamingo_app.memory.state import MemoryState
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.model.gated_cross_attention import MemoryView
from flamingo_app.processing import FlamingoProcessor

logger = logging.getLogger(__name__)
Value = TypeVar("Value")
BEGINNING = "0" * 64
"""The name of the memory in which nothing is written."""


@dataclass(frozen=True, kw_only=True)
class TurnScript:
    """A whole turn as the model reads it: tokens with the names of pictures in their places, and the pictures."""

    script: Script
    pictures: tuple[Picture, ...]

    @cached_property
    def name(self) -> str:
        """The same for the same turn, another for another."""
        return _named(self.script)


@lru_cache(maxsize=2**13)  # a server makes the turns of a chat anew at every turn of it
def _named(script: Script) -> str:
    return sha256(repr(script).encode()).hexdigest()


def by_turns(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """Messages cut into turns, each from what the user says to the answer's end."""
    turn: list[Message] = []
    for message in messages:
        if message.role == "user" and turn:
            yield turn
            turn = []
        turn.append(message)
    if turn:
        yield turn


class Memories:
    """Memory states of conversations, each under the name of all turns that were written into it.

    A state follows from the turns alone: each is read by itself and written after the one before it. One that is not
    kept any more is made again from the last that is, and is the same to the bit. Safe to use from many threads. How
    much room one takes, the model's config alone says (`num_turns`, `num_latents`), not how much was written. Names do
    not tell models apart: keep one of these for each.

    Args:
        max_number: how many states are kept; the least recently used go first.
        max_views: how many of them as the model reads them, which takes some times the room: a memory changes only when
            turns leave the window, so most turns read what the one before them read.
    """

    def __init__(self, *, max_number: int = 64, max_views: int = 4) -> None:
        self.max_number, self.max_views = max_number, max_views
        self._kept: OrderedDict[str, MemoryState] = OrderedDict()
        self._views: OrderedDict[str, MemoryView] = OrderedDict()
        self._lost: set[str] = set()  # names of turns that show what could not be opened
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, name: str, state: MemoryState) -> None:
        """Know a state by the name that `after` gave it."""
        with self._lock:
            _put(self._kept, name, state, self.max_number)

    @torch.no_grad()
    def view(self, model: FlamingoForConditionalGeneration, name: str, state: MemoryState) -> MemoryView:
        """A state that `after` gave with this name, as `forward` takes it."""
        with self._lock:
            view = self._views.get(name)
        view = view or model.view_memory(state.slots)
        with self._lock:
            _put(self._views, name, view, self.max_views)
        return view

    def after(
        self,
        model: FlamingoForConditionalGeneration,
        processor: FlamingoProcessor,
        turns: Sequence[TurnScript],
        before: MemoryState | None = None,
    ) -> tuple[str, MemoryState | None]:
        """The name and the state of the memory after these turns; "" and None without any, or without a memory.

        Args:
            before: what was remembered already when they were said.
        """
        if (not turns and before is None) or model.config.memory is None:
            return "", None
        turns = [self._as_found(turn) for turn in turns]
        names = _names(turns, before)
        written, state = self._longest(names)
        state = state or before or MemoryState.empty(model)
        for number, turn in enumerate(turns[written:], written):
            try:
                state = write(model, processor, state, turn)
            except PictureError as error:
                logger.warning("A picture was lost, and is remembered as a grey page: %s", error)
                self._lost.add(turn.name)
                if number:
                    self.keep(names[number], state)
                return self.after(model, processor, turns, before)
        self.keep(names[-1], state)
        return names[-1], state

    def _as_found(self, turn: TurnScript) -> TurnScript:
        """A turn that was seen to show a lost picture, as it can be read now: under another name, while that is so."""
        if turn.name not in self._lost:
            return turn
        script, pictures = without_lost(turn.script, turn.pictures)
        return TurnScript(script=script, pictures=pictures)

    def _longest(self, names: Sequence[str]) -> tuple[int, MemoryState | None]:
        with self._lock:
            for number in range(len(names) - 1, 0, -1):
                if names[number] in self._kept:
                    return number, self._kept[names[number]]
        return 0, None


def name_after(turns: Sequence[TurnScript], before: MemoryState | None = None) -> str:
    """The name that `Memories.after` gives to the memory after these turns."""
    return _names(turns, before)[-1]


def _names(turns: Sequence[TurnScript], before: MemoryState | None) -> list[str]:
    """Of the memory before these turns, and after each of them."""
    beginning = BEGINNING if before is None else before.name
    return list(accumulate((turn.name for turn in turns), _chained, initial=beginning))


def _put(kept: OrderedDict[str, Value], name: str, value: Value, most: int) -> None:
    kept[name] = value
    kept.move_to_end(name)
    while len(kept) > most:
        kept.popitem(last=False)


@lru_cache(maxsize=2**14)  # a long chat is named at every turn of it
def _chained(before: str, turn: str) -> str:
    return sha256(f"{before} {turn}".encode()).hexdigest()


@torch.no_grad()
def write(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor, state: MemoryState, turn: TurnScript
) -> MemoryState:
    """The memory with one turn more; a turn longer than the model reads is cut at its end."""
    inputs = script_inputs(model, processor, turn.script[: model.config.max_positions], turn.pictures)
    return MemoryState(slots=model.write_turn(state.slots, **inputs), fingerprint=state.fingerprint)


def without_lost(script: Script, pictures: Sequence[Picture]) -> tuple[Script, tuple[Picture, ...]]:
    """A script and its pictures with a grey page in place of each that cannot be opened any more.

    A conversation goes on without what nobody has.
    """
    found = tuple(picture if _opens(picture) else Picture(name="lost", open=_grey) for picture in pictures)
    names = iter([picture.name for picture in found])
    return tuple(next(names, token) if isinstance(token, str) else token for token in script), found


def _opens(picture: Picture) -> bool:
    try:
        picture.open()
    except PictureError:
        return False
    return True


def _grey() -> Image.Image:
    return Image.new("RGB", (64, 64), (128, 128, 128))


@dataclass(frozen=True, kw_only=True)
class Recollection:
    """What the memory says of one turn.

    Args:
        turn: which, counted from 1 over what was written.
        words: its first words, as far as they can still be told.
    """

    turn: int
    words: str


@torch.no_grad()
def recollections(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor, state: MemoryState
) -> list[Recollection]:
    """The memory in words, turn by turn; or place by place, where every turn rewrites all of them."""
    ids = model.recall(state.slots).argmax(dim=-1).tolist()
    held = sorted(turn for turn in state.slots.turns[0].tolist() if turn)
    said: list[Recollection] = []
    for turn, tokens in zip(held, ids, strict=True):
        end = model.config.end_of_chunk_token_id
        whole = tokens[: tokens.index(end)] if end in tokens else tokens
        words = processor.tokenizer.decode(whole, skip_special_tokens=True)
        said.append(Recollection(turn=turn, words=" ".join(words.split())))
    return said


def script_inputs(
    model: FlamingoForConditionalGeneration,
    processor: FlamingoProcessor,
    script: Script,
    pictures: Sequence[Picture],
    num_known: int = 0,
) -> dict[str, Any]:
    """What `forward` takes of a script: what is new after the first `num_known` tokens, and the mask of the whole."""
    image = model.config.image_token_id
    ids = [image if isinstance(token, str) else token for token in script]
    known, new = ids[:num_known].count(image), ids[num_known:].count(image)
    inputs: dict[str, Any] = {
        "input_ids": torch.tensor([ids[num_known:]]),
        "attention_mask": torch.ones(1, len(ids), dtype=torch.long),
    }
    if new:
        opened = [picture.open() for picture in pictures[known : known + new]]
        inputs["pixel_values"], inputs["image_mask"] = processor.image_processor.rows([opened])
    return {name: value.to(model.device) for name, value in inputs.items()}
