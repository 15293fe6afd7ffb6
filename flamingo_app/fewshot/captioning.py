"""A caption for each picture of many, in the style of the shots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from flamingo_app.fewshot.completion import Completion, complete
from flamingo_app.fewshot.context import Context
from flamingo_app.fewshot.job import Images, Job, Task
from flamingo_app.fewshot.labelling import Labeller
from flamingo_app.fewshot.records import Record
from flamingo_app.fewshot.retrieval import Select
from flamingo_app.fewshot.shots import Shot
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.processing import FlamingoProcessor
from flamingo_app.prompt import encode, said

MAX_NEW_TOKENS = 32
SHORTEST_LEAD_IN = 3
"""Tokens of a lead-in that mean another caption where they are said again: fewer may be a part of this one."""


@dataclass(frozen=True, kw_only=True)
class Caption:
    """What came of one picture: a text and its score, or an error.

    Args:
        file_name: the picture's path, or the name that it was given; None for one in memory.
        text: what the model says after the prompt, up to where the caption ends (see `stopping`).
        score: see `Completion`.
        error: one line that says why there is no caption.
    """

    file_name: str | None = None
    text: str | None = None
    score: float | None = None
    error: str | None = None


def caption(
    model: FlamingoForConditionalGeneration,
    images: Images,
    *,
    processor: FlamingoProcessor | None = None,
    shots: Sequence[Shot] = (),
    prompt: str = "",
    batch_size: int = 8,
    select: Select = "random",
    num_shots: int | None = None,
    max_new_tokens: int = MAX_NEW_TOKENS,
    seed: int = 0,
    workers: int | None = 0,
    out: str | Path | None = None,
    overwrite: bool = False,
    ray: str | None = None,
) -> Iterator[Caption]:
    """Caption pictures one batch after the other, in their order; a picture that fails does not stop the others.

    Pictures with the same content are captioned once. Shots that are the same for all pictures are read once.

    Args:
        images: pictures, or {name: picture}, or one path of whatever `flamingo caption` takes: a file, a folder, a
            glob, a list, a shard.
        processor: None loads the one saved beside the model.
        shots: pictures with captions to imitate.
        prompt: words that the model goes on from.
        batch_size: pictures at once.
        select: show a "random" choice of shots, the same for all pictures, or for each picture the most "similar".
        num_shots: how many shots are shown; None is as many as the language model has positions for.
        max_new_tokens: where a caption that does not end is cut.
        seed: of the random choice.
        workers: processes that open pictures ahead of the model; 0 opens each when it is needed, None starts as many
            as there are cores to spare.
        out: file of records, one JSON object a line, each batch written as soon as it is known, and all of them before
            this returns; what is there already is gone on with, as by the command.
        overwrite: begin `out` anew.
        ray: run on the Ray cluster at this address, whose machines load the model from the path that it was loaded
            from; "local" starts one here.

    Raises:
        PromptError: for a special token typed into the prompt or a shot, or a prompt too long to answer.
        PictureError: for a shot's picture that cannot be opened, or a path without pictures.
        DataError: for a list or a shard that cannot be read.
        ConfigError: for a way to select that there is none of, or `out` and pictures without names.
        FlamingoError: `out` cannot be written, or holds something else, or what other settings made.
    """
    task = captions(
        shots=shots, prompt=prompt, select=select, num_shots=num_shots, max_new_tokens=max_new_tokens, seed=seed
    )
    job = Job.of(task, model, processor, batch_size=batch_size, workers=workers, ray=ray)
    return (Caption(**record) for record in job.label(images, out=out, overwrite=overwrite))


def captions(
    *,
    shots: Sequence[Shot] = (),
    prompt: str = "",
    select: Select = "random",
    num_shots: int | None = None,
    max_new_tokens: int = MAX_NEW_TOKENS,
    seed: int = 0,
) -> Task:
    """A caption for each picture; arguments as those of `caption`."""

    def prepare(model: FlamingoForConditionalGeneration, processor: FlamingoProcessor) -> Labeller[Record]:
        captioner = Captioner.of(
            model,
            processor,
            shots=shots,
            lead_in=prompt,
            select=select,
            num_shots=num_shots,
            max_new_tokens=max_new_tokens,
            seed=seed,
        )
        return lambda pixels: [{"text": said.text, "score": said.score} for said in captioner(pixels)]

    settings = {
        "--prompt": prompt,
        "--select": select,
        "--num-shots": num_shots,
        "--max-new-tokens": max_new_tokens,
        "--seed": seed,
    }
    return Task(fields=("file_name", "text", "score"), shots=shots, settings=settings, prepare=prepare)


@dataclass(frozen=True, kw_only=True)
class Captioner:
    """Captions batches of pictures."""

    context: Context
    max_new_tokens: int = MAX_NEW_TOKENS

    @classmethod
    def of(
        cls,
        model: FlamingoForConditionalGeneration,
        processor: FlamingoProcessor,
        *,
        shots: Sequence[Shot] = (),
        lead_in: str = "",
        select: Select = "random",
        num_shots: int | None = None,
        max_new_tokens: int = MAX_NEW_TOKENS,
        seed: int = 0,
        pictured: bool = True,
    ) -> Captioner:
        """Arguments and errors as those of `caption` and of `Context`."""
        context = Context(
            model=model,
            processor=processor,
            shots=shots,
            lead_in=lead_in,
            select=select,
            num_shots=num_shots,
            room=max_new_tokens,
            seed=seed,
            pictured=pictured,
        )
        return cls(context=context, max_new_tokens=max_new_tokens)

    def __call__(self, pixels: Float[Tensor, "pictures 3 height width"]) -> list[Completion]:
        """What the model says after the lead-in, for each picture."""
        context = self.context
        asked = context.ask(pixels)
        return complete(
            context.model, context.processor, asked, max_new_tokens=self.max_new_tokens, lead_in=self._lead_in
        )

    @cached_property
    def _lead_in(self) -> list[int]:
        tokens = encode(said(self.context.lead_in), self.context.processor.tokenizer)
        return tokens if len(tokens) >= SHORTEST_LEAD_IN else []
