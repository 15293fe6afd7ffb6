"""Figures that belong to a curve, drawn: how a task's answers change with the number of shots, or with distance."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from training.suites.score import scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINT = re.compile(r"(?P<task>.+?)_(?P<place>\d+)_(?:shot|turns)(?P<control>\w*)")
COLUMNS = 3

Points = list[tuple[int, dict[str, Any]]]


def curves(suites: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Points]]:
    """{task: {control, "" for none: [(shots or turns, score)]}} of all figures that have a place on a curve."""
    found: dict[str, dict[str, Points]] = {}
    for _, name, score in scores(suites):
        if point := POINT.fullmatch(name):
            control = point["control"].strip("_").replace("_", " ")
            found.setdefault(point["task"], {}).setdefault(control, []).append((int(point["place"]), score))
    return {task: lines for task, lines in found.items() if len(lines.get("", ())) > 1}


def plot(suites: Mapping[str, Mapping[str, Any]], target: Path) -> bool:
    """Draw each task's curve with its 95% intervals, its controls beside it; False where nothing is a curve."""
    drawn = curves(suites)
    if drawn:
        panels(drawn).savefig(target)
    return bool(drawn)


def panels(drawn: Mapping[str, Mapping[str, Points]]) -> Figure:
    """A panel for each task; a control looks the same in all of them, and the one legend has them all."""
    from matplotlib.figure import Figure

    rows = -(-len(drawn) // COLUMNS)
    figure = Figure(figsize=(4 * COLUMNS, 3 * rows), layout="constrained")
    handles: dict[str, Any] = {}
    listed = list(cast(Any, figure.subplots(rows, COLUMNS, squeeze=False)).flat)
    for (task, lines), axes in zip(drawn.items(), listed, strict=False):
        for control, points in lines.items():
            places, measured = zip(*sorted(points, key=lambda point: point[0]), strict=True)
            shares = [100 * score["accuracy"] for score in measured]
            below = [max(0.0, share - 100 * score["low"]) for share, score in zip(shares, measured, strict=True)]
            above = [max(0.0, 100 * score["high"] - share) for share, score in zip(shares, measured, strict=True)]
            label = control or "as it is"
            style = {"marker": "o", "linewidth": 1 if control else 2, "linestyle": ":" if control else "-"}
            style["color"] = f"C{[*handles, label].index(label)}"
            line = axes.errorbar(places, shares, yerr=(below, above), capsize=3, label=label, **style)
            handles.setdefault(label, line)
        axes.set(title=task.replace("_", " "), ylim=(-3, 103), ylabel="right, %")
    for axes in listed[len(drawn) :]:
        axes.axis("off")
    listed[0].legend(list(handles.values()), list(handles), fontsize=7)
    return figure
