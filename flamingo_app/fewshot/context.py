"""What the model is shown before it speaks: the shots, the picture, and words to begin with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from flamingo_app.fewshot.completion import Asked, Prefix
from flamingo_app.fewshot.index import AT_ONCE, Index, index_folder
from flamingo_app.fewshot.retrieval import Select, check_select, random_shots, similar_shots
from flamingo_app.fewshot.shots import Shot
from flamingo_app.images import Source
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.processing import FlamingoProcessor
from flamingo_app.prompt import caption_prompt, encode, refuse_special_tokens, shots_prompt

Place = tuple[int, int]
"""A shot, and how many pictures stand before it where the model asks for that; else 0."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """Shots before pictures. Shots are encoded once, and read once where they are the same for every picture.

    Args:
        shots: pictures with their texts.
        lead_in: words after the picture that the answer goes on from.
        select: see `retrieval`.
        num_shots: how many are shown; None is as many as there are positions for.
        room: tokens that an answer may need.
        seed: of the random choice.
        pictured: whether the shots' pictures are shown, or their texts alone.

    Raises:
        PromptError: for a special token typed into the lead-in or a shot.
        ConfigError: for a way to select that there is none of.
    """

    model: FlamingoForConditionalGeneration
    processor: FlamingoProcessor
    shots: Sequence[Shot]
    lead_in: str = ""
    select: Select = "random"
    num_shots: int | None = None
    room: int = 32
    seed: int = 0
    pictured: bool = True
    _encoded: dict[Place, Tensor] = field(default_factory=dict[Place, Tensor], init=False)
    _prefixes: dict[int | None, Prefix] = field(default_factory=dict[int | None, Prefix], init=False)

    def __post_init__(self) -> None:
        for words in (self.lead_in, *(shot.text for shot in self.shots)):
            refuse_special_tokens(words)
        check_select(self.select)

    def ask(self, pictures: Float[Tensor, "pictures 3 height width"], order: int | None = None) -> Asked:
        """Prompts of pictures, given as pixel values.

        Args:
            order: None for the shots' own order; a number for a random choice in a random order, another for each.
        """
        if self._is_shared:
            own = self.latents(pictures, [self._num_pictured(self._chosen(order))] * len(pictures))
            query = caption_prompt(lead_in=self.lead_in)
            prefix = self._prefix(order) if self.shots else None
            return Asked(prompts=[query] * len(own), latents=list(own[:, None]), prefix=prefix)
        rows = self._rows(pictures, order)
        own = self.latents(pictures, [self._num_pictured(row) for row in rows])
        return Asked(
            prompts=[caption_prompt(self._texts(row), lead_in=self.lead_in, pictured=self.pictured) for row in rows],
            latents=[
                torch.cat([self._shot_latents(row), picture[None]]) if row and self.pictured else picture[None]
                for row, picture in zip(rows, own, strict=True)
            ],
        )

    @property
    def _is_shared(self) -> bool:
        """Whether all pictures come after the same text, and nothing in it sees them."""
        return self.select == "random" and self.model.config.attend != "next"

    def _rows(self, pictures: Tensor, order: int | None) -> list[list[int]]:
        """Which shots each picture is shown after."""
        if not self.shots or self.select == "random":
            return [self._chosen(order)] * len(pictures)
        return [
            similar_shots(picture, self._shot_embeddings, self._lengths, self._room, self.num_shots)
            for picture in self._embeddings(pictures)
        ]

    def _chosen(self, order: int | None) -> list[int]:
        if order is None:
            return sorted(random_shots(self._lengths, self._room, self.num_shots, seed=self.seed))
        return random_shots(self._lengths, self._room, self.num_shots, seed=f"{self.seed} {order}")

    def _prefix(self, order: int | None) -> Prefix:
        if order not in self._prefixes:
            chosen = self._chosen(order)
            prompt = shots_prompt(self._texts(chosen), pictured=self.pictured)
            latents = self._shot_latents(chosen) if self.pictured else None
            self._prefixes[order] = Prefix.read(self.model, self.processor, prompt, latents)
        return self._prefixes[order]

    def _texts(self, row: Sequence[int]) -> list[str]:
        return [self.shots[shot].text for shot in row]

    @cached_property
    def _lengths(self) -> list[int]:
        """Tokens of each shot; a prompt is cut into tokens piece by piece, so that they add up."""
        prompts = [shots_prompt([shot.text], pictured=self.pictured) for shot in self.shots]
        return [len(encode(prompt, self.processor.tokenizer)) for prompt in prompts]

    @cached_property
    def _room(self) -> int | float:
        """Tokens that are left for shots."""
        query = encode(caption_prompt(lead_in=self.lead_in), self.processor.tokenizer)
        return (self.model.config.max_positions or math.inf) - len(query) - self.room

    def _shot_latents(self, row: Sequence[int]) -> Float[Tensor, "shots latents dim"]:
        """Each is encoded when it is first shown in its place."""
        last = (self.model.config.resampler.max_images or 1) - 1  # from there on all places are the same
        places = [(shot, min(place, last)) for place, shot in enumerate(row)]
        new = [place for place in dict.fromkeys(places) if place not in self._encoded]
        for start in range(0, len(new), AT_ONCE):
            part = new[start : start + AT_ONCE]
            pixels = self._pixels([self.shots[shot].image for shot, _ in part])
            self._encoded.update(zip(part, self.latents(pixels, [before for _, before in part]), strict=True))
        return torch.stack([self._encoded[place] for place in places])

    def _num_pictured(self, row: Sequence[int]) -> int:
        """Pictures that stand before the one that is asked about."""
        return len(row) if self.pictured else 0

    @cached_property
    def _shot_embeddings(self) -> Float[Tensor, "shots embed_dim"]:
        index = Index.of(self.model, self.processor, index_folder())
        pictures = [shot.image for shot in self.shots]
        return index.embeddings(pictures, lambda part: self._embeddings(self._pixels(part))).to(self.model.device)

    def _pixels(self, pictures: Sequence[Source]) -> Float[Tensor, "pictures 3 height width"]:
        return self.processor.image_processor.pixels(pictures)

    @torch.inference_mode()
    def latents(
        self, pixels: Float[Tensor, "pictures 3 height width"], seen: Sequence[int]
    ) -> Float[Tensor, "pictures latents dim"]:
        """Media latents of single pictures, each after so many others."""
        pixels = pixels.to(self.model.device)[:, None, None]
        return self.model.encode_images(pixels, torch.tensor(seen, device=pixels.device))[:, 0]

    @torch.inference_mode()
    def _embeddings(self, pixels: Float[Tensor, "pictures 3 height width"]) -> Float[Tensor, "pictures embed_dim"]:
        return self.model.vision_encoder.pooled(pixels.to(self.model.device, self.model.dtype))
