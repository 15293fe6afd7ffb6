"""Draw the pictures of the fine-tuning example into data/samples: `python -m data.draw_samples`.

Sixty to learn from and forty held out: single things of the picture book, captioned as a sailor would. Only needed
again when the style or the book changes: the pictures are part of the repository.
"""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

from torchvision.transforms.functional import to_pil_image

from data.captions import noun
from data.picture_book import Renderer, Scene, objects, random_scene

FOLDER = Path(__file__).parent / "samples"
SIZE = 128
COUNTS = {"train": 60, "heldout": 40}
KINDS = 20  # things, each three times to learn from and twice held out


def sailor(scene: Scene) -> str:
    """The new style: "ahoy! a dog on the blue sea!"."""
    (thing,) = scene.counts
    return f"ahoy! {noun(thing)} on the {scene.colour} sea!"


def main() -> None:
    random, renderer = Random("samples"), Renderer(SIZE)
    things = random.sample(objects("trained"), KINDS)
    for part, count in COUNTS.items():
        folder = FOLDER / part
        folder.mkdir(parents=True, exist_ok=True)
        records: list[dict[str, str]] = []
        for number in range(count):
            scene = random_scene("one", [things[number % KINDS]], random)
            name = f"{number:02}.jpg"
            to_pil_image(renderer([scene])[0]).save(folder / name, quality=85, optimize=True)
            records.append({"file_name": name, "text": sailor(scene)})
        lines = "".join(f"{json.dumps(record)}\n" for record in records)
        (folder / "metadata.jsonl").write_text(lines)


if __name__ == "__main__":
    main()
