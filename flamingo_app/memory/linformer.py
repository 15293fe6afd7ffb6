"""Linformer: self-attention whose cost is linear in the length, because keys and values are few. Never causal."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from einops import einsum
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from flamingo_app.attention import attend, merge_heads, split_heads
from flamingo_app.checks import check_length
from flamingo_app.memory.attention import FeedForward, head_size
from flamingo_app.memory.reversible import ReversibleLayer, run_reversibly


@dataclass(frozen=True, kw_only=True)
class LinformerConfig:
    """Sizes of a Linformer.

    Attributes:
        dim: width of a token.
        max_tokens: longest sequence that can be read; a shorter one uses the first rows of the projections.
        num_projected: keys and values after projection, k in the paper.
        depth: layers.
        heads: attention heads.
        dim_head: size of a head; None is `dim / heads`.
        one_kv_head: all heads share one head of keys and values.
        share_kv: keys are values, and one projection serves both.
        reversible: trade a second computation for activations that do not grow with depth.
    """

    dim: int
    max_tokens: int
    num_projected: int = 256
    depth: int = 1
    heads: int = 8
    dim_head: int | None = None
    one_kv_head: bool = False
    share_kv: bool = False
    reversible: bool = False


class LinformerAttention(nn.Module):
    """Attention to `num_projected` mixtures of the keys and values (Wang et al. 2020, "Linformer", section 4)."""

    def __init__(self, config: LinformerConfig) -> None:
        super().__init__()
        dim_head = head_size(config.dim, config.heads) if config.dim_head is None else config.dim_head
        inner = config.heads * dim_head
        self.heads = config.heads
        self.kv_heads = 1 if config.one_kv_head else config.heads
        self.to_q = nn.Linear(config.dim, inner, bias=False)
        self.to_k = nn.Linear(config.dim, self.kv_heads * dim_head, bias=False)
        self.project_k = _projection(config)
        self.to_v = None if config.share_kv else nn.Linear(config.dim, self.kv_heads * dim_head, bias=False)
        self.project_v = None if config.share_kv else _projection(config)
        self.to_out = nn.Linear(inner, config.dim)

    def forward(
        self,
        x: Float[Tensor, "batch tokens dim"],
        context: Float[Tensor, "batch keys dim"] | None = None,
        mask: Bool[Tensor, "batch keys"] | None = None,
    ) -> Float[Tensor, "batch tokens dim"]:
        """Each token reads the context, or its own sequence.

        Args:
            x: what asks.
            context: what is read; None is x itself.
            mask: True where there is something to read. Padding adds nothing to the mixtures, so that a sequence
                padded on the right reads as it would without. (An addition: neither paper nor reference has a mask.)

        Raises:
            PromptError: more to read than the projections have rows.
        """
        source = x if context is None else context
        check_length(source.shape[1], len(self.project_k))
        keys = values = self._project(self.to_k(source), self.project_k, mask)
        if self.to_v is not None and self.project_v is not None:
            values = self._project(self.to_v(source), self.project_v, mask)
        return self.to_out(merge_heads(attend(split_heads(self.to_q(x), self.heads), keys, values)))

    def _project(
        self, source: Float[Tensor, "batch keys width"], projection: nn.Parameter, mask: Tensor | None
    ) -> Float[Tensor, "batch heads projected dim"]:
        if mask is not None:
            source = source.masked_fill(~mask[..., None], 0.0)
        rows = projection[: source.shape[1]]
        mixed = einsum(source, rows, "batch keys width, keys projected -> batch projected width")
        return split_heads(mixed, self.kv_heads).expand(-1, self.heads, -1, -1)


def _projection(config: LinformerConfig) -> nn.Parameter:
    bound = config.num_projected**-0.5
    return nn.Parameter(torch.empty(config.max_tokens, config.num_projected).uniform_(-bound, bound))


class LinformerLayer(nn.Module):
    """Attention and feed-forward, each normed before; what adds them up is the stack."""

    def __init__(self, config: LinformerConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.dim)
        self.attention = LinformerAttention(config)
        self.feed_forward = FeedForward(config.dim)

    def attend(
        self, x: Float[Tensor, "batch tokens dim"], mask: Bool[Tensor, "batch tokens"] | None
    ) -> Float[Tensor, "batch tokens dim"]:
        return self.attention(self.norm(x), mask=mask)

    def forward(
        self, x: Float[Tensor, "batch tokens dim"], mask: Bool[Tensor, "batch tokens"] | None
    ) -> Float[Tensor, "batch tokens dim"]:
        x = x + self.attend(x, mask)
        return x + self.feed_forward(x)

    def reversible(self, mask: Bool[Tensor, "batch tokens"] | None) -> ReversibleLayer:
        """The same two functions, for a stack that runs backwards."""
        return ReversibleLayer(
            f=partial(self.attend, mask=mask),
            g=self.feed_forward,
            f_parameters=[*self.norm.parameters(), *self.attention.parameters()],
            g_parameters=list(self.feed_forward.parameters()),
        )


class Linformer(nn.Module):
    """A stack of Linformer layers, plain or reversible."""

    def __init__(self, config: LinformerConfig) -> None:
        super().__init__()
        self.reversible = config.reversible
        self.layers = nn.ModuleList(LinformerLayer(config) for _ in range(config.depth))

    def forward(
        self, x: Float[Tensor, "batch tokens dim"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch tokens dim"]:
        """The tokens, having read each other; `mask` is True where there is a token."""
        if self.reversible:
            return run_reversibly(x, [cast(LinformerLayer, layer).reversible(mask) for layer in self.layers])
        for layer in self.layers:
            x = layer(x, mask)
        return x


class LinformerLM(nn.Module):
    """A masked language model: logits of every place, from all places."""

    def __init__(self, num_tokens: int, config: LinformerConfig) -> None:
        super().__init__()
        self.token_embeddings = nn.Embedding(num_tokens, config.dim)
        self.position_embeddings = nn.Embedding(config.max_tokens, config.dim)
        self.linformer = Linformer(config)
        self.to_logits = nn.Linear(config.dim, num_tokens)

    def forward(
        self, tokens: Int[Tensor, "batch tokens"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch tokens num_tokens"]:
        """Logits of every place.

        Raises:
            PromptError: more tokens than positions.
        """
        check_length(tokens.shape[1], self.position_embeddings.num_embeddings)
        x = self.token_embeddings(tokens) + self.position_embeddings.weight[: tokens.shape[1]]
        return self.to_logits(self.linformer(x, mask))
