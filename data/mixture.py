"""Which sample comes when: several sources by their shares, in an order that (seed, epoch, index) alone decides.

Nothing is remembered between two calls, so that whoever begins in the middle sees what somebody saw who came there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np

from data.documents import Source
from data.formats import Reading, open_source
from data.formats.lines import field, read_object
from flamingo_app.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Ingredient:
    """One source of a mixture.

    Args:
        path: as the user gave it.
        source: its samples.
        kept: numbers of those that may be drawn.
        share: how often each is drawn an epoch, on average; 0.5 is every other one, the others in the next epoch.
        loss_weight: what a token of it counts in the loss.
    """

    path: str
    source: Source
    kept: np.ndarray[Any, np.dtype[np.int64]]
    share: float = 1.0
    loss_weight: float = 1.0

    @property
    def drawn(self) -> int:
        """Samples an epoch."""
        return max(1, round(self.share * len(self.kept)))


def open_mixture(path: str, reading: Reading) -> list[Ingredient]:
    """A source alone, or a mixture: a .json file of `{"sources": [{"path", "share", "loss_weight"}, ...]}`.

    Paths in it are relative to the file.

    Raises:
        DataError: a source cannot be opened, or a share or weight is no positive number.
    """
    listed: list[dict[str, Any]] = [{"path": path}]
    where = "after --data"
    file = Path(path)
    if file.suffix == ".json" and file.is_file():
        whole = read_object(file.read_bytes(), path)
        if "sources" in whole:
            where = f"among the sources of {path}"
            listed = [_beside(entry, file.parent, path) for entry in field(whole, "sources", list, path)]
            if not listed:
                raise DataError(expected=f"at least one of the sources of {path}", got="none", remedy="name one")
    return [_ingredient(entry, reading, where) for entry in listed]


def _beside(entry: Any, folder: Path, name: str) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise DataError(
            expected=f'sources of {name} as {{"path": ...}}', got=repr(entry)[:40], remedy="write each like that"
        )
    found: str = field(cast("dict[str, Any]", entry), "path", str, name)
    return entry | {"path": found if ":" in found else str(folder / found)}


def _ingredient(entry: dict[str, Any], reading: Reading, where: str) -> Ingredient:
    share, weight = entry.get("share", 1.0), entry.get("loss_weight", 1.0)
    if not all(isinstance(number, int | float) and number > 0 for number in (share, weight)):
        raise DataError(
            expected=f"share and loss_weight of {entry['path']} above 0", got=f"{share}, {weight}", remedy="correct it"
        )
    source = open_source(entry["path"], reading, where)
    return Ingredient(
        path=entry["path"], source=source, kept=np.arange(len(source)), share=float(share), loss_weight=float(weight)
    )


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a sample stands: ingredient, number in its source, and how often that was drawn before."""

    ingredient: int
    number: int
    turn: int


class Order:
    """The endless sequence of places of a mixture.

    Args:
        ingredients: what is mixed.
        seed: another seed, another order.
    """

    def __init__(self, ingredients: Sequence[Ingredient], seed: int) -> None:
        self.ingredients, self.seed = ingredients, seed
        self.epoch_length = sum(ingredient.drawn for ingredient in ingredients)

    def __getitem__(self, index: int) -> Place:
        """The place at an index counted over all epochs."""
        epoch, within = divmod(index, self.epoch_length)
        ingredient, position = (int(number) for number in self._epoch(epoch)[within])
        kept = self.ingredients[ingredient].kept
        turn, within_turn = divmod(position, len(kept))
        return Place(ingredient=ingredient, number=int(kept[self._turn(ingredient, turn)[within_turn]]), turn=turn)

    @lru_cache(maxsize=2)  # noqa: B019  # an order lives as long as its run
    def _epoch(self, epoch: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """(ingredient, position in its own endless sequence) of every place of an epoch."""
        rows = [
            np.stack([np.full(of.drawn, number), np.arange(epoch * of.drawn, (epoch + 1) * of.drawn)], axis=1)
            for number, of in enumerate(self.ingredients)
        ]
        return np.random.default_rng([self.seed, epoch]).permutation(np.concatenate(rows))

    @lru_cache(maxsize=64)  # noqa: B019
    def _turn(self, ingredient: int, turn: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The order in which an ingredient's samples are drawn for the so-manieth time."""
        return np.random.default_rng([self.seed, ingredient, turn, 1]).permutation(
            len(self.ingredients[ingredient].kept)
        )
