"""A record for each picture of many, in a file that a later run goes on with, or on standard output."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flamingo_app.errors import PictureError
from flamingo_app.fewshot.shots import Shot, parse_shot, read_shots
from flamingo_app.images import Source, open_hashed, open_picture
from flamingo_app.interfaces.cli.common import complain, load_model
from flamingo_app.interfaces.cli.journal import Journal, something_else
from flamingo_app.interfaces.cli.records import (
    Record,
    check_destination,
    standard_output,
    whole_file,
    write_records,
)

if TYPE_CHECKING:
    from flamingo_app.fewshot.labelling import Labeller
    from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
    from flamingo_app.processing import FlamingoProcessor

Prepare = Callable[["FlamingoForConditionalGeneration", "FlamingoProcessor"], "Labeller[Record]"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One kind of work on pictures.

    Args:
        fields: of a record, the first being file_name.
        done: what the summary calls a picture that came out well.
        settings: what records depend on besides the model, by the flags that set it.
        prepare: from a model to what labels a batch, each label being a record without its file_name.
        notes: further counts of the summary, from all records.
    """

    options: Namespace
    pictures: Mapping[str, Source]
    fields: Sequence[str]
    done: str
    settings: Mapping[str, Any]
    prepare: Prepare
    notes: Callable[[Sequence[Record]], Mapping[str, int]]


def run_job(job: Job) -> int:
    """Check everything that can be checked, then load the model and write a record for each picture."""
    start, options = time.monotonic(), job.options
    target = check_destination(options.out) if options.out else None
    if not (target and target.exists()) and not _any_opens(job.pictures):
        return 2
    model, processor = load_model(options.model)
    labeller = job.prepare(model, processor)
    sink = Sink(job, target, model)
    with closing(sink):
        earlier = len(sink.written)
        _label(job, labeller, processor, sink)
        sink.finish()
    records = [sink.written[name] for name in job.pictures]
    failed = sum("error" in record for record in records)
    if options.json:
        summary = {"pictures": len(records), job.done: len(records) - failed, "failed": failed}
        summary |= {"written_before": earlier} | dict(job.notes(records)) | {"out": options.out, "model": options.model}
        summary |= {"seconds": round(time.monotonic() - start, 3)}
        print(json.dumps(summary), file=sys.stdout if options.out else sys.stderr)
    return 1 if failed else 0


class Sink:
    """Where records go: a journal, standard output, or a file that is made of the journal at the end."""

    def __init__(self, job: Job, target: Path | None, model: FlamingoForConditionalGeneration) -> None:
        self.job, self.target, self.journal = job, target, None
        self.written: dict[str, Record] = {}
        self.known: dict[str, Record] = {}
        self.form: str = job.options.format
        if target is not None:
            hidden = target.with_name(f".{target.name}.records")
            records = target if self.form == "jsonl" else hidden
            run = target.with_name(f".{target.name}.run")
            settings = {"--model": _fingerprint(model)} | dict(job.settings)
            self.journal = Journal(records, run, settings)
            if not (records.exists() or job.options.overwrite) and target.exists() and target.stat().st_size:
                raise something_else(target)
            self.journal.read(overwrite=job.options.overwrite)
            self.written = {record["file_name"]: record for record in self.journal.records}
            for name, sha256 in self.journal.hashes.items():
                if "error" not in self.written.get(name, {"error": None}):
                    self.known[sha256] = {key: self.written[name][key] for key in job.fields[1:]}

    def add(self, records: Sequence[Record], hashes: Mapping[str, str]) -> None:
        """Write a batch, where that can be done before all are there."""
        self.written |= {record["file_name"]: record for record in records}
        if self.journal is not None:
            self.journal.append(records, hashes)
        elif self.form == "jsonl":
            write_records(records, standard_output(), self.form, self.job.fields)

    def finish(self) -> None:
        """Write what needs all records."""
        if self.form == "jsonl":
            return
        records = [self.written[name] for name in self.job.pictures]
        with nullcontext(standard_output()) if self.target is None else whole_file(self.target) as file:
            write_records(records, file, self.form, self.job.fields)

    def close(self) -> None:
        if self.journal is not None:
            self.journal.close()


def _label(job: Job, labeller: Labeller[Record], processor: FlamingoProcessor, sink: Sink) -> None:
    """Label what has no record yet."""
    from tqdm import tqdm

    missing = [name for name in job.pictures if name not in sink.written]
    failed = dict.fromkeys(job.fields[1:])
    names = iter(missing)
    with tqdm(total=len(job.pictures), initial=len(job.pictures) - len(missing), unit=" pictures", disable=None) as bar:
        for batch in _batches(job, labeller, processor, sink, [job.pictures[name] for name in missing]):
            records: list[Record] = []
            hashes: dict[str, str] = {}
            for (label, error, sha256), name in zip(batch, names, strict=False):
                if label is None:
                    records.append({"file_name": name} | failed | {"error": error})
                    with tqdm.external_write_mode(sys.stderr):
                        complain(str(error))
                else:
                    records.append({"file_name": name} | label)
                    hashes[name] = str(sha256)
            sink.add(records, hashes)
            bar.update(len(batch))


def _batches(
    job: Job, labeller: Labeller[Record], processor: FlamingoProcessor, sink: Sink, sources: Sequence[Source]
) -> Iterator[Sequence[tuple[Record | None, str | None, str | None]]]:
    """(label, error, sha256) of each picture, in batches; here, or on a cluster."""
    options = job.options
    if options.ray:
        from flamingo_app.interfaces.cli.on_ray import label_on_ray

        yield from label_on_ray(options, job.prepare, sources)
        return
    from flamingo_app.fewshot.decoding import decoded, spare_workers
    from flamingo_app.fewshot.labelling import outcomes

    workers = spare_workers(len(sources)) if options.workers is None else options.workers
    pictures = decoded(sources, processor.image_processor, workers=workers)
    for batch in outcomes(labeller, pictures, batch_size=options.batch_size, known=sink.known):
        yield [(outcome.label, outcome.error, outcome.sha256) for outcome in batch]


def _fingerprint(model: FlamingoForConditionalGeneration) -> str:
    """Of all weights: those that train here, and those whose hashes the config has."""
    from flamingo_app.model.backbones import fingerprint
    from flamingo_app.model.trainable import is_trainable

    ours = fingerprint({name: value for name, value in model.state_dict().items() if is_trainable(name)})
    return digest([ours, model.config.text_hash, model.config.vision_hash])


def given_shots(options: Namespace) -> list[Shot]:
    """The shots of --shots, then those of --shot."""
    shots = read_shots(options.shots) if options.shots else []
    return [*shots, *(parse_shot(given) for given in options.shot)]


def fingerprint_of_shots(shots: Sequence[Shot]) -> str:
    """Of their pictures' content and their texts, in order."""
    return digest([(open_hashed(shot.image)[1], shot.text) for shot in shots])


def digest(value: Any) -> str:
    """The SHA-256 of something that JSON can say."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


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
