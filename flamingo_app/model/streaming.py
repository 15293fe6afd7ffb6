"""An answer while it is given: tokens as they are found, words as soon as they are whole, and ways to stop.

Sampling has a random generator of its own for each answer: a seed gives the same words again, whoever speaks meanwhile.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedModel, StoppingCriteria, TopPLogitsWarper
from transformers.generation.logits_process import LogitsProcessorList
from transformers.generation.stopping_criteria import StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer


@dataclass(frozen=True, kw_only=True)
class Token:
    """One token of an answer.

    Args:
        id: which one.
        log_probability: of this token; None where nobody asked.
        likeliest: the likeliest tokens and their log-probabilities, as many as were asked for.
    """

    id: int
    log_probability: float | None = None
    likeliest: tuple[tuple[int, float], ...] = ()


COLDEST = 1e-6
"""A temperature below is no number that can be divided by."""


class Stop(StoppingCriteria):
    """Ends the answer once somebody has set the event."""

    def __init__(self, event: threading.Event) -> None:
        self.event = event

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Any:
        return torch.full((len(input_ids),), self.event.is_set(), dtype=torch.bool, device=input_ids.device)


class Draw(LogitsProcessor):
    """Adds Gumbel noise to the log-probabilities: the likeliest of the sums is a draw (the Gumbel-max trick)."""

    def __init__(self, temperature: float, top_p: float = 1.0, seed: int | None = None) -> None:
        self.temperature, self.top_p = max(temperature, COLDEST), TopPLogitsWarper(top_p)
        self.generator = torch.Generator()
        _ = self.generator.seed() if seed is None else self.generator.manual_seed(seed)

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        below = scores.float() - scores.float().max(dim=-1, keepdim=True).values
        kept = self.top_p(input_ids, below / self.temperature)
        noise = -torch.empty(kept.shape).exponential_(generator=self.generator).log()
        return kept + noise.to(kept.device)


class Look(LogitsProcessor):
    """Keeps the log-probabilities that the model gave to the next token, for whoever reads them with it."""

    def __init__(self) -> None:
        self.log_probabilities: Tensor | None = None

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        self.log_probabilities = scores[0].float().log_softmax(dim=-1)
        return scores


class _Hand(BaseStreamer):
    """Hands tokens from the thread that generates to the one that reads; None is the end."""

    def __init__(self, look: Look | None, num_likeliest: int) -> None:
        self.look, self.num_likeliest = look, num_likeliest
        self.tokens: queue.Queue[Token | None] = queue.Queue()
        self.given = False

    def put(self, value: Tensor) -> None:
        if not self.given:  # the library begins with the prompt
            self.given = True
            return
        for identity in value.tolist():
            self.tokens.put(self._token(identity))

    def end(self) -> None:
        self.tokens.put(None)

    def _token(self, identity: int) -> Token:
        if self.look is None or self.look.log_probabilities is None:
            return Token(id=identity)
        known = self.look.log_probabilities
        best = known.topk(min(self.num_likeliest, len(known)))
        likeliest = tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
        return Token(id=identity, log_probability=float(known[identity]), likeliest=likeliest)


Work = tuple[Callable[[], None], threading.Event]


class _Threads:
    """Threads that stay, as many as ever worked at once; none of them holds up the end of the process.

    A thread that computes for the first time starts helpers of its own, one for each core. That takes longer than a
    small model needs for a word.
    """

    def __init__(self) -> None:
        self.forget()
        os.register_at_fork(after_in_child=self.forget)  # a child has none of its parent's threads

    def forget(self) -> None:
        self.idle: queue.SimpleQueue[queue.SimpleQueue[Work]] = queue.SimpleQueue()

    def start(self, work: Callable[[], None]) -> threading.Event:
        """Have some work done, which must not raise; the event is set at its end."""
        done = threading.Event()
        try:
            inbox = self.idle.get_nowait()
        except queue.Empty:
            inbox = queue.SimpleQueue[Work]()
            threading.Thread(target=self._serve, args=(inbox,), daemon=True).start()
        inbox.put((work, done))
        return done

    def _serve(self, inbox: queue.SimpleQueue[Work]) -> None:
        while True:
            work, done = inbox.get()
            work()
            del work  # and all that it holds
            self.idle.put(inbox)
            done.set()


_THREADS = _Threads()


def tokens(
    model: PreTrainedModel,
    inputs: Mapping[str, Any],
    *,
    stop: threading.Event | None = None,
    draw: Draw | None = None,
    num_likeliest: int | None = None,
    **generate_kwargs: Any,
) -> Iterator[Token]:
    """New tokens, each as soon as it is found, the one that ends the answer included.

    Args:
        inputs: one row of `generate`'s tensors, as a processor returns them.
        stop: ends the answer within two tokens of being set; leaving the loop early does the same.
        draw: draws tokens; without it each is the likeliest, unless `generate_kwargs` say otherwise.
        num_likeliest: look at log-probabilities, and name so many of the likeliest tokens.
        generate_kwargs: as for `generate`; beams cannot be streamed.

    Raises:
        FlamingoError: what `generate` raises, raised here.
    """
    abandoned = threading.Event()
    look = None if num_likeliest is None else Look()
    hand = _Hand(look, num_likeliest or 0)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            cast(Any, model).generate(
                **inputs,
                streamer=hand,
                stopping_criteria=StoppingCriteriaList([Stop(event) for event in (stop, abandoned) if event]),
                logits_processor=LogitsProcessorList([each for each in (look, draw) if each]),
                **({"do_sample": False} if draw else {}) | generate_kwargs,
            )
        except BaseException as failure:
            failures.append(failure)
            hand.end()

    done = _THREADS.start(work)
    try:
        yield from iter(hand.tokens.get, None)
    finally:
        abandoned.set()
        done.wait()
    if failures:
        raise failures[0]


class Decoder:
    """Tokens to words, piece by piece: what it returned, joined, is the beginning of the whole text."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.ids: list[int] = []
        self.text = ""

    def add(self, identity: int) -> str:
        """What a token adds to the text; nothing while a character is not whole yet."""
        self.ids.append(identity)
        return self._grow(final=False)

    def end(self) -> str:
        """What is left."""
        return self._grow(final=True)

    def _grow(self, *, final: bool) -> str:
        text: str = self.tokenizer.decode(self.ids, skip_special_tokens=True)
        if not text.startswith(self.text) or (text.endswith("\ufffd") and not final):
            return ""
        grown, self.text = text[len(self.text) :], text
        return grown


