"""The verdict says what the scores say, and no more."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_app.fewshot.intervals import bootstrap, wilson
from flamingo_app.fewshot.report import Measured, Report


def made(**shares: float) -> Report:
    """A report on 100 pictures, so many per cent of them right."""
    names = ("with", "without", "shuffled", "label_only", "blank")
    rights = {name: tuple(float(n < 100 * shares.get(name, 0.2)) for n in range(100)) for name in names}
    return Report(
        kind="labels", measured={name: Measured(each=each, low=0.0, high=1.0) for name, each in rights.items()}
    )


@pytest.mark.parametrize(
    ("shares", "begins", "contains"),
    [
        ({"with": 0.9}, "Your shots matter: 90% with them, 20% without.", "Their pictures are looked at (20%"),
        ({"with": 0.9, "shuffled": 0.9}, "Your shots matter", "cannot be shown that which text goes with which"),
        ({"with": 0.9, "blank": 0.9}, "Your shots matter", "cannot be shown that their pictures are looked at (90%"),
        ({"with": 0.2}, "Your shots make no difference that 100 pictures can show: 20% with them, 20% without.", ""),
        ({"with": 0.1, "without": 0.6}, "Your shots harm: 10% with them, 60% without.", ""),
    ],
)
def test_the_verdict_follows_the_scores(shares: dict[str, Any], begins: str, contains: str) -> None:
    verdict = made(**shares).verdict
    assert verdict.startswith(begins)
    assert contains in verdict


@given(st.integers(1, 200), st.data())
def test_wilson_holds_its_share_inside(count: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, count))
    low, high = wilson(right, count)
    assert 0 <= low <= right / count + 1e-12
    assert right / count - 1e-12 <= high <= 1


def test_the_bootstrap_covers_the_mean_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        low, high = bootstrap(random.exponential(size=60).tolist(), seed=seed, rounds=400)
        covered += low <= 1 <= high
    assert 0.88 <= covered / 200 <= 0.99
