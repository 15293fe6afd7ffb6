"""Multi-head attention over a boolean mask, and the feed-forward that follows it everywhere here."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers.activations import ACT2FN

from flamingo_app.config import Activation


def split_heads(x: Float[Tensor, "batch tokens width"], heads: int) -> Float[Tensor, "batch heads tokens dim"]:
    """Cut the width into heads."""
    return rearrange(x, "batch tokens (heads dim) -> batch heads tokens dim", heads=heads)


def merge_heads(x: Float[Tensor, "batch heads tokens dim"]) -> Float[Tensor, "batch tokens heads*dim"]:
    """Put the heads side by side again."""
    return rearrange(x, "batch heads tokens dim -> batch tokens (heads dim)")


def attend(
    queries: Float[Tensor, "batch heads tokens dim"],
    keys: Float[Tensor, "batch heads keys dim"],
    values: Float[Tensor, "batch heads keys dim"],
    visible: Bool[Tensor, "#batch #tokens keys"] | None = None,
    bias: Float[Tensor, "heads tokens keys"] | None = None,
) -> Float[Tensor, "batch heads tokens dim"]:
    """Scaled dot-product attention, `bias` added to its logits; a token that sees no key gets exactly zero.

    What is hidden is minus infinity: with a large negative number instead, such a token would get the average of all
    values.
    """
    mask = None if visible is None else rearrange(visible, "batch tokens keys -> batch 1 tokens keys")
    if bias is not None:
        mask = bias[None] if mask is None else bias.masked_fill(~mask, float("-inf"))
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)


def attention_weights(
    queries: Float[Tensor, "batch heads tokens dim"],
    keys: Float[Tensor, "batch heads keys dim"],
    visible: Bool[Tensor, "#batch #tokens keys"] | None = None,
) -> Float[Tensor, "batch tokens keys"]:
    """How much each token takes of each key in `attend`, on average over the heads; zeros where it sees none."""
    logits = queries @ keys.transpose(-1, -2) / queries.shape[-1] ** 0.5
    if visible is not None:
        logits = logits.masked_fill(~rearrange(visible, "batch tokens keys -> batch 1 tokens keys"), float("-inf"))
    return logits.softmax(dim=-1).nan_to_num(0.0).mean(dim=1)


class GatedUnit(nn.Module):
    """One half of the width, through an activation, gates the other (Shazeer 2020, "GLU variants", section 2)."""

    def __init__(self, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, x: Float[Tensor, "*batch double_width"]) -> Float[Tensor, "*batch width"]:
        x, gates = x.chunk(2, dim=-1)
        return x * self.activation(gates)


class FeedForward(nn.Sequential):
    """A norm, and a hidden layer `mult` times as wide, without biases (Alayrac et al. 2022, appendix A.1)."""

    def __init__(
        self, dim: int, mult: int | float, activation: Activation = "gelu", rms_norm_eps: float | None = None
    ) -> None:
        hidden, gated = round(mult * dim), activation == "swiglu"
        super().__init__(
            make_norm(dim, rms_norm_eps),
            nn.Linear(dim, 2 * hidden if gated else hidden, bias=False),
            GatedUnit(F.silu) if gated else ACT2FN[activation],
            nn.Linear(hidden, dim, bias=False),
        )


def make_norm(dim: int, rms_norm_eps: float | None = None) -> nn.Module:
    """A layer norm; an RMS norm where an epsilon for it is given."""
    return nn.LayerNorm(dim) if rms_norm_eps is None else nn.RMSNorm(dim, eps=rms_norm_eps)
