"""Kinds of one thing, trained alike and asked alike: what the comparisons of the starter's parts have in common."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from training.suites.plot import plot

Figures = dict[str, Any]


def compare(
    name: str, kinds: Sequence[str], asked: Callable[[str, Path, Path], Figures], argv: list[str] | None
) -> None:
    """`python -m training.starter.NAME`: train and ask each kind, each from where it was stopped.

    The figures of a kind are written as soon as they are known, to NAME.json beside those of other kinds.

    Args:
        asked: from (kind, folder of the starter's stages, folder for its checkpoints) to its scores by name.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m training.starter.{name}", description=f"Side by side: {', '.join(kinds)}."
    )
    parser.add_argument("--folder", type=Path, default=Path("runs/starter"), help="where make starter keeps its work")
    parser.add_argument("--output", type=Path, default=Path("runs") / name, help="for checkpoints, figures, plot")
    parser.add_argument("--only", action="append", choices=kinds, help="one kind; may be given several times")
    options = parser.parse_args(argv)
    options.output.mkdir(parents=True, exist_ok=True)
    file = options.output / f"{name}.json"
    suites: dict[str, Figures] = json.loads(file.read_text())["suites"] if file.exists() else {}
    for kind in options.only or kinds:
        suites[kind] = asked(kind, options.folder, options.output / kind.replace(" ", "_"))
        print(kind, {figure: round(score["accuracy"], 3) for figure, score in suites[kind].items()}, flush=True)
        file.write_text(json.dumps({"suites": suites}, indent=1) + "\n")
    plot(suites, file.with_suffix(".png"))
