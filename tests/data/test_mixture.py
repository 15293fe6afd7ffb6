"""The order is a function of (seed, epoch, index), and shares come out over the epochs."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.documents import Sample
from data.formats import Reading
from data.mixture import Ingredient, Order, open_mixture
from flamingo_app.errors import DataError
from tests.training.runs import image_folder


class Numbers:
    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return str(index)

    def __getitem__(self, index: int) -> Sample:
        return Sample(name=str(index), pieces=(), pictures=())


def ingredient(count: int, share: float = 1.0, without: tuple[int, ...] = ()) -> Ingredient:
    kept = np.array([number for number in range(count) if number not in without], dtype=np.int64)
    return Ingredient(path="numbers", source=Numbers(count), kept=kept, share=share)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=3), st.integers(0, 5))
def test_every_sample_once_an_epoch_in_another_order_each_time(counts: list[int], seed: int) -> None:
    order = Order([ingredient(count) for count in counts], seed)
    wanted = Counter((source, number) for source, count in enumerate(counts) for number in range(count))
    for epoch in range(3):
        places = [order[epoch * order.epoch_length + index] for index in range(order.epoch_length)]
        assert Counter((place.ingredient, place.number) for place in places) == wanted
        assert {place.turn for place in places} == {epoch}


def test_begun_in_the_middle_it_goes_on_the_same() -> None:
    whole = Order([ingredient(7), ingredient(5, 0.4)], 3)
    listed = [whole[index] for index in range(40)]
    for start in (1, 11, 39):
        begun = Order([ingredient(7), ingredient(5, 0.4)], 3)
        assert [begun[index] for index in range(start, 40)] == listed[start:]
    assert [Order([ingredient(7), ingredient(5, 0.4)], 4)[index] for index in range(40)] != listed


@given(st.floats(0.1, 3.0), st.integers(5, 30))
def test_a_share_of_each_epoch_and_all_evenly_in_the_end(share: float, count: int) -> None:
    order = Order([ingredient(4), ingredient(count, share)], 0)
    drawn = Counter(
        place.number for place in (order[index] for index in range(5 * order.epoch_length)) if place.ingredient == 1
    )
    assert sum(drawn.values()) == 5 * max(1, round(share * count))
    assert max(drawn.values()) - min(drawn[number] for number in range(count)) <= 1


def test_what_was_left_out_is_never_drawn() -> None:
    order = Order([ingredient(6, without=(1, 4))], 0)
    assert {order[index].number for index in range(12)} == {0, 2, 3, 5}


def test_a_mixture_is_a_file(tmp_path: Path) -> None:
    image_folder(tmp_path / "a", 4)
    image_folder(tmp_path / "b", 6)
    sources = [{"path": "a", "loss_weight": 0.2}, {"path": "b", "share": 0.5}]
    (tmp_path / "mix.json").write_text(json.dumps({"sources": sources}))
    a, b = open_mixture(str(tmp_path / "mix.json"), Reading())
    assert (len(a.source), a.share, a.loss_weight, a.drawn) == (4, 1.0, 0.2, 4)
    assert (len(b.source), b.share, b.loss_weight, b.drawn) == (6, 0.5, 1.0, 3)
    for wrong, why in (([{"path": "a", "share": 0}], "above 0"), (["a"], "path"), ([{}], "path"), ([], "at least one")):
        (tmp_path / "mix.json").write_text(json.dumps({"sources": wrong}))
        with pytest.raises(DataError, match=why):
            open_mixture(str(tmp_path / "mix.json"), Reading())
