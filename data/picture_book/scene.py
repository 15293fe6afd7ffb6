"""One page of the picture book: what stands where, on which background. A `Scene` is a value: it can be drawn again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from data.picture_book.world import COLOURS, Object, hides

Kind = Literal["one", "group", "pair", "mixed", "empty", "photo"]
Style = Literal["plain", "gradient", "grain", "photo"]
PAPERS: tuple[Style, ...] = ("plain", "gradient", "grain")
GAP = 1.04  # two objects keep this multiple of their mean size apart, on at least one axis
GROUP_SIZES = (0.17, 0.34)  # the same whatever the count, so that size never gives the count away
MIXED_SIZES = (0.15, 0.25)  # five must fit


@dataclass(frozen=True, kw_only=True)
class Placed:
    """An object on the page: centre (0 to 1, from the top left), size (of the page's side), angle in degrees."""

    thing: Object
    x: float
    y: float
    size: float
    angle: float
    mirrored: bool = False


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A page: its objects from back to front, and its background.

    `shape` is the visible part of the square (width, height); what is outside is black, as a letterboxed picture is.
    `shades` are two sRGB colours of the background; `seed` places its grain.
    """

    objects: tuple[Placed, ...]
    colour: str
    shades: tuple[tuple[int, int, int], tuple[int, int, int]]
    style: Style
    shape: tuple[float, float]
    seed: int

    @property
    def counts(self) -> dict[Object, int]:
        """How many of each object, in the order of placing."""
        return dict(Counter(placed.thing for placed in self.objects))


def random_scene(kind: Kind, things: Sequence[Object], random: Random, *, colour: str | None = None) -> Scene:
    """Draw a page of one kind.

    Args:
        kind: "one" object of any size; a "group" of 1 to 4 alike; a "pair" of two different objects; "mixed" pages of
            two or three kinds, up to 5 objects; an "empty" page; or a texture that looks like no page at all ("photo").
        things: what may stand there.
        random: the only source of chance.
        colour: the background's, or any that hides nothing.
    """
    shape = random.choices([(1.0, 1.0), (1.0, random.uniform(0.5, 0.95)), (random.uniform(0.5, 0.95), 1.0)], (6, 2, 2))[
        0
    ]
    chosen, sizes = _cast(kind, things, random)
    if colour is None:
        colour = random.choice(
            [c for c in (*COLOURS, "white", "white") if not any(hides(c, thing) for thing in chosen)]
        )
    while (objects := _place(chosen, sizes, shape, random, relation=kind == "pair")) is None:
        shape = (1.0, 1.0)  # the page grows, never do the objects shrink: their size would tell their number
    return Scene(
        objects=objects,
        colour=colour,
        shades=(random.choice(COLOURS[colour]), random.choice(COLOURS[colour])),
        style="photo" if kind == "photo" else random.choices(PAPERS, (6, 2, 2))[0],
        shape=shape,
        seed=random.getrandbits(32),
    )


def _cast(kind: Kind, things: Sequence[Object], random: Random) -> tuple[list[Object], list[float]]:
    """Who stands on the page, and how large each is."""
    if kind in ("empty", "photo"):
        return [], []
    if kind == "one":
        return [random.choice(things)], [random.uniform(0.3, 0.98)]
    if kind == "group":
        chosen, (least, most) = [random.choice(things)] * random.randint(1, 4), GROUP_SIZES
    elif kind == "pair":
        return random.sample(list(things), 2), [random.uniform(0.26, 0.46) for _ in range(2)]
    else:
        kinds = random.sample(list(things), random.choice([2, 2, 3]))
        chosen = [*kinds, *random.choices(kinds, k=random.randint(0, 5 - len(kinds)))]
        random.shuffle(chosen)
        least, most = MIXED_SIZES
    base = random.uniform(least, most)
    return chosen, [min(most, base * random.uniform(0.85, 1.2)) for _ in chosen]


def _place(
    chosen: Sequence[Object], sizes: Sequence[float], shape: tuple[float, float], random: Random, *, relation: bool
) -> tuple[Placed, ...] | None:
    """Put the objects down without touching, by rejection; None where they found no room."""
    low = ((1 - shape[0]) / 2, (1 - shape[1]) / 2)
    for _ in range(60):
        placed: list[Placed] = []
        for thing, wanted in zip(chosen, sizes, strict=True):
            size = min(wanted, 0.98 * min(shape))
            x, y = (random.uniform(low[i] + size / 2, 1 - low[i] - size / 2) for i in range(2))
            if any(max(abs(x - o.x), abs(y - o.y)) < GAP * (size + o.size) / 2 for o in placed):
                break
            angle = random.gauss(0, 12) if random.random() < 0.8 else 0.0
            placed.append(Placed(thing=thing, x=x, y=y, size=size, angle=angle, mirrored=random.random() < 0.15))
        if len(placed) == len(chosen) and not (relation and side(placed[0], placed[1]) is None):
            return tuple(placed)
    return None


def side(first: Placed, second: Placed) -> Literal["left", "right", "above", "below"] | None:
    """Where the first stands as seen from the second, or None where a person would hesitate."""
    dx, dy = first.x - second.x, first.y - second.y
    if abs(dx) > 1.6 * abs(dy):
        return "left" if dx < 0 else "right"
    if abs(dy) > 1.6 * abs(dx):
        return "above" if dy < 0 else "below"
    return None
