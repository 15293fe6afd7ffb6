"""Questions about one page: counts of 1 to 4, the background's colour, places, and whether a thing is there."""

from __future__ import annotations

from random import Random
from typing import Any

from data import captions
from data.picture_book import Kind, Scene, objects, random_scene
from training.suites.reader import Reader, blank, drawn
from training.suites.score import Score

TOPICS: tuple[tuple[str, Kind], ...] = (
    ("count", "group"),
    ("colour", "one"),
    ("position", "pair"),
    ("exists", "mixed"),
)


def run(reader: Reader, *, seed: int, items: int) -> dict[str, Any]:
    """Exact answers, one question a page; the control asks the same of blank pictures."""
    results: dict[str, Any] = {}
    for topic, kind in TOPICS:
        random = Random(f"vqa {topic} {seed}")
        scenes, questions, answers = _asked(topic, kind, random, items)
        pictures = drawn(scenes)
        for control, shown in (("", pictures), ("_blank_control", blank(pictures))):
            said = reader.ask(questions, [[picture] for picture in shown])
            right = [given.rstrip(".") == wanted.rstrip(".") for given, wanted in zip(said, answers, strict=True)]
            results[topic + control] = Score.of(right).as_json()
            if topic == "count" and not control:
                results["count_by_number"] = {
                    number: Score.of(
                        r for r, wanted in zip(right, answers, strict=True) if wanted == f"{number}."
                    ).as_json()
                    for number in captions.NUMBERS[1:5]
                }
    return results


def _asked(topic: str, kind: Kind, random: Random, items: int) -> tuple[list[Scene], list[str], list[str]]:
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
