"""Captioning a folder on the starter, four fixed shots: pictures a second of `flamingo caption`'s way and of the plain
loop, which takes one picture at a time and opens, encodes and reads the shots again before each."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from random import Random
from typing import Any, cast

import torch

from data import captions
from data.picture_book import objects, random_scene
from flamingo_app import Shot, caption, load
from flamingo_app.fewshot.captioning import MAX_NEW_TOKENS
from flamingo_app.fewshot.decoding import spare_workers
from flamingo_app.prompt import caption_prompt
from training.suites.reader import drawn

PICTURES, TURNS, SHOTS, SIZE, BATCH = 2000, 10, 4, 224, 16


def run() -> dict[str, Any]:
    """Seconds a picture of both ways, their ratio, and how many of the captions are the same.

    Both are timed in turns, so that a slow moment hits both alike.
    """
    model, processor = load("starter")
    with tempfile.TemporaryDirectory() as made:
        paths, texts = _draw(Path(made))
        shots = [Shot(path, text) for path, text in zip(paths[:SHOTS], texts, strict=False)]
        queries = paths[SHOTS:]

        def plain(path: Path) -> str:
            prompt = caption_prompt([shot.text for shot in shots])
            inputs = processor.prompts([prompt], [[*(shot.image for shot in shots), path]])
            said = cast(Any, model).generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
            words = processor.tokenizer.decode(said[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            return words.strip()

        workers = spare_workers(PICTURES)
        ours, theirs = list[str | None](), list[str]()
        seconds = {"batched": 0.0, "plain": 0.0}
        plain(queries[0])
        for start in range(0, PICTURES, PICTURES // TURNS):
            part = queries[start : start + PICTURES // TURNS]
            clock = time.perf_counter()
            said = caption(model, part, processor=processor, shots=shots, batch_size=BATCH, workers=workers)
            ours += [each.text for each in said]
            seconds["batched"] += time.perf_counter() - clock
            clock = time.perf_counter()
            theirs += [plain(path) for path in part]
            seconds["plain"] += time.perf_counter() - clock
    same = sum(one == other for one, other in zip(ours, theirs, strict=True))
    return {
        "seconds_a_picture": {name: taken / PICTURES for name, taken in seconds.items()},
        "ratio": seconds["plain"] / seconds["batched"],
        "same_captions": same / PICTURES,
        "pictures": PICTURES,
        "workers": workers,
        "threads": torch.get_num_threads(),
    }


def _draw(folder: Path) -> tuple[list[Path], list[str]]:
    """Pages as JPEG files, with their captions."""
    random = Random("labelling")
    scenes = [random_scene("one", objects("trained"), random) for _ in range(SHOTS + PICTURES)]
    paths = [folder / f"{number:04}.jpg" for number in range(len(scenes))]
    for path, picture in zip(paths, drawn(scenes, SIZE), strict=True):
        picture.save(path, quality=90)
    return paths, [captions.caption(scene) for scene in scenes]
