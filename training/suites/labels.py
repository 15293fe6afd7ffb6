"""Labels from shots, as `flamingo classify` gives them: things that no training stage saw, under made-up names.

Five classes, five shots of each; beside the calibrated figure, that of the surest four fifths, and of one raw order.
"""

from __future__ import annotations

from random import Random
from typing import Any

from data.made_up_names import made_up_names
from data.picture_book import objects, random_scene
from flamingo_app.fewshot.classification import classify
from flamingo_app.fewshot.shots import Shot
from training.suites.reader import Reader, drawn
from training.suites.score import Score

WAYS, SHOTS, QUERIES, SURE = 5, 5, 20, 0.8


def run(reader: Reader, *, seed: int, items: int) -> dict[str, Any]:
    """Right labels of `items` pictures, twenty for every five things."""
    calibrated: list[tuple[float, bool]] = []
    raw: list[bool] = []
    for number in range(-(-items // QUERIES)):
        random = Random(f"labels {seed} {number}")
        shots, queries = _episode(random)
        pictures = [query.image for query in queries]
        options: dict[str, Any] = {"shots": shots, "processor": reader.processor, "batch_size": QUERIES}
        for said, query in zip(
            classify(reader.model, pictures, calibrate=True, seed=seed, **options), queries, strict=True
        ):
            sure = max((said.probabilities or {}).values())
            calibrated.append((sure, said.label == query.text))
        plain = classify(reader.model, pictures, orders=1, seed=seed, **options)
        raw += [said.label == query.text for said, query in zip(plain, queries, strict=True)]
    surest = sorted(calibrated, reverse=True)[: round(SURE * len(calibrated))]
    point = f"{WAYS}_way_{SHOTS}_shot"
    return {
        point: Score.of(right for _, right in calibrated).as_json(),
        f"{point}_surest_{SURE:.0%}".rstrip("%"): Score.of(right for _, right in surest).as_json(),
        f"{point}_raw": Score.of(raw).as_json(),
    }


def _episode(random: Random) -> tuple[list[Shot], list[Shot]]:
    """Shots, and queries with their labels."""
    things, names = random.sample(objects("heldout"), WAYS), made_up_names(WAYS, random)
    classes = [*range(WAYS)] * SHOTS + random.choices(range(WAYS), k=QUERIES)
    pictures = drawn([random_scene("one", [things[of]], random) for of in classes])
    both = [Shot(picture, names[of]) for picture, of in zip(pictures, classes, strict=True)]
    return both[: WAYS * SHOTS], both[WAYS * SHOTS :]
