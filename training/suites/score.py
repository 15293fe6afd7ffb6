"""A share of right answers with its 95% interval."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from flamingo_app.fewshot.intervals import wilson

CONTROL_ITEMS = 150  # a control needs no narrow interval


@dataclass(frozen=True, kw_only=True)
class Score:
    """So many right of so many; `low` and `high` are Wilson's interval (Wilson 1927), which holds near 0 and 1 too."""

    right: int
    count: int
    accuracy: float
    low: float
    high: float

    @classmethod
    def of(cls, outcomes: Iterable[bool]) -> Score:
        """The score of a list of right and wrong answers; at least one is needed."""
        listed = list(outcomes)
        right, count = sum(listed), len(listed)
        low, high = wilson(right, count)
        return cls(right=right, count=count, accuracy=right / count, low=low, high=high)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def scores(suites: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(suite, figure, score) of everything that was measured; figures of figures are passed over."""
    for suite, figures in suites.items():
        yield from ((suite, name, score) for name, score in figures.items() if "accuracy" in score)


def mentions(text: str, *names: str) -> bool:
    """Whether one of the names stands in the text as whole words, whatever the case."""
    return any(re.search(rf"\b{re.escape(name)}\b", text, re.IGNORECASE) for name in names)
