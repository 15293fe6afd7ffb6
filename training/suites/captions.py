"""Captions without shots: does the caption of a page name what is on it?"""

from __future__ import annotations

from random import Random
from typing import Any

from data import captions
from data.picture_book import Kind, objects, random_scene
from flamingo_app.prompt import caption_prompt
from training.suites.reader import Reader, blank, drawn
from training.suites.score import Score, mentions
from training.suites.words import likeness

PAGES: tuple[tuple[Kind, str], ...] = (("one", "one_object"), ("pair", "two_objects"))


def run(reader: Reader, *, seed: int, items: int) -> dict[str, Any]:
    """One-object pages must have their object named, two-object pages both; the control is shown blank pictures.

    What whole captions are like beside those of the book is in the figures called `words`.
    """
    results: dict[str, Any] = {}
    for kind, name in PAGES:
        random = Random(f"captions {kind} {seed}")
        scenes = [random_scene(kind, objects("trained"), random) for _ in range(items)]
        pictures = drawn(scenes)
        for control, shown in (("", pictures), ("_blank_control", blank(pictures))):
            texts = reader.answer([caption_prompt()] * items, [[picture] for picture in shown])
            named = [
                all(mentions(text, thing.name, thing.plural) for thing in scene.counts)
                for text, scene in zip(texts, scenes, strict=True)
            ]
            results[name + control] = Score.of(named).as_json()
            if not control:
                results[f"{name}_words"] = likeness(texts, [[captions.caption(scene)] for scene in scenes])
    return results
