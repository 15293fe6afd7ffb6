"""A caption for each picture of many, in the style of the shots."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from jaxtyping import Float
from torch import Tensor

from flamingo_app.fewshot.completion import Completion, complete
from flamingo_app.fewshot.context import Context
from flamingo_app.fewshot.decoding import decoded
from flamingo_app.fewshot.labelling import outcomes
from flamingo_app.fewshot.retrieval import Select
from flamingo_app.fewshot.shots import Shot
from flamingo_app.images import Source
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
        text: what the model says after the prompt, up to where the caption ends (see `stopping`).
        score: see `Completion`.
        error: one line that says why there is no caption.
    """

    text: str | None = None
    score: float | None = None
    error: str | None = None


def caption(
    model: FlamingoForConditionalGeneration,
    images: Iterable[Source],
    *,
    processor: FlamingoProcessor | None = None,
    shots: Sequence[Shot] = (),
    prompt: str = "",
    batch_size: int = 8,
    select: Select = "random",
    num_shots: int | None = None,
    max_new_tokens: int = MAX_NEW_TOKENS,
    seed: int = 0,
    workers: int = 0,
) -> Iterator[Caption]:
    """Caption pictures one batch after the other, in their order; a picture that fails does not stop the others.

    Pictures with the same content are captioned once. Shots that are the same for all pictures are read once.

    Args:
        processor: None loads the one saved beside the model.
        shots: pictures with captions to imitate.
        prompt: words that the model goes on from.
        batch_size: pictures at once.
        select: show a "random" choice of shots, the same for all pictures, or for each picture the most "similar".
        num_shots: how many shots are shown; None is as many as the language model has positions for.
        max_new_tokens: where a caption that does not end is cut.
        seed: of the random choice.
        workers: processes that open pictures ahead of the model; 0 opens each when it is needed.

    Raises:
        PromptError: for a special token typed into the prompt or a shot, or a prompt too long to answer.
        PictureError: for a shot's picture that cannot be opened.
    """
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
    pictures = decoded(images, captioner.context.processor.image_processor, workers=workers)
    return (
        Caption(error=outcome.error) if outcome.label is None else Caption(**vars(outcome.label))
        for batch in outcomes(captioner, pictures, batch_size=batch_size, known={})
        for outcome in batch
    )


@dataclass(frozen=True, kw_only=True)
class Captioner:
    """Captions batches of pictures."""

    context: Context
    max_new_tokens: int = MAX_NEW_TOKENS

    @classmethod
    def of(
        cls,
        model: FlamingoForConditionalGeneration,
        processor: FlamingoProcessor | None,
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
            processor=processor or FlamingoProcessor.from_pretrained(model.name_or_path),
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
