"""Caches of what the model has read, kept for whoever goes on from there: a bounded number of them, and of bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from transformers.cache_utils import Cache

from flamingo_app.model.cache import first_tokens, num_bytes

Script = tuple[int | str, ...]
"""What was read: token ids, and the name of a picture where one stands."""


@dataclass(frozen=True, kw_only=True)
class Prefix:
    """A cache, what it holds, and under which condition. Its tensors are never written to: growing makes new ones."""

    script: Script
    condition: Hashable
    cache: Cache
    num_bytes: int


class Prefixes:
    """Kept caches, the least recently used of which go first; one that is gone is read again, and nothing else changes.

    Safe to use from many threads. A cache belongs to one model: keep one of these for each.

    Args:
        max_number: how many caches are kept; 0 keeps none.
        max_bytes: how many bytes they take together.
    """

    def __init__(self, *, max_number: int = 64, max_bytes: int = 2**30) -> None:
        self.max_number, self.max_bytes = max_number, max_bytes
        self._kept: OrderedDict[int, Prefix] = OrderedDict()
        self._lock = threading.RLock()
        self._next = 0

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[Prefix]:
        with self._lock:
            return iter(list(self._kept.values()))

    @property
    def num_bytes(self) -> int:
        """What all of them take together."""
        with self._lock:
            return sum(prefix.num_bytes for prefix in self._kept.values())

    def longest(self, script: Script, num_layers: int, condition: Hashable = None) -> tuple[int, Cache | None]:
        """How many tokens of a script are known, and a cache of them to go on from; never all of it.

        Args:
            script: what is to be read.
            num_layers: decoder layers of the language model.
            condition: what else the reading hangs on: how far the gates are open, and on which memory.
        """
        best, length = None, 0
        with self._lock:
            for number, prefix in self._kept.items():
                if prefix.condition == condition:
                    common = min(num_common(prefix.script, script), len(script) - 1)
                    if common > length:
                        best, length = number, common
            if best is None:
                return 0, None
            self._kept.move_to_end(best)
            cache = self._kept[best].cache
        part = first_tokens(cache, length, num_layers)
        return (0, None) if part is None else (length, part)

    def keep(self, script: Script, cache: Cache, condition: Hashable = None) -> None:
        """Keep what the model has read and said; caches of the beginning of the same are no longer needed."""
        new = Prefix(script=script, condition=condition, cache=cache, num_bytes=num_bytes(cache))
        with self._lock:
            for number, prefix in list(self._kept.items()):
                if prefix.condition == condition and prefix.script == script[: len(prefix.script)]:
                    del self._kept[number]
            self._kept[self._next] = new
            self._next += 1
            while self._kept and (len(self._kept) > self.max_number or self.num_bytes > self.max_bytes):
                self._kept.popitem(last=False)


def num_common(one: Sequence[int | str], other: Sequence[int | str]) -> int:
    """Length of the beginning that both share."""
    different = (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(different, min(len(one), len(other)))
