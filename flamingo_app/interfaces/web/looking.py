"""Which patches each word of an answer looked at, for the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from flamingo_app.conversation import Example, Message, Picture
from flamingo_app.conversation.session import read_window
from flamingo_app.interfaces.service import Service
from flamingo_app.memory.state import MemoryState
from flamingo_app.model.gated_cross_attention import Trace
from flamingo_app.model.looking import look


@torch.no_grad()
def look_at(
    service: Service,
    messages: Sequence[Message],
    answer: str,
    examples: Sequence[Example],
    *,
    gate_scale: float,
    forgotten: int,
    address: Callable[[Picture], str],
) -> tuple[dict[str, Any], dict[int, float]]:
    """What the words of an answer were taken from.

    Args:
        messages: the chat up to the question.
        answer: what was answered.
        forgotten: how many of the first turns the memory leaves out.
        address: where the browser finds a picture.

    Returns:
        The words, the pictures in the window, and for each word a map of each picture, from 0 to 1; and of what the
        whole answer took from the memory the share of each turn that was written.
    """
    model, processor = service.model, service.processor
    window = read_window(model, processor, messages, examples)
    image, asked = model.config.image_token_id, [*window.script]
    words = answer.split()
    spelled = [
        processor.tokenizer.encode(f" {word}", add_special_tokens=False, split_special_tokens=True) for word in words
    ]
    ids = [image if isinstance(token, str) else token for token in asked] + [
        token for word in spelled for token in word
    ]
    ids = ids[: model.config.max_positions]
    read = torch.tensor([ids], device=model.device)
    _, state = service.memories.after(model, processor, window.left[forgotten:])
    trace = Trace()
    memory = None if state is None else model.view_memory(state.slots, trace)

    def shares() -> dict[int, float]:
        return {} if state is None else _shares(trace.taken, state, from_token=len(asked) - 1)

    if not window.pictures:
        if memory is not None:
            model(read, gate_scale=gate_scale, memory=memory)
        return {"words": words, "pictures": [], "maps": [[] for _ in words]}, shares()
    pixels, _ = processor.image_processor.rows([[picture.open() for picture in window.pictures]])
    seen = look(model, read, pixels.to(model.device), gate_scale=gate_scale, memory=memory)
    maps: list[Any] = []
    place = len(asked) - 1  # a token was chosen where the one before it was read
    for word in spelled:
        mean = seen[place : place + len(word)].mean(dim=0) if place < len(ids) - 1 else torch.zeros_like(seen[0])
        maps.append((mean / mean.max().clamp(min=1e-9)).unflatten(-1, (_side(mean), -1)).cpu())
        place += len(word)
    shown = sorted({int(word.amax(dim=(1, 2)).argmax()) for word in maps}) if maps else []
    looked = {
        "words": words,
        "pictures": [address(window.pictures[picture]) for picture in shown],
        "maps": [[_rounded(word[picture]) for picture in shown] for word in maps],
        "fit": processor.image_processor.resize_mode,
    }
    return looked, shares()


def _shares(taken: Sequence[torch.Tensor], state: MemoryState, *, from_token: int) -> dict[int, float]:
    """Of what an answer's tokens took from the memory, the share of each turn."""
    turns = state.slots.turns[0]
    of_slots = torch.stack(list(taken)).sum(dim=0)[0, from_token:].sum(dim=0)[:-1]  # the last holds nothing
    of_places = of_slots.view(len(turns), -1).sum(dim=1)
    shares = of_places / of_places.sum().clamp(min=1e-9)
    return {int(turn): float(shares[turns == turn].sum()) for turn in turns.unique() if turn}


def _side(seen: torch.Tensor) -> int:
    return int(seen.shape[-1] ** 0.5)


def _rounded(grid: torch.Tensor) -> list[list[float]]:
    return [[round(value, 3) for value in row] for row in grid.tolist()]
