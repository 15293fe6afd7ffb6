"""flamingo classify: a label for each picture."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from flamingo_app.errors import ShotsError
from flamingo_app.interfaces.cli.common import check_words
from flamingo_app.interfaces.cli.job import Job, fingerprint_of_shots, given_shots, run_job
from flamingo_app.interfaces.cli.paths import find_pictures
from flamingo_app.interfaces.cli.records import Record

if TYPE_CHECKING:
    from flamingo_app.fewshot.labelling import Labeller
    from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
    from flamingo_app.processing import FlamingoProcessor


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

    def prepare(model: FlamingoForConditionalGeneration, processor: FlamingoProcessor) -> Labeller[Record]:
        from flamingo_app.fewshot.classification import Classifier, decide

        classifier = Classifier.of(
            model,
            processor,
            shots=shots,
            labels=options.label or None,
            lead_in=options.prompt or "",
            calibrate=options.calibrate,
            orders=options.orders,
            select=options.select,
            num_shots=options.num_shots,
        )

        def label(probabilities: dict[str, float]) -> Record:
            return {"label": decide(probabilities, options.abstain).label, "probabilities": probabilities}

        return lambda pixels: [label(probabilities) for probabilities in classifier(pixels)]

    def notes(records: Sequence[Record]) -> Mapping[str, int]:
        return {"abstained": sum(record["label"] is None and "error" not in record for record in records)}

    flags = ("label", "prompt", "select", "num_shots", "calibrate", "abstain", "orders")
    settings = {f"--{flag.replace('_', '-')}": getattr(options, flag) for flag in flags}
    return run_job(
        Job(
            options=options,
            pictures=pictures,
            fields=("file_name", "label", "probabilities"),
            done="classified",
            settings={"--shots": fingerprint_of_shots(shots)} | settings,
            prepare=prepare,
            notes=notes,
        )
    )
