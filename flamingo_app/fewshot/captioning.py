"""A caption for each picture of many, in the style of the shots."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from flamingo_app.errors import FlamingoError
from flamingo_app.fewshot.completion import Completion, complete
from flamingo_app.fewshot.retrieval import Select, check_select, random_shots, similar_shots
from flamingo_app.fewshot.shots import Shot
from flamingo_app.images import Source, open_picture
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.processing import FlamingoProcessor
from flamingo_app.prompt import caption_prompt, encode, refuse_special_tokens


@dataclass(frozen=True, kw_only=True)
class Caption:
    """What came of one picture: a text and its score, or an error.

    Args:
        text: what the model says after the prompt, up to the end of the chunk.
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
    max_new_tokens: int = 32,
    seed: int = 0,
) -> Iterator[Caption]:
    """Caption pictures one batch after the other, in their order; a picture that fails does not stop the others.

    Args:
        processor: None loads the one saved beside the model.
        shots: pictures with captions to imitate.
        prompt: words that the model goes on from.
        batch_size: pictures at once.
        select: show a "random" choice of shots, the same for all pictures, or for each picture the most "similar".
        num_shots: how many shots are shown; None is as many as the language model has positions for.
        max_new_tokens: where a caption that does not end is cut.
        seed: of the random choice.

    Raises:
        PromptError: for a special token typed into the prompt or a shot, or a prompt too long to answer.
        PictureError: for a shot's picture that cannot be opened.
    """
    for words in (prompt, *(shot.text for shot in shots)):
        refuse_special_tokens(words)
    check_select(select)
    captioner = Captioner(
        model=model,
        processor=processor or FlamingoProcessor.from_pretrained(model.name_or_path),
        shots=shots,
        lead_in=prompt,
        select=select,
        num_shots=num_shots,
        max_new_tokens=max_new_tokens,
        seed=seed,
    )
    return _captions(captioner, iter(images), batch_size)


def _captions(captioner: Captioner, images: Iterator[Source], batch_size: int) -> Iterator[Caption]:
    while batch := list(islice(images, batch_size)):
        opened = [_open(image) for image in batch]
        pictures = [picture for picture in opened if isinstance(picture, Image.Image)]
        said = iter(captioner(pictures) if pictures else ())
        for picture in opened:
            if isinstance(picture, FlamingoError):
                yield Caption(error=str(picture))
            else:
                completion = next(said)
                yield Caption(text=completion.text, score=completion.score)


def _open(image: Source) -> Image.Image | FlamingoError:
    try:
        return open_picture(image)
    except FlamingoError as error:
        return error


@dataclass(frozen=True, kw_only=True)
class Captioner:
    """Captions batches of pictures; see `caption`. The shots' pictures are encoded once."""

    model: FlamingoForConditionalGeneration
    processor: FlamingoProcessor
    shots: Sequence[Shot]
    lead_in: str
    select: Select
    num_shots: int | None
    max_new_tokens: int
    seed: int

    def __call__(self, pictures: Sequence[Image.Image]) -> list[Completion]:
        """What the model says after the lead-in, for each picture."""
        pixels = self._pixels(pictures)
        chosen = self._chosen(pixels)
        prompts = [caption_prompt([self.shots[shot].text for shot in row], lead_in=self.lead_in) for row in chosen]
        latents = [
            torch.stack([*(self._shot_latents[shot] for shot in row), own])
            for row, own in zip(chosen, self._latents(pixels), strict=True)
        ]
        return complete(self.model, self.processor, prompts, latents, max_new_tokens=self.max_new_tokens)

    def _chosen(self, pixels: Tensor) -> list[list[int]]:
        """Which shots each picture is shown after."""
        if not self.shots:
            return [[] for _ in pixels]
        if self.select == "random":
            chosen = random_shots(self._lengths, self._room, self.num_shots, seed=self.seed)
            return [chosen for _ in pixels]
        return [
            similar_shots(own, self._shot_embeddings, self._lengths, self._room, self.num_shots)
            for own in self._embeddings(pixels)
        ]

    @cached_property
    def _lengths(self) -> list[int]:
        """Tokens of each shot; a prompt is cut into tokens piece by piece, so that they add up."""
        return [self._length([shot.text]) - self._length([]) for shot in self.shots]

    @cached_property
    def _room(self) -> int | float:
        """Tokens that are left for shots."""
        return (self.model.config.max_positions or math.inf) - self._length([], self.lead_in) - self.max_new_tokens

    def _length(self, shots: Sequence[str], lead_in: str = "") -> int:
        return len(encode(caption_prompt(shots, lead_in=lead_in), self.processor.tokenizer))

    @cached_property
    def _shot_pixels(self) -> Tensor:
        return self._pixels([shot.image for shot in self.shots])

    @cached_property
    def _shot_latents(self) -> Tensor:
        return self._latents(self._shot_pixels)

    @cached_property
    def _shot_embeddings(self) -> Tensor:
        return self._embeddings(self._shot_pixels)

    def _pixels(self, pictures: Sequence[Source]) -> Float[Tensor, "pictures 3 height width"]:
        return self.processor.image_processor.pixels(pictures).to(self.model.device)

    @torch.inference_mode()
    def _latents(self, pixels: Float[Tensor, "pictures 3 height width"]) -> Float[Tensor, "pictures latents dim"]:
        return self.model.encode_images(pixels[:, None, None])[:, 0]

    @torch.inference_mode()
    def _embeddings(self, pixels: Float[Tensor, "pictures 3 height width"]) -> Float[Tensor, "pictures embed_dim"]:
        return self.model.vision_encoder.pooled(pixels.to(self.model.dtype))
