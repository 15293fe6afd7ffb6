"""One open page: what was said, and the way to stop what is being said. Nothing here is shared between pages."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from flamingo_app.conversation import Message, Reply
from flamingo_app.interfaces.web.uploads import Picture

Draft = tuple[str | Picture, ...]
"""What the user wrote: words and pictures in their order."""


class Chat:
    """The turns of one page, newest last: what the user wrote, and the answer, None until there is one."""

    def __init__(self) -> None:
        self.turns: list[tuple[Draft, str | None]] = []
        self.stop = threading.Event()

    def __deepcopy__(self, memo: dict[int, Any]) -> Chat:
        """Gradio copies the first value of a state for every page that opens: each starts with a chat of its own."""
        return Chat()

    def messages(self, draft: Draft) -> list[Message]:
        """The chat for the model, with a new message of the user's at its end."""
        messages: list[Message] = []
        for said, answer in self.turns:
            messages.append(_user(said))
            if answer is not None:
                messages.append(Message(role="assistant", parts=(answer,)))
        return [*messages, _user(draft)]

    def bubbles(self) -> list[dict[str, Any]]:
        """The chat for the page, as gradio's Chatbot takes it: HTML, so what was typed is escaped."""
        bubbles: list[dict[str, Any]] = []
        for said, answer in self.turns:
            content = [escape(part) if isinstance(part, str) else {"path": str(part.file)} for part in said]
            bubbles.append({"role": "user", "content": content})
            if answer is not None:
                bubbles.append({"role": "assistant", "content": escape(answer)})
        return bubbles

    def hear(self, draft: Draft, words: Reply) -> Iterator[None]:
        """Add a turn and let its answer grow; yields after every piece. Closing the iterator stops the answer."""
        self.turns.append((draft, None))
        try:
            yield
            answer = ""
            for piece in words:
                answer += piece
                self.turns[-1] = (draft, answer.strip())
                yield
        finally:
            self.stop.set()

    def take_back(self) -> Draft:
        """Remove the last turn and return what the user wrote."""
        return self.turns.pop()[0]


def _user(draft: Sequence[str | Picture]) -> Message:
    return Message(role="user", parts=tuple(part if isinstance(part, str) else part.image for part in draft))
