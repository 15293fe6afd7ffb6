"""Where an answer ends: with its chunk, where the next shot would begin, or where it goes round in circles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import StoppingCriteria

ROUNDS = 3
"""So many times in a row is a circle, not an answer."""

SHORTEST_CIRCLE = 8
"""Tokens that a circle has at least: fewer may be a number, or a word said thrice."""


@dataclass(frozen=True, kw_only=True)
class Stops:
    """Ends of an answer.

    Args:
        ends: tokens that end it: the end of the chunk, and the mark of a picture, with which the next shot begins.
        lead_in: tokens that stood before the answer; said again inside it, they begin another one.
    """

    ends: tuple[int, ...]
    lead_in: tuple[int, ...] = ()

    def length(self, said: Sequence[int]) -> int:
        """How many of the tokens are the answer; a token that ends it is not."""
        lengths = (self.ended(said[:count]) for count in range(1, len(said) + 1))
        return next((length for length in lengths if length is not None), len(said))

    def ended(self, said: Sequence[int]) -> int | None:
        """How many tokens are the answer, if it ends with the last of these; otherwise None."""
        if said[-1] in self.ends:
            return len(said) - 1
        again = len(self.lead_in)
        if again and len(said) > again and tuple(said[-again:]) == self.lead_in:
            return len(said) - again
        return _before_circle(said)


def _before_circle(said: Sequence[int]) -> int | None:
    """Tokens up to the end of the first round, where the last ones are the same few tokens again and again."""
    for period in range(1, len(said) // ROUNDS + 1):
        rounds = max(ROUNDS, -(-SHORTEST_CIRCLE // period))
        tail = said[-rounds * period :]
        if len(tail) == rounds * period and tail[period:] == tail[:-period]:
            return len(said) - (rounds - 1) * period
    return None


class Stop(StoppingCriteria):
    """Ends each row of `generate` where its answer ends."""

    def __init__(self, stops: Stops, num_given: int) -> None:
        self.stops, self.num_given = stops, num_given

    def __call__(self, input_ids: Int[Tensor, "batch tokens"], scores: Any, **kwargs: Any) -> Any:
        rows: list[list[int]] = input_ids[:, self.num_given :].tolist()
        return torch.tensor([self.stops.ended(row) is not None for row in rows], device=input_ids.device)
