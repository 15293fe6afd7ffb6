"""flamingo caption: a caption for each picture."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from flamingo_app.interfaces.cli.common import check_words
from flamingo_app.interfaces.cli.job import Job, fingerprint_of_shots, given_shots, run_job
from flamingo_app.interfaces.cli.paths import find_pictures
from flamingo_app.interfaces.cli.records import Record

if TYPE_CHECKING:
    from flamingo_app.fewshot.labelling import Labeller
    from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
    from flamingo_app.processing import FlamingoProcessor


def run(options: Namespace) -> int:
    """Write a record for each picture: text and score."""
    if options.prompt is not None:
        check_words("--prompt", options.prompt)
    pictures = find_pictures(options.paths)
    shots = given_shots(options)

    def prepare(model: FlamingoForConditionalGeneration, processor: FlamingoProcessor) -> Labeller[Record]:
        from flamingo_app.fewshot.captioning import Captioner

        captioner = Captioner.of(
            model,
            processor,
            shots=shots,
            lead_in=options.prompt or "",
            select=options.select,
            num_shots=options.num_shots,
        )
        return lambda pixels: [{"text": said.text, "score": said.score} for said in captioner(pixels)]

    def notes(records: Sequence[Record]) -> Mapping[str, int]:
        texts = {shot.text.strip().casefold() for shot in shots}
        return {"copied_from_shots": sum((record["text"] or "").casefold() in texts for record in records)}

    settings = {
        "--prompt": options.prompt,
        "--shots": fingerprint_of_shots(shots),
        "--select": options.select,
        "--num-shots": options.num_shots,
    }
    fields = ("file_name", "text", "score")
    return run_job(
        Job(
            options=options,
            pictures=pictures,
            fields=fields,
            done="captioned",
            settings=settings,
            prepare=prepare,
            notes=notes,
        )
    )
