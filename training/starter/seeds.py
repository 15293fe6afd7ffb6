"""How much of what shots teach is luck? `python -m training.starter.seeds` teaches it three times.

Each time the parts between the frozen backbones begin from other weights and meet other batches. A lesson of
little but names, much shorter than the starter's own; then the starter's exam, on things that no stage saw.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from training.loop import Part, Plan
from training.starter.card import SEED
from training.starter.flamingo import taught
from training.starter.side_by_side import Figures, compare
from training.suites import fewshot

SEEDS = {f"seed {number}": 25_000_000 + 100_000 * number for number in (1, 2, 3)}
ITEMS = 1000
POINTS = tuple(f"{ways}_way_{shots}_shot" for ways, shots in ((2, 1), (2, 4), (5, 1), (5, 4), (10, 4)))
CONTROLS = ("", "_blank_supports", "_shuffled_names")
LESSON = Part(
    name="seeds",
    plan=Plan(steps=1200, learning_rate=1e-3, matrix_rate=2e-3, warmup=50, seed=0, weight_decay=0.02),
    phases=(
        (0.06, {"name": 1}),
        (0.25, {"page": 40, "binding": 30, "met": 30}),
        (1.00, {"page": 12, "binding": 18, "met": 70}),
    ),
)


def asked(kind: str, folder: Path, output: Path) -> Figures:
    """Teach with one seed, and ask."""
    lesson = replace(LESSON, plan=replace(LESSON.plan, seed=SEEDS[kind]))
    reader = taught(folder, lesson, output)
    return fewshot.run(reader, seed=SEED, items=ITEMS, only=POINTS, controls=CONTROLS)


def main(argv: list[str] | None = None) -> None:
    compare("seeds", tuple(SEEDS), asked, argv)


if __name__ == "__main__":
    main()
