"""What the suites count, and what they refuse before they have measured anything."""

from pathlib import Path

import pytest

from data.picture_book import OBJECTS
from flamingo_app import load
from training import evaluate
from training.suites import captions, fewshot
from training.suites.reader import Reader


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader(*load("starter"))


def test_a_caption_names_its_objects_as_whole_words_and_longer_names_first() -> None:
    by_name = {thing.name: thing for thing in OBJECTS}
    for thing in OBJECTS:
        assert captions.named(f"A {thing.name.upper()} on a page") == captions.named(f"two {thing.plural}.") == {thing}
    assert captions.named("a teddy bear and two bears") == {by_name["teddy bear"], by_name["bear"]}
    assert captions.named("a teddy bear") == {by_name["teddy bear"]}
    assert captions.named("bearings and nothing else") == set()


def test_precision_and_recall_stand_beside_whole_captions(reader: Reader) -> None:
    figures = captions.run(reader, seed=3, items=20)
    for page, things in (("one_object", 20), ("two_objects", 40)):
        assert figures[f"recall_of_{page}"]["count"] == things
        assert figures[f"precision_of_{page}"]["right"] == figures[f"recall_of_{page}"]["right"]
        assert figures[page]["right"] <= figures[f"recall_of_{page}"]["right"]


def test_a_control_that_changes_nothing_is_not_reported(reader: Reader) -> None:
    points = ("style_1_shot", "style_2_shot", "2_way_1_shot")
    figures = fewshot.run(reader, seed=3, items=4, only=points, controls=("", "_shuffled_names"))
    assert {name for name in figures if name.endswith("shuffled_names")} == {
        "style_2_shot_shuffled_names", "2_way_1_shot_shuffled_names",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--items", "0"), "expected a number of 1 or more, got 0"),
        (("--items", "many"), "expected a number of 1 or more, got many"),
        (("--plot", "curves.txt"), "expected a plot's name, ending in .png, .svg, .pdf; got --plot 'curves.txt'"),
        (("--json", "/"), "got --json '/': a folder or a device; choose another"),
        (("--json", "/nowhere/at/all.json"), "got --json '/nowhere/at/all.json': No such file or directory"),
        (("--plot", "/nowhere/at/all.png"), "got --plot '/nowhere/at/all.png': No such file or directory"),
    ],
)
def test_what_could_not_be_written_is_refused_before_anything_is_measured(
    options: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = evaluate.main(["--model", str(Path("no") / "such" / "model"), *options])
    except SystemExit as stopped:
        status = stopped.code
    assert status == 2
    assert said in capsys.readouterr().err.replace("\n", " ")
