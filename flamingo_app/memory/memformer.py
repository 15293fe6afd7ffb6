"""Memformer: a transformer that reads its past from a few slots, and rewrites them after each segment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from flamingo_app.memory.attention import Attention, FeedForward
from flamingo_app.memory.memory_update import MemoryUpdate
from flamingo_app.memory.position_bias import RelativePositionBias


@dataclass(frozen=True, kw_only=True)
class MemformerConfig:
    """Sizes of a Memformer.

    Attributes:
        dim: width of tokens and slots.
        num_slots: slots of the memory.
        num_tokens: vocabulary of the source.
        depth: layers of the encoder.
        heads: attention heads of the encoder.
        num_updates: how often the slots are updated after a segment.
        update_heads: attention heads of the update.
        num_target_tokens: vocabulary of the target; None makes an encoder without a decoder.
        target_depth: layers of the decoder.
        target_heads: attention heads of the decoder.
    """

    dim: int
    num_slots: int
    num_tokens: int
    depth: int
    heads: int = 8
    num_updates: int = 1
    update_heads: int = 8
    num_target_tokens: int | None = None
    target_depth: int = 1
    target_heads: int = 8


class MemformerLayer(nn.Module):
    """Self-attention, cross-attention to the context, feed-forward; each normed before and residual."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.self_norm = nn.LayerNorm(dim)
        self.self_attention = Attention(dim, heads=heads, bias=True)
        self.cross_norm = nn.LayerNorm(dim)
        self.cross_attention = Attention(dim, heads=heads, bias=True)
        self.feed_forward = FeedForward(dim)

    def forward(
        self,
        x: Float[Tensor, "batch tokens dim"],
        context: Float[Tensor, "batch keys dim"],
        visible: Bool[Tensor, "#batch #tokens tokens"] | None,
        visible_context: Bool[Tensor, "batch 1 keys"] | None,
        bias: Float[Tensor, "heads tokens tokens"],
    ) -> Float[Tensor, "batch tokens dim"]:
        normed = self.self_norm(x)
        x = x + self.self_attention(normed, normed, visible, bias)
        x = x + self.cross_attention(self.cross_norm(x), context, visible_context)
        return x + self.feed_forward(x)


