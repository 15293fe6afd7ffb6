"""What is shipped: the starter's weights, world, card and figures."""

import json
import math
from random import Random

import pytest
from PIL import Image

from data.picture_book import COLOURS, OBJECTS, objects, random_scene
from flamingo_app import load
from flamingo_app.fewshot.asking import ask
from flamingo_app.model.backbones import STARTER
from training.starter import card
from training.suites import captions, fewshot, vqa
from training.suites.reader import Reader, drawn

ITEMS = 100
SHOT_POINTS = ("2_way_1_shot", "5_way_1_shot", "5_way_4_shot")
MEASURED = json.loads((STARTER / "measured.json").read_text())


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader(*load("starter"))


@pytest.fixture(scope="module")
def again(reader: Reader) -> dict[str, dict[str, object]]:
    """The card's suites on fewer pages, of another seed."""
    figures = {suite.__name__.rpartition(".")[2]: suite.run(reader, seed=77, items=ITEMS) for suite in (captions, vqa)}
    return figures | {"fewshot": fewshot.run(reader, seed=77, items=ITEMS, only=SHOT_POINTS, controls=("",))}


@pytest.mark.parametrize(
    ("suite", "figure"),
    [
        (suite, figure)
        for suite in ("captions", "vqa")
        for figure, score in MEASURED["suites"][suite].items()
        if "accuracy" in score
    ]
    + [("fewshot", figure) for figure in SHOT_POINTS],
)
def test_the_figures_of_the_card_come_out_again(
    again: dict[str, dict[str, dict[str, float]]], suite: str, figure: str
) -> None:
    claimed, found = MEASURED["suites"][suite][figure], again[suite][figure]
    # Four standard errors of the smaller sample, and a little for shares of exactly 0 or 1.
    spread = 4 * math.sqrt(claimed["accuracy"] * (1 - claimed["accuracy"]) / found["count"]) + 0.04
    if claimed["count"] == MEASURED["items"][suite]:
        assert found["count"] == ITEMS
    assert abs(found["accuracy"] - claimed["accuracy"]) < spread


@pytest.mark.parametrize(
    ("suite", "figure"),
    [("captions", "one_object"), ("captions", "two_objects"), ("vqa", "count"), ("vqa", "colour"), ("vqa", "position")],
)
def test_what_it_says_comes_from_the_pictures(suite: str, figure: str) -> None:
    score, control = (MEASURED["suites"][suite][name] for name in (figure, f"{figure}_blank_control"))
    assert score["count"] == control["count"] >= 1000
    assert score["low"] > control["high"]


@pytest.mark.parametrize("point", ["2_way_1_shot", "2_way_4_shot", "5_way_1_shot", "5_way_4_shot", "10_way_4_shot"])
def test_names_are_learnt_from_the_shots(point: str) -> None:
    """Blank shots, a blank query or shuffled names leave at most a guess among the names."""
    figures = MEASURED["suites"]["fewshot"]
    assert figures[point]["count"] >= 1000
    for control in ("blank_supports", "blank_query", "shuffled_names"):
        assert figures[point]["low"] > figures[f"{point}_{control}"]["high"]
    chance = 1 / int(point.split("_")[0])
    for control in ("blank_supports", "blank_query"):
        assert figures[f"{point}_{control}"]["low"] <= chance


def test_the_card_says_what_was_measured() -> None:
    assert card.rows(MEASURED["suites"]) in (STARTER / "README.md").read_text()
    assert card.summary(MEASURED["suites"]) in card.README.read_text()
    for note in MEASURED["training_notes"]:
        assert note in (STARTER / "README.md").read_text()


def test_the_world_is_the_one_it_was_trained_on() -> None:
    world = json.loads((STARTER / "world.json").read_text())
    assert world["objects"] == [{"emoji": o.emoji, "name": o.name, "stage": o.stage} for o in OBJECTS]


def test_the_weights_fit_into_the_repository() -> None:
    weights = list(STARTER.rglob("*.safetensors"))
    assert len(weights) == 3
    assert sum(file.stat().st_size for file in weights) <= 40 * 2**20


def test_a_page_as_somebody_might_draw_it(reader: Reader) -> None:
    """Not our renderer: a glyph pasted onto a picture of another size and shape."""
    renderer_free = []
    random = Random(3)
    for thing in random.sample(objects("trained"), 40):
        scene = random_scene("one", [thing], random, colour="white")
        glyph = drawn([scene], 200)[0]
        page = Image.new("RGB", (640, 480), COLOURS["white"][0])
        page.paste(glyph.resize((360, 360)), (140, 60))
        renderer_free.append((thing, page))
    named = [
        thing.name in ask(reader.model, reader.processor, [page], "what is this?") for thing, page in renderer_free
    ]
    assert sum(named) >= 30


def test_it_says_so_when_it_has_no_picture(reader: Reader) -> None:
    from flamingo_app.prompt import Turn, chat_prompt

    (said,) = reader.answer([chat_prompt([Turn(role="user", pieces=("what is this?",))])], [[]])
    assert "no picture" in said
