"""flamingo caption: a caption for each picture."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from flamingo_app.fewshot.finding import find_pictures
from flamingo_app.fewshot.records import Record
from flamingo_app.interfaces.cli.common import check_words
from flamingo_app.interfaces.cli.job import given_shots, run_job

if TYPE_CHECKING:
    from flamingo_app.fewshot.job import Task


def run(options: Namespace) -> int:
    """Write a record for each picture: text and score."""
    if options.prompt is not None:
        check_words("--prompt", options.prompt)
    pictures = find_pictures(options.paths)
    shots = given_shots(options)

    def task() -> Task:
        from flamingo_app.fewshot.captioning import captions

        return captions(
            shots=shots,
            prompt=options.prompt or "",
            select=options.select,
            num_shots=options.num_shots,
            max_new_tokens=options.max_new_tokens,
            seed=options.seed,
        )

    def notes(records: Sequence[Record]) -> Mapping[str, int]:
        texts = {shot.text.strip().casefold() for shot in shots}
        return {"copied_from_shots": sum((record["text"] or "").casefold() in texts for record in records)}

    return run_job(options, pictures, task, done="captioned", notes=notes)
