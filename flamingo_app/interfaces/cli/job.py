"""A command that makes a record of each picture: what was asked, and what is said of it at the end."""

from __future__ import annotations

import json
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from flamingo_app.errors import PictureError
from flamingo_app.fewshot.records import Record, check_destination
from flamingo_app.fewshot.shots import Shot, parse_shot, read_shots
from flamingo_app.images import Source, open_picture
from flamingo_app.interfaces.cli.common import complain, load_model

if TYPE_CHECKING:
    from flamingo_app.fewshot.job import Task


def run_job(
    options: Namespace,
    pictures: Mapping[str, Source],
    task: Callable[[], Task],
    *,
    done: str,
    notes: Callable[[Sequence[Record]], Mapping[str, int]],
) -> int:
    """Check everything that can be checked, then load the model and write a record for each picture.

    Args:
        task: makes what is to be done, once torch is worth its time.
        done: what the summary calls a picture that came out well.
        notes: further counts of the summary, from all records.
    """
    start = time.monotonic()
    target = check_destination(options.out) if options.out else None
    if not (target and target.exists()) and not _any_opens(pictures):
        return 2
    model, processor = load_model(options.model)
    from flamingo_app.fewshot.job import Job, Output

    job = Job(
        task=task(),
        model=model,
        processor=processor,
        batch_size=options.batch_size,
        workers=options.workers,
        ray=options.ray,
        model_name=options.model,
        complain=complain,
    )
    with closing(Output(target, job.task, model, form=options.format, overwrite=options.overwrite)) as output:
        earlier = len(output.written)
        job.write(pictures, output)
    records = [output.written[name] for name in pictures]
    failed = sum("error" in record for record in records)
    counts = notes(records)
    if options.json:
        summary = {"pictures": len(records), done: len(records) - failed, "failed": failed}
        summary |= {"written_before": earlier} | dict(counts) | {"out": options.out, "model": options.model}
        summary |= {"seconds": round(time.monotonic() - start, 3)}
        print(json.dumps(summary), file=sys.stdout if options.out else sys.stderr)
    elif copied := counts.get("copied_from_shots"):
        complain(f"{copied} of {len(records)} captions are a shot's, word for word: was the picture looked at?")
    return 1 if failed else 0


def given_shots(options: Namespace) -> list[Shot]:
    """The shots of --shots, then those of --shot."""
    shots = read_shots(options.shots) if options.shots else []
    return [*shots, *(parse_shot(given) for given in options.shot)]


def _any_opens(pictures: Mapping[str, Source]) -> bool:
    """Whether there is anything to do; where no picture opens, says why of each."""
    errors: list[PictureError] = []
    for source in pictures.values():
        try:
            open_picture(source)
        except PictureError as error:
            errors.append(error)
        else:
            return True
    for error in errors:
        complain(error)
    return False
