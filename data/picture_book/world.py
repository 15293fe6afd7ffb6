"""What there is in the picture book: objects with their names, and the colours of its pages."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
ATLAS_FILE = HERE / "glyphs.png"
ATLAS_COLUMNS = 16
CELL = 72  # pixels of a glyph's square in the atlas
LEAST_CONTRAST = 60.0  # between the mean colour of a glyph and the page, as a distance in sRGB

Stage = Literal["trained", "heldout"]


@dataclass(frozen=True, kw_only=True)
class Object:
    """One thing: its place in the atlas, its glyph, its names, and whether any training stage may see it."""

    index: int
    emoji: str
    name: str
    plural: str
    stage: Stage

    @property
    def tones(self) -> tuple[tuple[float, ...], ...]:
        """The mean colour of each of its parts (sRGB, 0 to 255), weighted by their opacity."""
        return (tones()[self.index],)


def _read_objects() -> tuple[Object, ...]:
    with (HERE / "objects.tsv").open(encoding="utf-8", newline="") as file:
        return tuple(Object(index=i, **cast(Any, row)) for i, row in enumerate(csv.DictReader(file, delimiter="\t")))


OBJECTS = _read_objects()

# Names of page colours; the first of a name's shades is its middle, the renderer draws around them (sRGB, 0 to 255).
COLOURS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "white": ((252, 252, 252), (245, 245, 240)),
    "black": ((12, 12, 14), (28, 28, 30)),
    "gray": ((128, 128, 128), (160, 160, 162), (105, 108, 110)),
    "red": ((205, 40, 40), (230, 60, 55), (170, 25, 30)),
    "orange": ((245, 140, 40), (240, 125, 20), (250, 160, 70)),
    "yellow": ((250, 220, 60), (245, 225, 100), (235, 205, 30)),
    "green": ((60, 160, 75), (110, 190, 110), (30, 120, 55)),
    "blue": ((50, 100, 210), (110, 160, 235), (30, 60, 160)),
    "purple": ((130, 70, 180), (165, 110, 210), (95, 45, 140)),
    "pink": ((245, 160, 195), (250, 185, 210), (240, 120, 170)),
    "brown": ((125, 80, 45), (150, 105, 70), (95, 60, 35)),
}


@cache
def tones() -> tuple[tuple[float, float, float], ...]:
    """The mean colour of each glyph (sRGB, 0 to 255), weighted by its opacity."""
    atlas = np.asarray(Image.open(ATLAS_FILE).convert("RGBA"), dtype=float)
    cells = (
        atlas[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL].reshape(-1, 4)
        for row, column in (divmod(index, ATLAS_COLUMNS) for index in range(len(OBJECTS)))
    )
    return tuple(tuple((cell[:, :3] * cell[:, 3:]).sum(0) / cell[:, 3].sum()) for cell in cells)


@lru_cache(2**14)  # all things of the list on all colours; of invented ones there is no end
def hides(colour: str, thing: Object) -> bool:
    """Whether a page of this colour would swallow the object: a yellow star on yellow."""
    return any(math.dist(shade, tone) < LEAST_CONTRAST for shade in COLOURS[colour] for tone in thing.tones)


def objects(stage: Stage) -> tuple[Object, ...]:
    """The objects of one stage; training sees "trained" alone."""
    return tuple(thing for thing in OBJECTS if thing.stage == stage)
