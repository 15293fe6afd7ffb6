"""A record for each picture of many, in a file that a later run goes on with."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from tqdm import tqdm

from flamingo_app.errors import ConfigError
from flamingo_app.fewshot.decoding import decoded, spare_workers
from flamingo_app.fewshot.finding import find_pictures, name_of
from flamingo_app.fewshot.journal import Journal, something_else
from flamingo_app.fewshot.labelling import Labeller, Outcome, outcomes
from flamingo_app.fewshot.records import Record, check_destination, standard_output, whole_file, write_records
from flamingo_app.fewshot.shots import Shot
from flamingo_app.images import Source, content_hash, several
from flamingo_app.model.backbones import fingerprint
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.model.trainable import is_trainable
from flamingo_app.presets import check_model_name
from flamingo_app.processing import FlamingoProcessor

Images = Source | Mapping[str, Source] | Iterable[Source]
"""Pictures; one; by names; or where they are: a path of whatever `find_pictures` takes."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is made of each picture.

    Args:
        fields: of a record, the first being file_name.
        shots: pictures with their texts, on which records depend.
        settings: what else they depend on besides the model, by the flags that set it.
        prepare: from a model to what labels a batch, each label being a record without its file_name.
    """

    fields: Sequence[str]
    shots: Sequence[Shot]
    settings: Mapping[str, Any]
    prepare: Callable[[FlamingoForConditionalGeneration, FlamingoProcessor], Labeller[Record]]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A task on many pictures.

    Args:
        batch_size: pictures at once.
        workers: processes that open pictures ahead of the model; None is as many as there are cores to spare.
        ray: address of a Ray cluster to run on, or "local"; its machines load the model by `model_name`.
        complain: told why a picture failed.
    """

    task: Task
    model: FlamingoForConditionalGeneration
    processor: FlamingoProcessor
    batch_size: int
    workers: int | None = None
    ray: str | None = None
    model_name: str = ""
    complain: Callable[[str], None] = field(default=lambda error: None)

    @classmethod
    def of(
        cls,
        task: Task,
        model: FlamingoForConditionalGeneration,
        processor: FlamingoProcessor | None,
        *,
        batch_size: int,
        workers: int | None,
        ray: str | None,
    ) -> Job:
        """For a model that was loaded from a path, where its processor lies too unless it is given."""
        return cls(
            task=task,
            model=model,
            processor=processor or FlamingoProcessor.from_pretrained(model.name_or_path),
            batch_size=batch_size,
            workers=workers,
            ray=ray,
            model_name=model.name_or_path or "",
        )

    def records(
        self, pictures: Iterable[tuple[str | None, Source]], labeller: Labeller[Record], known: dict[str, Record]
    ) -> Iterator[list[tuple[Record, str | None]]]:
        """Records of pictures with their names, and the pictures' hashes, a batch at a time.

        Args:
            known: labels by content; those found here are added.
        """
        names = deque[str | None]()

        def sources() -> Iterator[Source]:
            for name, source in pictures:
                names.append(name)
                yield source

        for batch in self._outcomes(sources(), labeller, known):
            yield [(self._record(names.popleft(), outcome), outcome.sha256) for outcome in batch]

    def _outcomes(
        self, sources: Iterable[Source], labeller: Labeller[Record], known: dict[str, Record]
    ) -> Iterator[list[Outcome[Record]]]:
        if self.ray:
            from flamingo_app.fewshot.on_ray import Cluster

            check_model_name(self.model_name)
            cluster = Cluster(
                address=self.ray,
                model_name=self.model_name,
                prepare=self.task.prepare,
                batch_size=self.batch_size,
            )
            return cluster.outcomes([*sources], self.processor.image_processor, known)
        workers = self.workers
        if workers is None:
            sources = [*sources]
            workers = spare_workers(len(sources))
        pictures = decoded(sources, self.processor.image_processor, workers=workers)
        return outcomes(labeller, pictures, batch_size=self.batch_size, known=known)

    def _record(self, name: str | None, outcome: Outcome[Record]) -> Record:
        if outcome.label is not None:
            return {"file_name": name} | outcome.label
        return {"file_name": name} | dict.fromkeys(self.task.fields[1:]) | {"error": outcome.error}

    def write(self, pictures: Mapping[str, Source], output: Output) -> None:
        """Write a record for each picture that has none yet, while a bar shows how many and how fast."""
        labeller = self.task.prepare(self.model, self.processor)
        missing = {name: source for name, source in pictures.items() if name not in output.written}
        done = len(pictures) - len(missing)
        with tqdm(total=len(pictures), initial=done, unit=" pictures", disable=None) as bar:
            for batch in self.records(missing.items(), labeller, output.known) if missing else ():
                hashes = {record["file_name"]: str(sha256) for record, sha256 in batch if "error" not in record}
                with tqdm.external_write_mode():
                    for error in (record["error"] for record, _ in batch if "error" in record):
                        self.complain(error)
                    output.add([record for record, _ in batch], hashes)
                bar.update(len(batch))
        output.finish(pictures)

    def label(self, images: Images, *, out: str | Path | None, overwrite: bool) -> Iterator[Record]:
        """Records in the order of the images: made as they are asked for, or with `out` all before this returns.

        Raises:
            ConfigError: `out` and pictures without names.
            FlamingoError: as `Output`, `check_destination` and `find_pictures`.
        """
        named = _named(images)
        if out is None:
            labeller = self.task.prepare(self.model, self.processor)
            return (record for batch in self.records(named, labeller, {}) for record, _ in batch)
        names = list[str]()
        pictures = dict[str, Source]()
        for name, source in named:
            if name is None:
                raise ConfigError(
                    expected="pictures with names for out", got="one in memory", remedy="give {name: picture} instead"
                )
            names.append(name)
            pictures[name] = source
        with closing(Output(check_destination(str(out)), self.task, self.model, overwrite=overwrite)) as output:
            self.write(pictures, output)
            return iter([output.written[name] for name in names])


