"""What the page shows of a conversation."""

from __future__ import annotations

from html import escape
from typing import Any, NamedTuple, cast

import gradio as gr

from flamingo_app.conversation import Picture
from flamingo_app.conversation.session import budget as window_budget
from flamingo_app.conversation.store import Saved, SavedTurn
from flamingo_app.conversation.store.records import title_of
from flamingo_app.errors import FlamingoError
from flamingo_app.interfaces.service import Service
from flamingo_app.interfaces.web.drafts import KEPT
from flamingo_app.prompt import Mark, encode, said

NUM_SIMILAR = 4
"""How many similar examples are chosen where nobody says."""

KEEP: Any = cast(Any, gr).skip()
"""A part of the page stays as it is."""


class View(NamedTuple):
    """New values for the parts of the page."""

    history: Any = KEEP
    notice: Any = KEEP
    draft: Any = KEEP
    stop: Any = KEEP
    shelf: Any = KEEP
    shots: Any = KEEP
    budget: Any = KEEP
    looking: Any = KEEP
    memory: Any = KEEP
    look_panel: Any = KEEP


def line(words: str) -> str:
    """A line for the user."""
    return f"<p role='alert'>{escape(words)}</p>"


def address(identity: str | None, picture: Picture) -> str:
    """Where the browser finds a picture of a conversation."""
    return f"conversations/{identity}/{picture.name}.png"


def bubbles(identity: str | None, turns: tuple[SavedTurn, ...], *, live: bool = False) -> list[dict[str, Any]]:
    """The turns of a conversation; `live` while the last is being answered."""
    return [
        {
            "number": number,
            "said": [
                {"words": part} if isinstance(part, str) else {"picture": address(identity, part)} for part in turn.said
            ],
            "answer": turn.answer,
            "status": turn.status,
            "live": live and number == len(turns) - 1,
        }
        for number, turn in enumerate(turns)
    ]


def shots(service: Service, saved: Saved, sets: list[str]) -> dict[str, Any]:
    """The examples of a conversation, with what each costs of the window."""
    tokenizer = service.processor.tokenizer
    return {
        "shots": [
            {
                "path": f"{KEPT}{example.picture.name}",
                "url": address(saved.id, example.picture),
                "text": example.text,
                "tokens": len(encode((Mark.IMAGE, *said(example.text), Mark.END_OF_CHUNK), tokenizer)),
            }
            for example in saved.examples
        ],
        "sets": sets,
        "pool": saved.pool,
        "number": saved.num_similar or NUM_SIMILAR,
    }


def budget(service: Service, saved: Saved | None) -> str:
    """How much of the window a conversation takes, and what leaves it next."""
    messages = [] if saved is None else saved.messages
    while messages and messages[-1].role != "user":
        messages.pop()
    if saved is None or not messages:
        return _meter(0, 1, "The window is empty.")
    try:
        window = window_budget(service.model, service.processor, messages, saved.examples)
    except FlamingoError as error:
        return _meter(1, 1, str(error))
    pictures = f"{window.pictures} picture{'s' * (window.pictures != 1)}"
    words = f"{window.used} of {window.room} tokens are read, {pictures} among them."
    if window.num_left_out:
        read_on = service.model.config.memory is not None and saved.remembers
        told = "it has them in its memory." if read_on else "the model does not see them any more."
        words += f" The first {window.num_left_out} messages no longer fit: {told}"
    following = title_of(window.next[0].parts)
    words += f" When it is full, the oldest turns leave it first, down to half; next is “{following}”."
    return _meter(window.used, window.room, words)


def _meter(value: int, most: int, words: str) -> str:
    meter = f"<meter min='0' max='{most}' high='{0.8 * most:.0f}' value='{value}' aria-label='Window'></meter>"
    return f"<div class='budget'>{meter}<span>{escape(words)}</span></div>"
