"""flamingo classify: a label for each picture."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from flamingo_app.errors import ShotsError
from flamingo_app.fewshot.finding import find_pictures
from flamingo_app.fewshot.records import Record
from flamingo_app.interfaces.cli.common import check_words
from flamingo_app.interfaces.cli.job import given_shots, run_job

if TYPE_CHECKING:
    from flamingo_app.fewshot.job import Task


def run(options: Namespace) -> int:
    """Write a record for each picture: label and probabilities."""
    for flag, words in (("--prompt", options.prompt), *(("--label", label) for label in options.label)):
        if words is not None:
            check_words(flag, words)
    shots = given_shots(options)
    if len({*options.label} or {shot.text.strip() for shot in shots}) < 2:
        raise ShotsError(
            expected="shots of at least two labels", got="fewer", remedy="add some, or name the labels with --label"
        )
    pictures = find_pictures(options.paths)

    def task() -> Task:
        from flamingo_app.fewshot.classification import classifications

        return classifications(
            shots=shots,
            labels=options.label or None,
            prompt=options.prompt or "",
            calibrate=options.calibrate,
            abstain=options.abstain,
            orders=options.orders,
            select=options.select,
            num_shots=options.num_shots,
            seed=options.seed,
        )

    def notes(records: Sequence[Record]) -> Mapping[str, int]:
        return {"abstained": sum(record["label"] is None and "error" not in record for record in records)}

    return run_job(options, pictures, task, done="classified", notes=notes)
