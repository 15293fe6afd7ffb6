"""Captions without shots: does the caption of a page name what is on it, and nothing else?"""

from __future__ import annotations

import re
from random import Random
from typing import Any

from data import captions
from data.picture_book import OBJECTS, Kind, Object, objects, random_scene
from flamingo_app.prompt import caption_prompt
from training.suites.reader import Reader, blank, drawn
from training.suites.score import Score
from training.suites.words import likeness

PAGES: tuple[tuple[Kind, str], ...] = (("one", "one_object"), ("pair", "two_objects"))
NAMES: dict[str, Object] = {name.lower(): thing for thing in OBJECTS for name in (thing.name, thing.plural)}
NAMED = re.compile(rf"\b({'|'.join(sorted(map(re.escape, NAMES), key=len, reverse=True))})\b", re.IGNORECASE)


def run(reader: Reader, *, seed: int, items: int) -> dict[str, Any]:
    """One-object pages must have their object named, two-object pages both; the control is shown blank pictures.

    Precision is the share of the objects named that are on their page, recall that of the objects on pages that are
    named. What whole captions are like beside those of the book is in the figures called `words`.
    """
    results: dict[str, Any] = {}
    for kind, name in PAGES:
        random = Random(f"captions {kind} {seed}")
        scenes = [random_scene(kind, objects("trained"), random) for _ in range(items)]
        pictures = drawn(scenes)
        for control, shown in (("", pictures), ("_blank_control", blank(pictures))):
            texts = reader.answer([caption_prompt()] * items, [[picture] for picture in shown])
            pairs = [(named(text), set(scene.counts)) for text, scene in zip(texts, scenes, strict=True)]
            results[name + control] = Score.of(there <= said for said, there in pairs).as_json()
            if control:
                continue
            if precise := [thing in there for said, there in pairs for thing in said]:
                results[f"precision_of_{name}"] = Score.of(precise).as_json()
            results[f"recall_of_{name}"] = Score.of(thing in said for said, there in pairs for thing in there).as_json()
            results[f"{name}_words"] = likeness(texts, [[captions.caption(scene)] for scene in scenes])
    return results


def named(text: str) -> set[Object]:
    """The objects that a text names, one or several of them, as whole words; a longer name before one within it."""
    return {NAMES[found.lower()] for found in NAMED.findall(text)}
