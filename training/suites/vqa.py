"""Questions about one page: counts of 1 to 4, the background's colour, places, and whether a thing is there."""

from __future__ import annotations

from random import Random
from typing import Any

from PIL import Image

from data import captions
from data.episodes import ORDINALS, WHICH
from data.picture_book import Kind, Scene, objects, random_scene
from training.suites.reader import Reader, blank, drawn
from training.suites.score import Score

TOPICS: tuple[tuple[str, Kind], ...] = (
    ("count", "group"),
    ("colour", "one"),
    ("position", "pair"),
    ("exists", "mixed"),
)

PAGES = 4  # of which one is asked for


def run(reader: Reader, *, seed: int, items: int) -> dict[str, Any]:
    """Exact answers, one question a page; the control asks the same of blank pictures."""
    results: dict[str, Any] = {}
    for topic, kind in TOPICS:
        random = Random(f"vqa {topic} {seed}")
        scenes, questions, answers = draw_questions(topic, kind, random, items)
        pictures = drawn(scenes)
        for control, shown in (("", pictures), ("_blank_control", blank(pictures))):
            said = reader.ask(questions, [[picture] for picture in shown])
            right = [given.rstrip(".") == wanted.rstrip(".") for given, wanted in zip(said, answers, strict=True)]
            results[topic + control] = Score.of(right).as_json()
            if topic == "count" and not control:
                for number in captions.NUMBERS[1:5]:
                    if of := [r for r, wanted in zip(right, answers, strict=True) if wanted == f"{number}."]:
                        results[f"counted_{number}"] = Score.of(of).as_json()
    results |= which_picture(reader, seed=seed, items=items)
    return results


def which_picture(reader: Reader, *, seed: int, items: int) -> dict[str, Any]:
    """Four pages of one thing each: which had the ...? The control shows the same pages blank."""
    random = Random(f"vqa which {seed}")
    pages: list[list[Image.Image]] = []
    questions: list[str] = []
    answers: list[str] = []
    for _ in range(items):
        things, asked = random.sample(objects("trained"), PAGES), random.randrange(PAGES)
        pages.append(drawn([random_scene("one", [thing], random) for thing in things]))
        questions.append(random.choice(WHICH).format(things[asked].name))
        answers.append(f"the {ORDINALS[asked]} picture")
    results: dict[str, Any] = {}
    for control, shown in (("", pages), ("_blank_control", [blank(row) for row in pages])):
        said = reader.ask(questions, shown)
        right = [given.rstrip(".") == wanted for given, wanted in zip(said, answers, strict=True)]
        results["which_picture" + control] = Score.of(right).as_json()
    return results


def draw_questions(topic: str, kind: Kind, random: Random, items: int) -> tuple[list[Scene], list[str], list[str]]:
    """Pages that can be asked about the topic, with the questions and true answers."""
    things = objects("trained")
    scenes: list[Scene] = []
    questions: list[str] = []
    answers: list[str] = []
    while len(scenes) < items:
        scene = random_scene(kind, things, random)
        asked = _count(scene, random) if topic == "count" else captions.ASK[topic](scene, random, things)
        if asked is not None:
            scenes.append(scene)
            questions.append(asked[0])
            answers.append(asked[1])
    return scenes, questions, answers


def _count(scene: Scene, random: Random) -> captions.Question:
    """How many there are of the thing that the page shows 1 to 4 times."""
    ((thing, count),) = scene.counts.items()
    return random.choice(captions.COUNT).format(thing.plural), f"{captions.NUMBERS[count]}."
