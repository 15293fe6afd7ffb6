"""What a token looked at: its gated cross-attention, traced through the resampler to the patches of the pictures."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.model.gated_cross_attention import MemoryView, Trace


@torch.no_grad()
def look(
    model: FlamingoForConditionalGeneration,
    input_ids: Int[Tensor, "1 tokens"],
    pixel_values: Float[Tensor, "1 images 1 3 height width"],
    *,
    gate_scale: float = 1.0,
    memory: MemoryView | None = None,
) -> Float[Tensor, "tokens images patches"]:
    """How much each token of one text took of each patch of each of its pictures.

    Every gated block counts with its gate. A latent stands for patches as attention rollout says (Abnar and Zuidema
    2020): each resampler layer takes half from below and half from what it attends to.

    What they took of a memory is left in its own trace.
    """
    patches = model.vision_encoder(pixel_values.to(model.dtype))
    layers: list[Tensor] = []
    latents = model.resampler(patches, layers)
    trace = Trace()
    model(input_ids, latents=latents, gate_scale=gate_scale, trace=trace, memory=memory)
    taken = torch.stack(trace.taken).sum(dim=0)[0]
    by_picture = rearrange(taken, "tokens (images latents) -> images tokens latents", images=latents.shape[1])
    seen = by_picture @ rollout(layers, patches.shape[3])
    if model.config.vision_feature.keep_cls:
        seen = seen[..., 1:]
    return rearrange(seen, "images tokens patches -> tokens images patches")


def rollout(
    layers: list[Float[Tensor, "pictures latents keys"]], num_patches: int
) -> Float[Tensor, "pictures latents patches"]:
    """What each latent holds of each patch after all layers, rows that sum to one."""
    held = torch.zeros_like(layers[0][..., :num_patches])
    for weights in layers:
        of_patches, of_latents = weights[..., :num_patches], weights[..., num_patches:]
        held = (of_patches + of_latents @ held + held) / 2
    return held / held.sum(dim=-1, keepdim=True)
