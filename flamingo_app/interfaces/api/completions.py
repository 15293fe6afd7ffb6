"""A chat's answers, whole or as a stream of events."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal
from uuid import uuid4

from flamingo_app.conversation import Message, Reply, Settings
from flamingo_app.interfaces.api.schema import (
    Choice,
    Chunk,
    ChunkChoice,
    Completion,
    Delta,
    Likely,
    LogProbabilities,
    PromptDetails,
    Said,
    SaidToken,
    Usage,
)
from flamingo_app.interfaces.desk import Ticket
from flamingo_app.interfaces.service import Service
from flamingo_app.model.streaming import Token

LEAST = -9999.0
"""A log-probability of minus infinity, which JSON has no number for."""


@dataclass(kw_only=True)
class Answers:
    """The answers to one request, not begun yet.

    Args:
        messages: the chat.
        number: how many answers.
        keep: keeps an answer's words before the last of them is acknowledged.
        first: the first answer; making it has checked the request.
    """

    service: Service
    messages: Sequence[Message]
    settings: Settings
    number: int
    ticket: Ticket
    stop: threading.Event
    conversation: str | None
    keep: Callable[[str, Reply], None]
    first: Reply

    def __post_init__(self) -> None:
        self.id = f"chatcmpl-{uuid4().hex}"
        self.created = int(time.time())
        self.replies: list[Reply] = []

    def whole(self) -> Completion:
        """All answers at once."""
        with self.ticket:
            choices = [self._choice(index) for index in range(self.number)]
        return Completion(
            id=self.id,
            created=self.created,
            model=self.service.model_id,
            conversation=self.conversation,
            choices=choices,
            usage=self._usage(),
        )

    def events(self, *, include_usage: bool) -> Iterator[str]:
        """Server-sent events; a comment tells the place in the queue."""
        with self.ticket:
            for index in range(self.number):
                yield from self._stream(index)
            if include_usage:
                yield _event(self._chunk([], usage=self._usage()))
            yield "data: [DONE]\n\n"

    def _reply(self, index: int) -> Reply:
        seed = self.settings.seed
        settings = replace(self.settings, seed=None if seed is None else (seed + index) % 2**63)
        answer = self.first if index == 0 else self.service.reply(self.messages, settings=settings, stop=self.stop)
        self.replies.append(answer)
        return answer

    def _choice(self, index: int) -> Choice:
        answer = self._reply(index)
        words = "".join(self.service.hear(answer, self.ticket, stop=self.stop)).strip()
        self.keep(words, answer)
        return Choice(
            index=index,
            message=Said(content=words),
            logprobs=self._log_probabilities(answer.said),
            finish_reason=_finish(answer),
        )

    def _stream(self, index: int) -> Iterator[str]:
        answer = self._reply(index)
        if place := self.ticket.place:
            yield f": {place} before you\n\n"
        yield self._piece(index, Delta(role="assistant", content=""))
        words, told = "", 0
        for piece in self.service.hear(answer, self.ticket, stop=self.stop):
            fresh = piece if words else piece.lstrip()
            words += fresh
            if fresh:
                said, told = answer.said[told:], len(answer.said)
                yield self._piece(index, Delta(content=fresh), self._log_probabilities(said))
        self.keep(words.strip(), answer)
        yield self._piece(index, Delta(), finish=_finish(answer))

    def _piece(
        self,
        index: int,
        delta: Delta,
        logprobs: LogProbabilities | None = None,
        finish: Literal["stop", "length"] | None = None,
    ) -> str:
        return _event(self._chunk([ChunkChoice(index=index, delta=delta, logprobs=logprobs, finish_reason=finish)]))

    def _chunk(self, choices: list[ChunkChoice], *, usage: Usage | None = None) -> Chunk:
        return Chunk(
            id=self.id,
            created=self.created,
            model=self.service.model_id,
            conversation=self.conversation,
            choices=choices,
            usage=usage,
        )

    def _usage(self) -> Usage:
        read, said = self.first.num_read, sum(len(answer.said) for answer in self.replies)
        details = PromptDetails(cached_tokens=self.first.num_known)
        return Usage(
            prompt_tokens=read, completion_tokens=said, total_tokens=read + said, prompt_tokens_details=details
        )

    def _log_probabilities(self, said: Sequence[Token]) -> LogProbabilities | None:
        if self.settings.num_likeliest is None:
            return None
        return LogProbabilities(
            content=[
                SaidToken(
                    **self._likely(token.id, token.log_probability or 0.0).model_dump(),
                    top_logprobs=[self._likely(*likely) for likely in token.likeliest],
                )
                for token in said
            ]
        )

    def _likely(self, token: int, log_probability: float) -> Likely:
        words: str = self.service.processor.tokenizer.decode([token])
        return Likely(token=words, logprob=max(log_probability, LEAST), bytes=list(words.encode()))


def _finish(answer: Reply) -> Literal["stop", "length"]:
    return "length" if answer.finish == "length" else "stop"


def _event(chunk: Chunk) -> str:
    return f"data: {json.dumps(chunk.model_dump(exclude_none=False), ensure_ascii=False)}\n\n"
