"""What the page's buttons do to a chat. Each yields views: what changed on the page, top to bottom."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from typing import Any, NamedTuple, cast

import gradio as gr

from flamingo_app.conversation import reply
from flamingo_app.errors import FlamingoError
from flamingo_app.interfaces.web.chat import Chat, Draft
from flamingo_app.interfaces.web.composer import read_draft, show_draft
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.processing import FlamingoProcessor

logger = logging.getLogger(__name__)

RETRY_TEMPERATURE = 0.7
"""A first answer is the likeliest one; asking again draws another, or it would be the same."""


KEEP: Any = cast(Any, gr).skip()
"""A part of the page stays as it is."""


class View(NamedTuple):
    """New values for the parts of the page."""

    bubbles: Any = KEEP
    notice: Any = KEEP
    draft: Any = KEEP
    stop: Any = KEEP


@dataclass(frozen=True, kw_only=True)
class Answering:
    """A model, and what is done with it when somebody clicks."""

    model: FlamingoForConditionalGeneration
    processor: FlamingoProcessor

    def send(self, chat: Chat, payload: Any) -> Iterator[View]:
        """Answer a new message; what cannot be answered stays in the box, with a line that says why."""
        yield from _to_the_end(self._answer(chat, lambda: read_draft(payload), temperature=0.0))

    def retry(self, chat: Chat) -> Iterator[View]:
        """Answer the last message again, in other words."""
        if chat.turns:
            yield from _to_the_end(self._answer(chat, chat.take_back, temperature=RETRY_TEMPERATURE))

    def undo(self, chat: Chat) -> View:
        """Take the last turn back; what the user wrote returns to the box, to be changed."""
        if not chat.turns:
            return View()
        draft = show_draft(chat.take_back())
        return View(bubbles=chat.bubbles(), notice="", draft=draft)

    def clear(self, chat: Chat) -> View:
        """Begin anew."""
        chat.turns.clear()
        return View(bubbles=[], notice="", draft=[])

    def _answer(self, chat: Chat, take: Callable[[], Draft], *, temperature: float) -> Iterator[View]:
        chat.stop.clear()
        draft = take()
        words = reply(self.model, self.processor, chat.messages(draft), stop=chat.stop, temperature=temperature)
        forgotten = f"The first {words.num_left_out} messages no longer fit: the model does not see them any more."
        notice = _line(forgotten) if words.num_left_out else ""
        yield View(notice=notice, draft=[], stop=gr.update(visible=True))
        for _ in chat.hear(draft, words):
            yield View(bubbles=chat.bubbles())


def _to_the_end(views: Iterator[View]) -> Iterator[View]:
    """The views of an answer, then the end of it; every failure becomes a line on the page."""
    notice = KEEP
    try:
        yield from views
    except FlamingoError as error:
        notice = _line(str(error))
    except Exception:  # the page must not be left waiting, whatever happened
        logger.exception("an answer failed")
        notice = _line("The answer failed through a fault of ours; the server's log says more. Retry, or undo.")
    yield View(notice=notice, stop=gr.update(visible=False))


def _line(words: str) -> str:
    return f"<p role='alert'>{escape(words)}</p>"
