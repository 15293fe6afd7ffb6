"""The batches of a step for one process: from (seed, step) alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from data.feature_cache import FeatureCache
from data.mixture import Order, Place
from data.reading import Cut, Reader
from flamingo_app.errors import FlamingoError
from flamingo_app.prompt import Mark, encode

BLANK = Image.new("RGB", (8, 8))


@dataclass(frozen=True, kw_only=True)
class Draw:
    """Draws a step's batches.

    Args:
        order: which sample comes when.
        reader: how samples become tensors.
        cache: patches of the pictures; None opens them.
        batch_size, accumulate, processes, process: a step takes their product of samples; these are one process's.
        last: index after the last sample; what a last step has beyond it counts for nothing.
    """

    order: Order
    reader: Reader
    cache: FeatureCache | None
    batch_size: int
    accumulate: int
    processes: int
    process: int
    last: int | None

    @property
    def per_step(self) -> int:
        """Samples of a step, of all processes."""
        return self.batch_size * self.accumulate * self.processes

    def indices(self, step: int, number: int) -> range:
        """Indices in the order of the samples of this process's batch of this number."""
        start = step * self.per_step + (number * self.processes + self.process) * self.batch_size
        return range(start, start + self.batch_size)

    def samples(self, step: int) -> list[tuple[int, int]]:
        """(ingredient, number) of every sample of a step, of all processes."""
        start = step * self.per_step
        stop = start + self.per_step if self.last is None else min(start + self.per_step, self.last)
        places = (self.order[index] for index in range(start, stop))
        return [(place.ingredient, place.number) for place in places]

    def name(self, place: Place) -> str:
        """What to call a sample in messages."""
        return self.order.ingredients[place.ingredient].source.name(place.number)

    def __call__(self, step: int) -> dict[str, Any]:
        """The batches of a step: tensors for the objective, names, and why samples were skipped."""
        return {"batches": [self._batch(step, number) for number in range(self.accumulate)]}

    def _batch(self, step: int, number: int) -> dict[str, Any]:
        places = [self.order[index] for index in self.indices(step, number)]
        skipped: list[str] = []
        rows = [self._row(place, skipped) for place in places]
        form = "patches" if self.cache else "pixel_values"
        batch = self.reader.batch([cut for cut, _ in rows], [pictures for _, pictures in rows], form)
        weights = [self.order.ingredients[place.ingredient].loss_weight for place in places]
        counted = [self.last is None or index < self.last for index in self.indices(step, number)]
        labels = (batch["weights"][:, 1:] > 0) & torch.tensor(counted)[:, None]
        batch["weights"] *= (torch.tensor(weights) * torch.tensor(counted))[:, None]
        names = [self.name(place) for place in places]
        return {"tensors": batch, "labels": int(labels.sum()), "names": names, "skipped": skipped}

    def _row(self, place: Place, skipped: list[str]) -> tuple[Cut, Tensor]:
        try:
            cut = self.reader.cut(self.order.ingredients[place.ingredient].source[place.number])
            return cut, self._pictures(cut, f"{self.order.seed} {place.ingredient} {place.number} {place.turn}")
        except FlamingoError as error:
            skipped.append(f"{self.name(place)}: {error}")
            return self._nothing()

    def _pictures(self, cut: Cut, chance: str) -> Tensor:
        return self.cache.patches(cut.pictures) if self.cache else self.reader.pixels(cut, chance)

    def _nothing(self) -> tuple[Cut, Tensor]:
        """A row that counts for nothing."""
        ids = encode((Mark.IMAGE, Mark.END_OF_CHUNK), self.reader.processor.tokenizer)
        cut = Cut(name="nothing", row=[(token, 0.0, 1, 1) for token in ids], pictures=(BLANK,), cut=0)
        return cut, torch.zeros(1, *self.cache.shape) if self.cache else self.reader.pixels(cut, "")
