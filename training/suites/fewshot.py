"""Fast binding: things that no training stage saw get made-up names from their shots; then one is asked for.

Open-ended and greedy, at most 15 new tokens, cut at the first line or end of chunk, lower case, exact match, as VL-ICL
Bench does (Zong et al. 2024). Controls: blank supports, and supports whose names are shuffled.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from PIL import Image

from data.made_up_names import made_up_names
from data.picture_book import objects, random_scene
from flamingo_app.prompt import Prompt, caption_prompt
from training.suites.reader import Reader, blank, drawn
from training.suites.score import Score

POINTS = ((2, 1), (2, 4), (5, 1))  # ways, shots a class


def run(reader: Reader, *, seed: int, items: int) -> dict[str, Any]:
    """Accuracy at every point, with its controls."""
    results: dict[str, Any] = {}
    for ways, shots in POINTS:
        random = Random(f"fewshot {ways} {shots} {seed}")
        prompts, shuffled, images, answers = [], [], [], []
        for _ in range(items):
            prompt, wrong, pictures, answer = _episode(ways, shots, random)
            prompts.append(prompt)
            shuffled.append(wrong)
            images.append(pictures)
            answers.append(answer)
        blanked = [[*blank(row[:-1]), row[-1]] for row in images]
        for control, asked, shown in (
            ("", prompts, images),
            ("_blank_supports", prompts, blanked),
            ("_shuffled_names", shuffled, images),
        ):
            results[f"{ways}_way_{shots}_shot{control}"] = _exact(reader, asked, shown, answers).as_json()
    return results


def _episode(ways: int, shots: int, random: Random) -> tuple[Prompt, Prompt, list[Image.Image], str]:
    """The prompt, the prompt with its names shuffled, the pictures (the query last), and the answer."""
    things, names = random.sample(objects("heldout"), ways), made_up_names(ways, random)
    supports = random.sample([of for of in range(ways) for _ in range(shots)], ways * shots)
    query = random.randrange(ways)
    scenes = [random_scene("one", [things[of]], random) for of in (*supports, query)]
    labels = [names[of] for of in supports]
    return caption_prompt(labels), caption_prompt(random.sample(labels, len(labels))), drawn(scenes), names[query]


def _exact(
    reader: Reader, prompts: Sequence[Prompt], images: Sequence[Sequence[Image.Image]], answers: Sequence[str]
) -> Score:
    said = reader.answer(prompts, images, tokens=15)
    return Score.of(_first_line(text) == answer for text, answer in zip(said, answers, strict=True))


def _first_line(text: str) -> str:
    return text.strip().split("\n")[0].strip().rstrip(".").lower()
