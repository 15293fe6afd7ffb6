"""Answers end with their chunk, before another shot, and before they go round in circles."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from flamingo_app.fewshot.stopping import ROUNDS, SHORTEST_CIRCLE, Stop, Stops

END, IMAGE = 0, 1
STOPS = Stops(ends=(END, IMAGE), lead_in=(7, 8, 9))
words = st.lists(st.integers(2, 9), max_size=12)


@given(words, st.sampled_from([END, IMAGE]), st.lists(st.integers(0, 9), max_size=5))
def test_what_follows_the_end_changes_nothing(said: list[int], end: int, after: list[int]) -> None:
    assert STOPS.length([*said, end, *after]) == STOPS.length([*said, end]) == STOPS.length(said)


@given(words, st.lists(st.integers(0, 9), max_size=5))
def test_a_row_stops_with_the_token_that_ends_its_answer(said: list[int], after: list[int]) -> None:
    """What `generate` is told token by token, and what is kept of the whole, are the same."""
    whole = [*said, END, *after]
    stopped = next(count for count in range(1, len(whole) + 1) if STOPS.ended(whole[:count]) is not None)
    assert STOPS.length(whole) == STOPS.ended(whole[:stopped])


def test_the_lead_in_said_again_begins_another_answer() -> None:
    assert STOPS.length([7, 8, 9, 2, 3]) == 5, "at the start it is the answer's own"
    assert STOPS.length([2, 3, 7, 8, 9, 4]) == 2


@given(st.lists(st.integers(2, 6), max_size=4), st.lists(st.integers(2, 6), min_size=1, max_size=6, unique=True))
def test_a_circle_is_kept_once(before: list[int], circle: list[int]) -> None:
    said = [*before, *circle * (2 * SHORTEST_CIRCLE)]
    kept = STOPS.length(said)
    assert kept <= len(before) + 2 * len(circle)
    assert said[:kept] == [*before, *circle * 2][:kept]


@given(st.lists(st.integers(2, 6), min_size=1, max_size=6), st.integers(1, ROUNDS - 1))
def test_fewer_rounds_are_an_answer(part: list[int], rounds: int) -> None:
    said = list(range(10, 20)) + part * rounds
    circles = [said[i:] for i in range(len(said)) if len(set(said[i:])) == 1 and len(said[i:]) >= SHORTEST_CIRCLE]
    assert STOPS.length(said) == len(said) or circles or len(set(part)) < len(part)


def test_each_row_stops_by_itself() -> None:
    stop = Stop(STOPS, 2)
    rows = torch.tensor([[END, END, 2, 3, END], [2, 2, 2, 3, 4], [5, 5, 5, 5, 5]])
    assert stop(rows, None).tolist() == [True, False, False]
