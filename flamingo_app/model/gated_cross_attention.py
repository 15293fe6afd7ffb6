"""Text looks at pictures: gated cross-attention beside a frozen decoder layer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from flamingo_app.attention import FeedForward, attend, attention_weights, make_norm, merge_heads, split_heads
from flamingo_app.config import GatedConfig
from flamingo_app.model.cache import MediaLayer


@dataclass(frozen=True)
class Trace:
    """What tokens take of what they may see, in one block after the other, times its gate.

    Attributes:
        at: the rows and the tokens in them that are followed, one beside the other; None: all tokens of all rows.
        taken: for each block (batch tokens latents), or (followed latents) of those that are followed.
    """

    at: tuple[Int[Tensor, " followed"], Int[Tensor, " followed"]] | None = None
    taken: list[Tensor] = field(default_factory=list)

    def attended(self, queries: Tensor, keys: Tensor, visible: Bool[Tensor, "batch tokens keys"]) -> None:
        """Note what tokens took in a block, before its gate; of those that are not followed nothing is computed."""
        if self.at is None:
            self.taken.append(attention_weights(queries, keys, visible))
            return
        rows, tokens = self.at
        weights = attention_weights(queries[rows, :, tokens, None], keys[rows], visible[rows, tokens, None])
        self.taken.append(weights[:, 0])

    def gated(self, gate: Tensor) -> None:
        """Note the gate of that block."""
        self.taken[-1] = gate.abs().mean() * self.taken[-1]


@dataclass(frozen=True)
class MemoryView:
    """A memory as the blocks that read it see it: made once, and read at every token until the memory changes.

    Attributes:
        blocks: keys and values of the slots and of the one that holds nothing, for each block.
        readable: which of these may be read.
        trace: where each block leaves what its tokens took of each; None: nobody looks.
    """

    blocks: tuple[MediaLayer, ...]
    readable: Bool[Tensor, "batch readable"]
    trace: Trace | None = None

    def read(self, ordinal: int, block: GatedCrossAttentionBlock, x: Tensor, scale: float) -> Tensor:
        """What the tokens become by reading it; a view of one conversation serves any number of rows.

        A memory in which nothing was written is none: there the feed-forward counts for nothing either.
        """
        visible = self.readable[:, None].expand(len(x), x.shape[1], -1)
        layer = self.blocks[ordinal]
        keys, values = (cast(Tensor, half).expand(len(x), -1, -1, -1) for half in (layer.keys, layer.values))
        read = block(x, None, visible, MediaLayer.of(keys, values), scale, self.trace)
        return torch.where(visible.any(dim=-1, keepdim=True), read, x)


@dataclass(frozen=True)
class MediaContext:
    """What one call of the model lets its tokens see; it travels through the call and is never kept.

    Attributes:
        media: latents of the pictures new in this call, side by side; None if there are none.
        visible: which token sees which latent, cached latents first; None if no picture was ever given.
        cached: for each gated block the keys and values of earlier pictures; empty without a cache.
        gate_scale: what the gates are multiplied with; 0 is the plain language model.
        trace: where each block leaves what its tokens took of each latent; None: nobody looks.
        memory: what has left the window; None is the model without memory.
    """

    media: Float[Tensor, "batch new_latents dim"] | None
    visible: Bool[Tensor, "batch tokens latents"] | None
    cached: tuple[MediaLayer, ...] = ()
    gate_scale: float = 1.0
    trace: Trace | None = None
    memory: MemoryView | None = None


class MaskedCrossAttention(nn.Module):
    """Each token attends to the media latents that it may see; with none to see the result is exactly zero."""

    def __init__(self, dim: int, dim_media: int, config: GatedConfig) -> None:
        super().__init__()
        inner = config.heads * config.dim_head
        self.heads = config.heads
        self.norm = make_norm(dim, config.rms_norm_eps)
        self.to_q = nn.Linear(dim, inner, bias=False)
        self.to_kv = nn.Linear(dim_media, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, dim, bias=False)
        self.norm_q = make_norm(config.dim_head, config.rms_norm_eps) if config.qk_norm else nn.Identity()
        self.norm_k = make_norm(config.dim_head, config.rms_norm_eps) if config.qk_norm else nn.Identity()

    def forward(
        self,
        x: Float[Tensor, "batch tokens dim"],
        media: Float[Tensor, "batch new_latents dim_media"] | None,
        visible: Bool[Tensor, "batch tokens latents"],
        cached: MediaLayer | None = None,
        trace: Trace | None = None,
    ) -> Float[Tensor, "batch tokens dim"]:
        queries = self.norm_q(split_heads(self.to_q(self.norm(x)), self.heads))
        keys, values = self.keys_and_values(media, cached)
        if trace is not None:
            trace.attended(queries, keys, visible)
        return self.to_out(merge_heads(attend(queries, keys, values, visible)))

    def keys_and_values(self, media: Tensor | None, cached: MediaLayer | None) -> tuple[Tensor, Tensor]:
        """Of all pictures; a picture is projected in the call that brings it, and never again."""
        if media is None:  # then something visible came earlier
            earlier = cast(Any, cached)
            return earlier.keys, earlier.values
        keys, values = (split_heads(half, self.heads) for half in self.to_kv(media).chunk(2, dim=-1))
        keys = self.norm_k(keys)
        return (keys, values) if cached is None else cached.update(keys, values)


class GatedCrossAttentionBlock(GradientCheckpointingLayer):
    """Cross-attention and feed-forward behind tanh gates that start closed (Alayrac et al. 2022, section 3.1.2).

    At gates of zero the block is the identity, so the model starts as its language model.
    """

    def __init__(self, dim: int, dim_media: int, config: GatedConfig) -> None:
        super().__init__()
        self.attention = MaskedCrossAttention(dim, dim_media, config)
        self.feed_forward = FeedForward(dim, config.ff_mult, config.activation, config.rms_norm_eps)
        gate = (dim,) if config.vector_gates else ()
        self.attn_gate = nn.Parameter(torch.zeros(gate))
        self.ff_gate = nn.Parameter(torch.zeros(gate))

    def forward(
        self,
        x: Float[Tensor, "batch tokens dim"],
        media: Float[Tensor, "batch new_latents dim_media"] | None,
        visible: Bool[Tensor, "batch tokens latents"] | None,
        cached: MediaLayer | None = None,
        gate_scale: float = 1.0,
        trace: Trace | None = None,
    ) -> Float[Tensor, "batch tokens dim"]:
        """The feed-forward runs also where nothing is seen: later pictures must not change what earlier text became."""
        if visible is not None:
            gate = gate_scale * self.attn_gate.tanh()
            x = x + gate * self.attention(x, media, visible, cached, trace)
            if trace is not None:
                trace.gated(gate)
        return x + gate_scale * self.ff_gate.tanh() * self.feed_forward(x)


def opening(gate: Tensor) -> float:
    """How far a gate is open, -1 to 1: 0 is closed. Of a vector of gates the mean of how far, whatever the sign."""
    opened = gate.detach().float().tanh()
    return (opened.abs().mean() if opened.ndim else opened).item()
