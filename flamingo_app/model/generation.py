"""Speaking: Hugging Face's `generate` over a cache that also holds pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor
from transformers import GenerationConfig, GenerationMixin
from transformers.cache_utils import Cache

from flamingo_app.checks import check_length
from flamingo_app.config import FlamingoConfig
from flamingo_app.errors import PromptError
from flamingo_app.model.cache import repeated

PICTURES = ("pixel_values", "image_mask", "patches", "latents")
"""Keywords of `forward` that bring new pictures."""

LIBRARY_MAX_NEW_TOKENS = 20
"""How long an answer gets where nobody says."""


class MediaGenerationMixin(GenerationMixin):
    """What `generate` must know about pictures: encode them once, show them once, and keep them with their text."""

    config: FlamingoConfig

    @torch.no_grad()
    def generate(  # pyright: ignore[reportIncompatibleMethodOverride]  # the library's signature changes by version
        self,
        inputs: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        *,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Any,
    ) -> Any:
        """As `transformers.GenerationMixin.generate`, with the pictures of `forward`.

        A text may go on from a cache: pass all of its tokens or only the new ones, the attention mask of the whole, and
        the new pictures alone. The answer ends at the latest where the language model's positions do.

        Raises:
            PromptError: no position is left for an answer, or the cache holds the whole text already.
        """
        ids = cast(Tensor, inputs if input_ids is None else input_ids)
        length = self._whole_length(ids, kwargs.get("attention_mask"), past_key_values)
        kwargs |= self._within_positions(ids.shape[1], length, generation_config or self.generation_config, kwargs)
        if pixel_values is not None:  # once, before beams repeat the pictures
            seen = cast(Any, self).images_seen(past_key_values)
            kwargs["latents"] = cast(Any, self).encode_images(pixel_values.to(ids.device), seen)
        if past_key_values is not None:
            kwargs["past_key_values"] = past_key_values
        return cast(Any, super()).generate(ids, generation_config, **kwargs)

    def _whole_length(self, ids: Tensor, attention_mask: Tensor | None, cache: Cache | None) -> int:
        """Tokens of cached and new text together."""
        length = ids.shape[1] if attention_mask is None else attention_mask.shape[1]
        cached = 0 if cache is None else cache.get_seq_length()
        if length <= cached:
            raise PromptError(
                expected=f"more than the {cached} tokens in the cache",
                got=f"{length}",
                remedy="pass the whole text's attention mask, and crop the cache to leave at least one token to read",
            )
        return length

    def _within_positions(
        self, num_given: int, length: int, defaults: GenerationConfig, given: Mapping[str, Any]
    ) -> dict[str, int]:
        """Limits on the answer that keep it inside the language model's positions."""
        most = self.config.max_positions
        if most is None:
            return {}
        check_length(length + 1, most)
        room = most - length
        max_new_tokens = given.get("max_new_tokens") or defaults.max_new_tokens
        max_length = given.get("max_length") or defaults.max_length  # which counts the tokens given in this call
        if max_new_tokens is None and max_length is not None:
            return {"max_length": min(max_length, num_given + room)}
        return {"max_new_tokens": min(max_new_tokens or LIBRARY_MAX_NEW_TOKENS, room)}

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, *args: Any, is_first_iteration: bool = False, **kwargs: Any
    ) -> dict[str, Any]:
        """Pictures go in with the prompt; later steps have them in the cache."""
        # The library looks for a parameter called `kwargs` to learn that `forward`'s keywords are taken.
        pictures = {name: kwargs.pop(name, None) for name in PICTURES}
        kwargs.pop("tokenizer", None)  # that of stop strings, which it hands on to every model
        prepared = cast(Any, super()).prepare_inputs_for_generation(
            input_ids, *args, is_first_iteration=is_first_iteration, **kwargs
        )
        if is_first_iteration or not kwargs.get("use_cache", True):
            prepared |= {name: value for name, value in pictures.items() if value is not None}
        return prepared

    def _expand_inputs_for_generation(self, expand_size: int = 1, **kwargs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Repeat a given cache for beams, which the library forgets; the caller's own stays as it is."""
        cache: Cache | None = kwargs.get("past_key_values")
        if expand_size > 1 and cache is not None and cache.get_seq_length():
            kwargs["past_key_values"] = repeated(cache, expand_size)
        return cast(Any, super())._expand_inputs_for_generation(expand_size=expand_size, **kwargs)
