"""What Perceiver IO, Memformer and Linformer share: attention to any sequence, and a feed-forward with biases."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from flamingo_app.attention import GatedUnit, attend, merge_heads, split_heads
from flamingo_app.errors import ConfigError


class Attention(nn.Module):
    """Multi-head attention of one sequence to another (Vaswani et al. 2017, section 3.2.2).

    Args:
        dim: width of the sequence that asks, and of the result.
        dim_context: width of the sequence that is read; None is `dim`.
        heads: attention heads.
        dim_head: size of a head; None is `dim / heads`.
        bias: biases on queries, keys and values; the output has one always.

    Raises:
        ConfigError: `dim` cannot be cut into so many heads.
    """

    def __init__(
        self, dim: int, dim_context: int | None = None, *, heads: int, dim_head: int | None = None, bias: bool = False
    ) -> None:
        super().__init__()
        inner = heads * (head_size(dim, heads) if dim_head is None else dim_head)
        self.heads = heads
        self.to_q = nn.Linear(dim, inner, bias=bias)
        self.to_kv = nn.Linear(dim if dim_context is None else dim_context, 2 * inner, bias=bias)
        self.to_out = nn.Linear(inner, dim)

    def forward(
        self,
        x: Float[Tensor, "batch tokens dim"],
        context: Float[Tensor, "batch keys dim_context"],
        visible: Bool[Tensor, "#batch #tokens keys"] | None = None,
        bias: Float[Tensor, "heads tokens keys"] | None = None,
    ) -> Float[Tensor, "batch tokens dim"]:
        queries = split_heads(self.to_q(x), self.heads)
        keys, values = (split_heads(half, self.heads) for half in self.to_kv(context).chunk(2, dim=-1))
        return self.to_out(merge_heads(attend(queries, keys, values, visible, bias)))


def head_size(dim: int, heads: int) -> int:
    """Width of a head when `dim` is cut into `heads`."""
    if dim % heads:
        raise ConfigError(
            expected=f"a width that {heads} heads divide", got=str(dim), remedy="change the width or the heads"
        )
    return dim // heads


class FeedForward(nn.Sequential):
    """Layer norm, and a hidden layer `mult` times as wide; `gated` by a GEGLU as in Perceiver IO."""

    def __init__(self, dim: int, mult: int = 4, *, gated: bool = False) -> None:
        hidden = mult * dim
        super().__init__(
            nn.LayerNorm(dim),
            nn.Linear(dim, 2 * hidden if gated else hidden),
            GatedUnit(F.gelu) if gated else nn.GELU(),
            nn.Linear(hidden, dim),
        )