class MemformerStack(nn.Module):
    """The encoder's layers, which read slots, or the decoder's, which are causal and read what the encoder made.

    (Wu et al. 2022, "Memformer", section 3.2 and figure 2.)

    Args:
        dim: width of tokens and context.
        depth: number of layers.
        heads: attention heads.
        causal: a token sees no later one.
        both_directions: see `RelativePositionBias`.
    """

    def __init__(self, dim: int, depth: int, heads: int, *, causal: bool, both_directions: bool) -> None:
        super().__init__()
        self.causal = causal
        self.position_bias = RelativePositionBias(heads, both_directions=both_directions)
        self.layers = nn.ModuleList(MemformerLayer(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def forward(
        self,
        x: Float[Tensor, "batch tokens dim"],
        context: Float[Tensor, "batch keys dim"],
        mask: Bool[Tensor, "batch tokens"] | None = None,
        context_mask: Bool[Tensor, "batch keys"] | None = None,
    ) -> Float[Tensor, "batch tokens dim"]:
        """The tokens, having read each other and the context; the masks are True where there is something to read."""
        num_tokens = x.shape[1]
        visible = None if mask is None else mask[:, None]
        if self.causal:
            past = torch.ones(num_tokens, num_tokens, dtype=torch.bool, device=x.device).tril()[None]
            visible = past if visible is None else past & visible
        visible_context = None if context_mask is None else context_mask[:, None]
        bias = self.position_bias(num_tokens, num_tokens)
        for layer in self.layers:
            x = layer(x, context, visible, visible_context, bias)
        return self.norm(x)


class MemformerOutput(NamedTuple):
    """What a segment became, the memory after it, and the target's loss if there was one."""

    encoded: Float[Tensor, "batch tokens dim"]
    slots: Float[Tensor, "batch slots dim"]
    loss: Float[Tensor, ""] | None


class Memformer(nn.Module):
    """Encode a segment against the slots, decode a target from it, update the slots (Wu et al. 2022, section 3).

    Which positions each stack tells apart is the reference's choice, so that its weights mean the same here: the
    encoder takes all later tokens for one place, the decoder has buckets for later tokens that it never sees.
    """

    def __init__(self, config: MemformerConfig) -> None:
        super().__init__()
        dim = config.dim
        self.slots = nn.Parameter(torch.randn(config.num_slots, dim))
        self.source_embeddings = nn.Embedding(config.num_tokens, dim)
        self.encoder = MemformerStack(dim, config.depth, config.heads, causal=False, both_directions=False)
        self.memory_update = MemoryUpdate(dim, heads=config.update_heads, num_updates=config.num_updates)
        self.decoder = None if config.num_target_tokens is None else MemformerDecoder(config.num_target_tokens, config)

    def initial_slots(self, batch: int) -> Float[Tensor, "batch slots dim"]:
        """The learned memory before anything has happened."""
        return repeat(self.slots, "slots dim -> batch slots dim", batch=batch)

    def forward(
        self,
        source: Int[Tensor, "batch tokens"],
        target: Int[Tensor, "batch targets"] | None = None,
        slots: Float[Tensor, "batch slots dim"] | None = None,
        source_mask: Bool[Tensor, "batch tokens"] | None = None,
        target_mask: Bool[Tensor, "batch targets"] | None = None,
    ) -> MemformerOutput:
        """One segment; hand its `slots` to the next."""
        slots = self.initial_slots(len(source)) if slots is None else slots
        encoded = self.encoder(self.source_embeddings(source), slots, source_mask)
        loss = None
        if self.decoder is not None and target is not None:
            loss = self.decoder.loss(target, encoded, target_mask, source_mask)
        return MemformerOutput(encoded, self.memory_update(slots, encoded, source_mask), loss)


class MemformerDecoder(nn.Module):
    """An autoregressive decoder over what the encoder made of a segment."""

    def __init__(self, num_tokens: int, config: MemformerConfig) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(num_tokens, config.dim)
        self.stack = MemformerStack(
            config.dim, config.target_depth, config.target_heads, causal=True, both_directions=True
        )
        self.to_logits = nn.Linear(config.dim, num_tokens)

    def forward(
        self,
        tokens: Int[Tensor, "batch targets"],
        encoded: Float[Tensor, "batch tokens dim"],
        mask: Bool[Tensor, "batch targets"] | None = None,
        encoded_mask: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch targets num_tokens"]:
        """Logits of the token that follows each token."""
        return self.to_logits(self.stack(self.embeddings(tokens), encoded, mask, encoded_mask))

    def loss(
        self,
        target: Int[Tensor, "batch targets"],
        encoded: Float[Tensor, "batch tokens dim"],
        mask: Bool[Tensor, "batch targets"] | None = None,
        encoded_mask: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, ""]:
        """Mean cross-entropy of each next token, in nats; padding is no target."""
        before = None if mask is None else mask[:, :-1]
        logits, following = self(target[:, :-1], encoded, before, encoded_mask), target[:, 1:]
        if mask is None:
            return F.cross_entropy(logits.flatten(0, 1), following.flatten())
        return F.cross_entropy(logits[mask[:, 1:]], following[mask[:, 1:]])

    @torch.no_grad()
    def generate(
        self,
        tokens: Int[Tensor, "batch targets"],
        encoded: Float[Tensor, "batch tokens dim"],
        *,
        max_new_tokens: int,
        encoded_mask: Bool[Tensor, "batch tokens"] | None = None,
        end_token: int | None = None,
        temperature: float = 0.0,
        top_k: int | None = None,
    ) -> Int[Tensor, "batch new_tokens"]:
        """Continue `tokens`: the likeliest next token at temperature 0, else one drawn from the `top_k` likeliest.

        A row that said `end_token` says nothing else; when all rows have, generation ends.
        """
        start, ended = tokens.shape[1], torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)
        for _ in range(max_new_tokens):
            following = _next_token(self(tokens, encoded, None, encoded_mask)[:, -1], temperature, top_k)
            if end_token is not None:
                following = following.masked_fill(ended, end_token)
                ended = ended | (following == end_token)
            tokens = torch.cat([tokens, following[:, None]], dim=1)
            if ended.all():
                break
        return tokens[:, start:]


def _next_token(
    logits: Float[Tensor, "batch num_tokens"], temperature: float, top_k: int | None
) -> Int[Tensor, " batch"]:
    if temperature == 0.0:
        return logits.argmax(dim=-1)
    if top_k is not None:
        kept, indices = logits.topk(top_k, dim=-1)
        logits = torch.full_like(logits, float("-inf")).scatter(1, indices, kept)
    return torch.multinomial((logits / temperature).softmax(dim=-1), 1)[:, 0]
