"""Curves of what was measured."""

from pathlib import Path
from typing import Any

from PIL import Image

from training.suites.plot import curves, plot
from training.suites.score import Score


def score(right: int) -> dict[str, Any]:
    return Score.of([True] * right + [False] * (10 - right)).as_json()


FIGURES = {
    "fewshot": {
        "2_way_0_shot": score(0),
        "2_way_4_shot": score(9),
        "2_way_4_shot_blank_query": score(4),
        "style_words": {"cider": 1.0},
    },
    "memory": {"named_8_turns": score(9), "named_32_turns": score(8), "named_32_turns_swapped": score(1)},
    "vqa": {"colour": score(10)},
}


def test_points_are_found_by_task_place_and_control():
    found = curves(FIGURES)
    assert {task: set(lines) for task, lines in found.items()} == {
        "2_way": {"", "blank query"},
        "named": {"", "swapped"},
    }
    assert [place for place, _ in found["2_way"][""]] == [0, 4]
    assert [measured["right"] for _, measured in found["named"]["swapped"]] == [1]


def test_a_plot_is_a_picture_and_nothing_is_drawn_without_curves(tmp_path: Path):
    assert plot(FIGURES, tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as drawn:
        assert drawn.width > 500
    assert not plot({"vqa": {"colour": score(10)}}, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
