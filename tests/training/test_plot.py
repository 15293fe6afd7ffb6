"""Curves of what was measured."""

from pathlib import Path
from typing import Any

from PIL import Image

from training.suites.plot import curves, panels, plot
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


def test_a_control_has_one_colour_in_all_panels_and_a_place_in_the_legend():
    """Controls are left out where they would change nothing, so panels need not have the same ones."""
    points = [(1, score(9)), (2, score(8))]
    figure = panels(
        {"names": {"": points, "blank": points, "shuffled": points}, "counts": {"": points, "shuffled": points}}
    )
    colours = [
        {line.get_label(): line.lines[0].get_color() for line in axes.containers}
        for axes in figure.axes
        if axes.containers
    ]
    assert set(colours[1]) == {"as it is", "shuffled"}
    assert colours[1].items() <= colours[0].items()
    assert len(set(colours[0].values())) == 3
    legend = figure.axes[0].get_legend()
    assert legend
    assert [text.get_text() for text in legend.get_texts()] == ["as it is", "blank", "shuffled"]