class Cutter:
    """Ends a text in front of the first of some strings, and holds back what could be the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops = [stop for stop in stops if stop]
        self.held = ""
        self.cut = False

    def add(self, piece: str) -> str:
        """What of the text is sure to stay, with a piece more."""
        self.held += piece
        places = [place for stop in self.stops if (place := self.held.find(stop)) >= 0]
        if places:
            self.cut = True
            return self._release(min(places))
        most = max(
            (length for stop in self.stops for length in range(1, len(stop)) if self.held.endswith(stop[:length])),
            default=0,
        )
        return self._release(len(self.held) - most)

    def end(self) -> str:
        """What was held back in vain."""
        return "" if self.cut else self._release(len(self.held))

    def _release(self, length: int) -> str:
        released, self.held = self.held[:length], self.held[length:]
        return released


def stream(
    model: PreTrainedModel,
    tokenizer: Any,
    inputs: Mapping[str, Any],
    **settings: Any,
) -> Iterator[str]:
    """The words of `tokens`, in pieces; special tokens are left out."""
    decoder = Decoder(tokenizer)
    given = tokens(model, inputs, **settings)
    try:
        for token in given:
            if piece := decoder.add(token.id):
                yield piece
        if piece := decoder.end():
            yield piece
    finally:
        cast(Any, given).close()
