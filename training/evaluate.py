"""Measure a model: `python -m training.evaluate --model starter --suite all --seed 0 --items 1000 --json out.json`.

Every figure is a count with its 95% interval, and stands beside a control that cannot know the answer.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

from flamingo_app import load
from flamingo_app.fewshot.records import check_destination, whole_file
from flamingo_app.interfaces.cli.common import guarded
from training.suites import captions, fewshot, labels, memory, vqa
from training.suites.plot import plot
from training.suites.reader import Reader
from training.suites.score import scores

SUITES: dict[str, Callable[..., dict[str, Any]]] = {
    "captions": captions.run,
    "vqa": vqa.run,
    "fewshot": fewshot.run,
    "labels": labels.run,
    "memory": memory.run,
}


def evaluate(reader: Reader, suites: list[str], *, seed: int, items: int) -> dict[str, Any]:
    """The figures of some suites: {suite: {figure: {right, count, accuracy, low, high}}}."""
    return {name: SUITES[name](reader, seed=seed, items=items) for name in suites}


def table(results: dict[str, Any]) -> str:
    """The figures as lines: suite, figure, percent, interval, count."""
    lines: list[str] = []
    for suite, name, score in scores(results):
        share, low, high = (100 * score[key] for key in ("accuracy", "low", "high"))
        lines.append(f"{suite:9} {name:32} {share:5.1f}%  [{low:5.1f}, {high:5.1f}]  n = {score['count']}")
    for suite, figures in results.items():
        for name, values in figures.items():
            if "cider" in values:
                likeness = "  ".join(f"{key} {value:.3f}" for key, value in values.items())
                lines.append(f"{suite:9} {name:32} {likeness}  (the book's own words; not comparable to leaderboards)")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description="Measure a model, with controls.")
    parser.add_argument("--model", default="starter", help="starter, a preset, or a folder (default: starter)")
    parser.add_argument("--suite", choices=[*SUITES, "all"], default="all")
    parser.add_argument("--seed", type=int, default=0, help="draws other pictures; training uses none of these")
    parser.add_argument("--items", type=_positive, default=1000, help="pictures or episodes a figure (default: 1000)")
    parser.add_argument("--json", metavar="OUT", help="write the figures there too")
    parser.add_argument("--plot", metavar="OUT", help="draw the curves, of shots or of turns, to this file")
    options = parser.parse_args(argv)
    return guarded("evaluate", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    report = check_destination(options.json, "--json") if options.json else None
    drawing = check_destination(options.plot, "--plot", plot=True) if options.plot else None
    model, processor = load(options.model)
    chosen = list(SUITES) if options.suite == "all" else [options.suite]
    results = evaluate(Reader(model, processor), chosen, seed=options.seed, items=options.items)
    print(table(results))
    if report:
        figures = {"model": options.model, "seed": options.seed, "items": options.items, "suites": results}
        with whole_file(report) as file:
            file.write(json.dumps(figures, indent=2) + "\n")
    if drawing and not plot(results, drawing):
        print("evaluate: nothing to draw: these suites have no curves", file=sys.stderr)
    return 0


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of 1 or more, got {text}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
