"""Shots are chosen by number, by room, and by likeness."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flamingo_app.errors import ConfigError
from flamingo_app.fewshot.retrieval import check_select, random_shots, similar_shots

LENGTHS = st.lists(st.integers(1, 20), min_size=1, max_size=8)


@given(LENGTHS, st.integers(0, 100), st.integers(0, 5))
def test_a_random_choice_fits_and_can_be_repeated(lengths: list[int], room: int, seed: int) -> None:
    chosen = random_shots(lengths, room, None, seed=seed)
    assert chosen == random_shots(lengths, room, None, seed=seed)
    assert len(chosen) == len(set(chosen))
    assert len(chosen) == 1 or sum(lengths[shot] for shot in chosen) <= room
    assert len(chosen) == len(lengths) or sum(lengths) > room


@given(LENGTHS, st.integers(1, 10))
def test_a_number_is_taken_as_it_is(lengths: list[int], number: int) -> None:
    assert len(random_shots(lengths, 0, number, seed=0)) == min(number, len(lengths))


def test_seeds_choose_differently() -> None:
    assert len({tuple(random_shots([1] * 50, 5, None, seed=seed)) for seed in range(5)}) > 1


def test_the_nearest_stand_last_and_the_furthest_are_left_out() -> None:
    angles = torch.tensor([0.5, 3.0, 0.1, 1.0])
    shots = torch.stack([angles.cos(), angles.sin()], dim=1)
    picture = torch.tensor([1.0, 0.0])
    assert similar_shots(picture, shots, [5] * 4, math.inf, None) == [1, 3, 0, 2]
    assert similar_shots(picture, shots, [5] * 4, 11, None) == [0, 2]
    assert similar_shots(picture, shots, [5] * 4, 11, 3) == [3, 0, 2]


def test_one_shot_that_is_too_long_is_not_hidden() -> None:
    assert random_shots([50], 10, None, seed=0) == [0]


def test_other_ways_of_choosing_are_refused() -> None:
    check_select("similar")
    with pytest.raises(ConfigError, match="random or similar"):
        check_select("nearest")
