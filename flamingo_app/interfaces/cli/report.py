"""flamingo report: whether shots matter."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from flamingo_app.errors import ShotsError
from flamingo_app.fewshot.records import check_destination
from flamingo_app.fewshot.shots import read_shots
from flamingo_app.interfaces.cli.common import check_words, complain, load_model

if TYPE_CHECKING:
    from flamingo_app.fewshot.report import Report

WIDTH = 40


def run(options: Namespace) -> int:
    """Measure, print scores and verdict, and draw the plot where one is wanted.

    Held-out pictures that do not open are named and left out, as when labelling.
    """
    if options.prompt is not None:
        check_words("--prompt", options.prompt)
    target = check_destination(options.out, plot=True) if options.out else None
    broken: list[ShotsError] = []

    def leave_out(error: ShotsError) -> None:
        broken.append(error)
        complain(error)

    shots = read_shots(options.shots)
    heldout = read_shots(options.heldout, option="--heldout", left_out=leave_out)
    model, processor = load_model(options.model)
    from flamingo_app.fewshot.report import report

    measured = report(
        model,
        processor,
        shots,
        heldout,
        prompt=options.prompt or "",
        batch_size=options.batch_size,
        seed=options.seed,
    )
    if target:
        plot(measured, target)
    found = measured.as_json() | {"left_out": len(broken)}
    print(json.dumps(found) if options.json else "\n".join(lines(measured)))
    return 1 if broken else 0


def lines(report: Report) -> Iterator[str]:
    """The report for people: a bar each, and the verdict."""
    for name, measured in report.measured.items():
        bar = "█" * round(WIDTH * measured.mean)
        score = f"{100 * measured.mean:5.1f}%  [{100 * measured.low:5.1f}, {100 * measured.high:5.1f}]"
        yield f"{name.replace('_', ' '):10}  {score}  {bar}"
    yield report.verdict


def plot(report: Report, target: Path) -> None:
    """Each condition's score with its interval."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = cast(Any, figure.subplots())
    names = [name.replace("_", " ") for name in report.measured]
    means = [100 * measured.mean for measured in report.measured.values()]
    below = [max(0.0, 100 * (measured.mean - measured.low)) for measured in report.measured.values()]
    above = [max(0.0, 100 * (measured.high - measured.mean)) for measured in report.measured.values()]
    axes.barh(names, means, xerr=(below, above), color="#f4a6b8", capsize=4)
    axes.set(xlim=(0, 105), xlabel="right, %" if report.kind == "labels" else "words alike, %")
    axes.invert_yaxis()
    axes.set_title(report.verdict, fontsize=8, wrap=True)
    figure.savefig(target)
