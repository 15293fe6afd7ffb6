"""Shares and their intervals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.suites.score import Score, mentions


@given(right=st.integers(0, 300), wrong=st.integers(0, 300))
def test_the_interval_holds_the_share_and_narrows(right: int, wrong: int) -> None:
    if right + wrong == 0:
        return
    score = Score.of([True] * right + [False] * wrong)
    assert 0 <= score.low <= score.accuracy + 1e-12
    assert score.accuracy - 1e-12 <= score.high <= 1
    wider = Score.of(([True] * right + [False] * wrong) * 4)
    assert wider.high - wider.low < score.high - score.low


def test_wilson_by_hand() -> None:
    score = Score.of([True] * 95 + [False] * 5)
    assert (score.low, score.high) == (pytest.approx(0.8882, abs=1e-4), pytest.approx(0.9785, abs=1e-4))


@pytest.mark.parametrize(
    ("text", "names", "found"),
    [("A Dog.", ("dog",), True), ("hotdogs", ("dog",), False), ("two mice", ("mouse", "mice"), True)],
)
def test_names_count_as_whole_words(text: str, names: tuple[str, ...], found: bool) -> None:
    assert mentions(text, *names) == found