class Output:
    """Where records go: a journal, a file that is made of the journal at the end, or standard output (no target).

    Attributes:
        written: records by name, those of earlier runs included.
        known: labels by content, of pictures that have one.

    Raises:
        FlamingoError: the target holds something else, or was made with other settings.
    """

    def __init__(
        self,
        target: Path | None,
        task: Task,
        model: FlamingoForConditionalGeneration,
        *,
        form: str = "jsonl",
        overwrite: bool = False,
    ) -> None:
        self.target, self.form, self.fields = target, form, task.fields
        self.journal: Journal | None = None
        self.written: dict[str, Record] = {}
        self.known: dict[str, Record] = {}
        if target is not None:
            hidden = target.with_name(f".{target.name}.records")
            records = target if form == "jsonl" else hidden
            run = target.with_name(f".{target.name}.run")
            settings = {"--model": _digest_of_weights(model), "--shots": _digest_of_shots(task.shots)}
            self.journal = Journal(records, run, settings | dict(task.settings), task.fields)
            if not (records.exists() or overwrite) and target.exists() and target.stat().st_size:
                raise something_else(target)
            self.journal.read(overwrite=overwrite)
            self.written = {record["file_name"]: record for record in self.journal.records}
            for name, sha256 in self.journal.hashes.items():
                if "error" not in self.written.get(name, {"error": None}):
                    self.known[sha256] = {key: self.written[name][key] for key in self.fields[1:]}

    def add(self, records: Sequence[Record], hashes: Mapping[str, str]) -> None:
        """Write a batch, where that can be done before all are there."""
        self.written |= {record["file_name"]: record for record in records}
        if self.journal is not None:
            self.journal.append(records, hashes)
        elif self.form == "jsonl":
            write_records(records, standard_output(), self.form, self.fields)

    def finish(self, names: Iterable[str]) -> None:
        """Write what needs all records."""
        if self.form == "jsonl":
            return
        records = [self.written[name] for name in names]
        with nullcontext(standard_output()) if self.target is None else whole_file(self.target) as file:
            write_records(records, file, self.form, self.fields)

    def close(self) -> None:
        if self.journal is not None:
            self.journal.close()


def _named(images: Images) -> Iterable[tuple[str | None, Source]]:
    if isinstance(images, str | Path):
        return find_pictures([str(images)]).items()
    if isinstance(images, Mapping):
        return cast("Mapping[str, Source]", images).items()
    return ((name_of(image), image) for image in several(images))


def _digest_of_weights(model: FlamingoForConditionalGeneration) -> str:
    """Of all weights: those that train here, and those whose hashes the config has."""
    ours = fingerprint({name: value for name, value in model.state_dict().items() if is_trainable(name)})
    return _digest([ours, model.config.text_hash, model.config.vision_hash])


def _digest_of_shots(shots: Sequence[Shot]) -> str:
    """Of their pictures' content and their texts, in order."""
    return _digest([(content_hash(shot.image), shot.text) for shot in shots])


def _digest(value: Any) -> str:
    """The SHA-256 of something that JSON can say."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
