"""Prompts that no model can read, refused with one clear line."""

from __future__ import annotations

from jaxtyping import Bool
from torch import Tensor

from flamingo_app.errors import PromptError


def check_length(num_tokens: int, max_positions: int | None) -> None:
    """Raise `PromptError` where there are more tokens than positions."""
    if max_positions is not None and num_tokens > max_positions:
        raise PromptError(
            expected=f"at most {max_positions} tokens",
            got=str(num_tokens),
            remedy="shorten the text, or leave out shots or earlier turns",
        )


def check_mask(attention_mask: Tensor | None, num_tokens: int) -> None:
    """Raise `PromptError` where the mask does not cover cached and new tokens."""
    if attention_mask is not None and attention_mask.shape[-1] != num_tokens:
        raise PromptError(
            expected=f"an attention mask over {num_tokens} tokens, cached and new",
            got=f"one over {attention_mask.shape[-1]}",
            remedy="pass the mask of the whole text, not only of its new part",
        )


def check_images(is_image: Bool[Tensor, "batch tokens"], image_mask: Bool[Tensor, "batch images"] | None) -> None:
    """Raise `PromptError` where a row's new pictures are not as many as its new `<image>` tokens."""
    places = is_image.sum(dim=1)
    pictures = places.new_zeros(len(places)) if image_mask is None else image_mask.sum(dim=1)
    for row in (places != pictures).nonzero().flatten().tolist()[:1]:
        raise PromptError(
            expected=f"as many pictures as <image> places ({places[row]})",
            got=f"{pictures[row]} in row {row} of the batch",
            remedy="give one picture for each place, and only those that are new",
        )
