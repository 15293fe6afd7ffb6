"""Things that are in no list: halves of two glyphs, one over the other, in exchanged colours; some 200,000 of them.

Whoever is only ever taught names for the things of the list can learn to tell those apart and nothing else. A thing
that is met once has to be told from the others by what it looks like.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from random import Random

from data.picture_book.world import Object, tones

ORDERS = tuple(permutations(range(3)))
LEAST = 30.0  # between the mean colours of the same half in two orders, as a distance in sRGB


@dataclass(frozen=True, kw_only=True)
class Invented(Object):
    """A thing without a name.

    Args:
        index: of the thing of the list whose upper half it has.
        below: of that whose lower half it has.
        order: which channel of these is its red, green and blue.
    """

    below: int
    order: tuple[int, ...]

    @property
    def tones(self) -> tuple[tuple[float, ...], ...]:
        return tuple(tuple(tones()[part][channel] for channel in self.order) for part in (self.index, self.below))


def invented(count: int, things: Sequence[Object], random: Random, *, related: float = 0.25) -> list[Invented]:
    """So many different ones, made of some things of the list.

    Args:
        related: how often one takes a half, or both, from one before it, and so has to be looked at closely.
    """
    made: list[Invented] = []
    while len(made) < count:
        upper, lower = random.sample(list(things), 2)
        parts = {"index": upper.index, "below": lower.index}
        if made and random.random() < related:
            like = random.choice(made)
            parts |= random.choice(
                ({"index": like.index}, {"below": like.below}, {"index": like.index, "below": like.below})
            )
        thing = Invented(
            emoji=upper.emoji + lower.emoji, name="", plural="", stage="trained", order=random.choice(ORDERS), **parts
        )
        if not any(_look_alike(thing, other) for other in made):
            made.append(thing)
    return made


def _look_alike(one: Invented, other: Invented) -> bool:
    """Whether nobody could tell them apart: the same halves, and exchanging their colours changes little."""
    pairs = zip(one.tones, other.tones, strict=True)
    return (one.index, one.below) == (other.index, other.below) and all(math.dist(*tones) < LEAST for tones in pairs)
