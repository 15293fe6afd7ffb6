"""One cache for text and media.

    Cache.layers:  keys and values of each decoder layer          (Hugging Face's own)
                   timeline         how many pictures came before  (batch 1 tokens 1), each text token
                   media ordinals   which picture it belongs to    (batch 1 latents 1), each media latent; 0: padding
                   keys and values of the media, each gated block  (batch heads latents dim)

Being layers of the library's cache, all of them are reordered, repeated and cropped by the library.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import cast

import torch
from einops import rearrange
from jaxtyping import Bool, Int
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from flamingo_app.config import Attend


class Timeline(DynamicLayer):
    """Grows and is cropped with the text."""


class MediaLayer(DynamicLayer):
    """Grows with the pictures; cropping text leaves it alone."""

    @classmethod
    def of(cls, keys: Tensor, values: Tensor) -> MediaLayer:
        """A layer that holds these, not a copy of them."""
        layer = cls()
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = keys, values
        return layer

    def crop(self, tokens_to_remove: int) -> None:
        pass


@dataclass(frozen=True)
class MediaCache:
    """Our layers of a cache."""

    timeline: Timeline
    ordinals: MediaLayer
    blocks: tuple[MediaLayer, ...]

    @classmethod
    def within(cls, cache: Cache, num_layers: int, num_blocks: int) -> MediaCache:
        """Find our layers behind the language model's `num_layers`; a cache that has none gets them."""
        if cache.layer_class_to_replicate is not None:  # a cache made without a config makes its layers on demand
            cache.layers += [cache.layer_class_to_replicate() for _ in range(num_layers - len(cache.layers))]
            cache.layer_class_to_replicate = None
        if len(cache.layers) == num_layers:
            cache.layers += [Timeline(), MediaLayer(), *(MediaLayer() for _ in range(num_blocks))]
        timeline, ordinals, *blocks = cache.layers[num_layers:]
        return cls(cast(Timeline, timeline), cast(MediaLayer, ordinals), tuple(cast("list[MediaLayer]", blocks)))

    def images_seen(self) -> Int[Tensor, " batch"] | None:
        """How many pictures the cached text holds; None while there is no text."""
        times = self.timeline.keys
        return None if times is None or not times.numel() else times[:, 0, -1, 0]

    def extend(self, text_time: Int[Tensor, "batch tokens"], ordinals: Int[Tensor, "batch latents"] | None) -> None:
        """Append the times of new tokens and the ordinals of new latents."""
        self._forget_cropped_images()
        times = rearrange(text_time, "batch tokens -> batch 1 tokens 1")
        self.timeline.update(times, times)
        if ordinals is not None:
            new = rearrange(ordinals, "batch latents -> batch 1 latents 1")
            self.ordinals.update(new, new)

    def all_ordinals(self) -> Int[Tensor, "batch latents"] | None:
        """Of every latent, cached and new; None while no picture was given."""
        ordinals = self.ordinals.keys
        return None if ordinals is None else ordinals[:, 0, :, 0]

    def _forget_cropped_images(self) -> None:
        """Blind the latents of pictures whose text was cropped: the next picture takes over their ordinals."""
        ordinals, seen = self.all_ordinals(), self.images_seen()
        if ordinals is not None:
            limit = torch.zeros_like(ordinals[:, :1]) if seen is None else seen[:, None]
            kept = rearrange(ordinals.masked_fill(ordinals > limit, 0), "batch latents -> batch 1 latents 1")
            self.ordinals.keys = self.ordinals.values = kept


def first_tokens(cache: Cache, num_tokens: int, num_layers: int) -> Cache | None:
    """A cache of one row's first tokens and of their pictures; the given one stays as it is, whoever else reads it.

    Args:
        cache: what `generate` or `forward` of this model has filled, of one row.
        num_tokens: how many tokens of it, at least one.
        num_layers: decoder layers of the language model.

    Returns:
        None where the language model's layers keep a sliding window, which cannot be cut.
    """
    part = copy.copy(cache)
    part.layers = [copy.copy(layer) for layer in cache.layers]
    surplus = cache.get_seq_length() - num_tokens
    if surplus and not all(getattr(layer, "is_croppable", False) for layer in part.layers):
        return None
    part.crop(-surplus)
    media = MediaCache.within(part, num_layers, 0)
    ordinals, seen = media.all_ordinals(), media.images_seen()
    if ordinals is not None:
        count = int((ordinals <= (0 if seen is None else seen[:, None])).sum())
        if count < ordinals.shape[1]:  # copied: a view would keep the keys and values of all the others
            for layer in (media.ordinals, *media.blocks):
                layer.keys = cast(Tensor, layer.keys)[..., :count, :].clone()
                layer.values = cast(Tensor, layer.values)[..., :count, :].clone()
    return part


def num_bytes(cache: Cache) -> int:
    """What the tensors of a cache take."""
    layers = (cast(DynamicLayer, layer) for layer in cache.layers)
    pairs = ((layer.keys, layer.values) for layer in layers if layer.is_initialized)
    return sum(cast(Tensor, tensor).nbytes for pair in pairs for tensor in pair)


def repeated(cache: Cache, times: int) -> Cache:
    """A cache with each row so many times, side by side; the given one stays as it is."""
    more = copy.copy(cache)
    more.layers = [copy.copy(layer) for layer in cache.layers]
    more.batch_repeat_interleave(times)
    return more


def text_time(
    is_image: Bool[Tensor, "batch tokens"], seen: Int[Tensor, " batch"] | None
) -> Int[Tensor, "batch tokens"]:
    """How many pictures each token has come after, its own included, counting the `seen` before this call."""
    time = is_image.long().cumsum(dim=1)
    return time if seen is None else time + seen[:, None]


def media_ordinals(
    image_mask: Bool[Tensor, "batch images"], seen: Int[Tensor, " batch"] | None, latents: int
) -> Int[Tensor, "batch images*{latents}"]:
    """For each latent the ordinal of its picture, counted from 1 over the whole text; 0 for pictures that pad a row."""
    ordinals = text_time(image_mask, seen) * image_mask
    return ordinals.repeat_interleave(latents, dim=1)


def visible_media(
    time: Int[Tensor, "batch tokens"],
    ordinals: Int[Tensor, "batch latents"],
    attend: Attend,
    is_image: Bool[Tensor, "batch tokens"],
) -> Bool[Tensor, "batch tokens latents"]:
    """Which token sees which latent.

    Those of the "latest" picture before it, or of "all_previous" ones; then never of a later one. Or those of the
    "next" picture in the same call, where the token is not itself the place of one.
    """
    if attend == "next":
        time = time + ~is_image
    time, ordinals = time[:, :, None], ordinals[:, None, :]
    return (ordinals > 0) & (ordinals <= time if attend == "all_previous" else ordinals == time)
