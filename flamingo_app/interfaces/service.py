"""What page and API share: a model, its kept caches, the conversations, and a queue in front of it all."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from flamingo_app.conversation import Example, Memories, Message, Prefixes, Reply, Settings, reply
from flamingo_app.conversation.store import Store
from flamingo_app.conversation.store.records import Status
from flamingo_app.interfaces.desk import Desk, Ticket
from flamingo_app.interfaces.metrics import Metrics
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.processing import FlamingoProcessor


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request may bring.

    Args:
        picture_bytes: the largest picture file.
        request_bytes: the largest request.
        pictures: pictures in one request.
        new_tokens: the longest answer.
    """

    picture_bytes: int = 20 * 2**20
    request_bytes: int = 64 * 2**20
    pictures: int = 64
    new_tokens: int = 1024


@dataclass(kw_only=True)
class Service:
    """A model that answers many.

    Args:
        name: what the user called the model: "starter", a preset, or a folder.
        store: where conversations are kept.
        desk: the queue; `metrics` count what happens at it.
        prefixes: kept caches of what was read.
        memories: kept states of what has left the window.
    """

    model: FlamingoForConditionalGeneration
    processor: FlamingoProcessor
    name: str
    store: Store
    desk: Desk = field(default_factory=Desk)
    limits: Limits = field(default_factory=Limits)
    prefixes: Prefixes = field(default_factory=Prefixes)
    memories: Memories = field(default_factory=Memories)
    metrics: Metrics = field(init=False)

    def __post_init__(self) -> None:
        self.metrics = Metrics(lambda: self.desk.num_waiting)

    @property
    def model_id(self) -> str:
        """What programs call the model."""
        return Path(self.name).name

    def reply(
        self,
        messages: Sequence[Message],
        *,
        examples: Sequence[Example] = (),
        settings: Settings,
        stop: threading.Event,
    ) -> Reply:
        """An answer that has not begun; see `flamingo_app.conversation.reply`."""
        return reply(
            self.model,
            self.processor,
            messages,
            examples=examples,
            prefixes=self.prefixes,
            memories=self.memories,
            stop=stop,
            settings=settings,
        )

    def hear(self, answer: Reply, ticket: Ticket, *, stop: threading.Event) -> Iterator[str]:
        """Wait for a seat, then give the words of an answer; leaving early stops it."""
        started, first = time.perf_counter(), None
        try:
            ticket.wait(stop=stop)
            for piece in answer:
                if first is None:
                    first = time.perf_counter()
                    self.metrics.first_token.observe(first - started)
                yield piece
        finally:
            cast(Any, answer.words).close()
            self._count(answer, first)

    def _count(self, answer: Reply, first: float | None) -> None:
        self.metrics.answers.labels(finish=answer.finish or "none").inc()
        self.metrics.tokens.labels(kind="prompt").inc(answer.num_read)
        self.metrics.tokens.labels(kind="prompt_known").inc(answer.num_known)
        self.metrics.tokens.labels(kind="answer").inc(len(answer.said))
        if first is not None and len(answer.said) > 1:
            self.metrics.rate.observe((len(answer.said) - 1) / max(time.perf_counter() - first, 1e-9))


def status_of(answer: Reply) -> Status:
    """How an answer ended, as it is kept."""
    match answer.finish:
        case "stop":
            return "whole"
        case "length":
            return "length"
        case _:
            return "stopped"
