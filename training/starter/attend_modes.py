"""Which pictures should a word see? `python -m training.starter.attend_modes` teaches the parts in both ways.

The paper's words see the latest picture alone (Alayrac et al. 2022, section 3.1.3); the other way is to see all before
them. Same backbones, same batches, same number of steps; then what shots teach, which picture, and captions, all asked
of things and pages that training draws. A short lesson: it tells how soon each way is learnt, not where it ends.
"""

from __future__ import annotations

from random import Random

from data.picture_book import objects, random_scene
from flamingo_app.prompt import caption_prompt
from training.loop import Part, Plan
from training.starter.flamingo import taught
from training.starter.side_by_side import Figures, compare
from training.suites.fewshot import binding_item, exact
from training.suites.reader import Reader, drawn
from training.suites.score import Score, mentions
from training.suites.vqa import which_picture

MODES = ("latest", "all_previous")
ITEMS, SEED = 300, 7
LESSON = Part(
    name="attending",
    plan=Plan(steps=800, learning_rate=1e-3, matrix_rate=2e-3, warmup=50, seed=14_000_000, weight_decay=0.02),
    phases=((0.15, {"name": 1}), (0.50, {"page": 85, "binding": 15}), (1.00, {"page": 40, "binding": 45, "which": 15})),
)


def asked(reader: Reader) -> Figures:
    """The figures of one way."""
    random, things = Random("attend"), objects("trained")
    figures: Figures = {}
    scenes = [random_scene("one", things, random) for _ in range(ITEMS)]
    said = reader.answer([caption_prompt()] * ITEMS, [[page] for page in drawn(scenes)])
    pairs = zip(said, scenes, strict=True)
    figures["one object"] = Score.of(mentions(text, scene.objects[0].thing.name) for text, scene in pairs).as_json()
    for ways, shots in ((2, 1), (2, 4), (5, 1), (5, 4)):
        draw = binding_item(reader, ways, shots, things)
        figures[f"{ways} way {shots} shot"] = exact(reader, [draw(random) for _ in range(ITEMS)]).as_json()
    figures |= {"which picture": which_picture(reader, seed=SEED, items=ITEMS)["which_picture"]}
    return figures


def main(argv: list[str] | None = None) -> None:
    compare(
        "attend_modes", MODES, lambda mode, folder, output: asked(taught(folder, LESSON, output, attend=mode)), argv
    )


if __name__ == "__main__":
    main()
