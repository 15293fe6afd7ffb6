"""What a conversation's memory holds, for the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flamingo_app.conversation import recollections
from flamingo_app.conversation.session import read_window
from flamingo_app.conversation.store import Saved
from flamingo_app.errors import FlamingoError
from flamingo_app.interfaces.service import Service

MOST_SHOWN = 200


def remembering(service: Service, saved: Saved, shares: Mapping[int, float] | None = None) -> dict[str, Any]:
    """The turns that have left the window, in the memory's words.

    Args:
        shares: how much the answer that is looked at took of each turn, from 0 to 1.
    """
    has = service.model.config.memory is not None
    shown: dict[str, Any] = {"has": has, "on": saved.remembers, "forgotten": saved.forgotten, "turns": []}
    if not has or not saved.turns:
        return shown
    try:
        left = read_window(service.model, service.processor, saved.messages, saved.examples).left[saved.forgotten :]
    except FlamingoError:  # the last message is too long, and the page says so
        return shown
    _, state = service.memories.after(service.model, service.processor, left)
    if state is not None:
        shown["turns"] = [
            {
                "turn": told.turn + saved.forgotten,
                "words": told.words,
                "share": None if shares is None else round(shares.get(told.turn, 0.0), 3),
            }
            for told in recollections(service.model, service.processor, state)[-MOST_SHOWN:]
        ]
    return shown


def num_left(service: Service, saved: Saved) -> int:
    """How many turns have left the window."""
    try:
        return len(read_window(service.model, service.processor, saved.messages, saved.examples).left)
    except FlamingoError:
        return saved.forgotten
