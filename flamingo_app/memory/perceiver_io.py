"""Perceiver IO: any number of elements to a few latents, and latents to one output for each query."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from flamingo_app.checks import check_length
from flamingo_app.memory.attention import Attention, FeedForward


@dataclass(frozen=True, kw_only=True)
class PerceiverIOConfig:
    """Sizes of a Perceiver IO, apart from the widths of what goes in and out.

    Attributes:
        depth: layers of latent self-attention.
        num_latents: latents that the input becomes, whatever its length.
        dim_latents: width of a latent.
        cross_heads: heads of the two cross-attentions, into the latents and out of them.
        cross_dim_head: size of such a head.
        latent_heads: heads of the latents' self-attention.
        latent_dim_head: size of such a head.
        tie_layers: all layers share their weights.
        decoder_feed_forward: a feed-forward after the decoder's cross-attention.
        sequence_dropout: part of the input that each training step leaves out, before 1.
    """

    depth: int
    num_latents: int = 512
    dim_latents: int = 512
    cross_heads: int = 1
    cross_dim_head: int = 64
    latent_heads: int = 8
    latent_dim_head: int = 64
    tie_layers: bool = False
    decoder_feed_forward: bool = False
    sequence_dropout: float = 0.0


class CrossAttention(nn.Module):
    """Attention to another sequence, both sides normed before."""

    def __init__(self, dim: int, dim_context: int, config: PerceiverIOConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.norm_context = nn.LayerNorm(dim_context)
        self.attention = Attention(dim, dim_context, heads=config.cross_heads, dim_head=config.cross_dim_head)

    def forward(
        self,
        x: Float[Tensor, "batch tokens dim"],
        context: Float[Tensor, "batch keys dim_context"],
        visible: Bool[Tensor, "batch 1 keys"] | None = None,
    ) -> Float[Tensor, "batch tokens dim"]:
        return self.attention(self.norm(x), self.norm_context(context), visible)


class LatentLayer(nn.Module):
    """Self-attention of the latents, then feed-forward, both residual."""

    def __init__(self, config: PerceiverIOConfig) -> None:
        super().__init__()
        dim = config.dim_latents
        self.norm = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads=config.latent_heads, dim_head=config.latent_dim_head)
        self.feed_forward = FeedForward(dim, gated=True)

    def forward(self, latents: Float[Tensor, "batch latents dim"]) -> Float[Tensor, "batch latents dim"]:
        normed = self.norm(latents)
        latents = latents + self.attention(normed, normed)
        return latents + self.feed_forward(latents)


class PerceiverIO(nn.Module):
    """Encode, process, decode (Jaegle et al. 2021, "Perceiver IO", section 3.1 and figure 2).

    Args:
        dim: width of an input element.
        dim_queries: width of a query.
        dim_logits: width of the outputs; None leaves them as wide as the queries.
        config: all other sizes.
    """

    def __init__(self, dim: int, dim_queries: int, config: PerceiverIOConfig, dim_logits: int | None = None) -> None:
        super().__init__()
        self.sequence_dropout = config.sequence_dropout
        self.latents = nn.Parameter(torch.randn(config.num_latents, config.dim_latents))
        self.encoder_attention = CrossAttention(config.dim_latents, dim, config)
        self.encoder_feed_forward = FeedForward(config.dim_latents, gated=True)
        layers = [LatentLayer(config) for _ in range(1 if config.tie_layers else config.depth)]
        self.layers = nn.ModuleList(layers * config.depth if config.tie_layers else layers)
        self.decoder_attention = CrossAttention(dim_queries, config.dim_latents, config)
        self.decoder_feed_forward = FeedForward(dim_queries, gated=True) if config.decoder_feed_forward else None
        self.to_logits = nn.Identity() if dim_logits is None else nn.Linear(dim_queries, dim_logits)

    def forward(
        self,
        data: Float[Tensor, "batch tokens dim"],
        queries: Float[Tensor, "*rows queries dim_queries"],
        mask: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch queries dim_logits"]:
        """One output for each query about the data; `mask` is True where there is data."""
        return self.decode(self.process(self.encode(data, mask)), queries)

    def encode(
        self, data: Float[Tensor, "batch tokens dim"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch latents dim_latents"]:
        """The learned latents read the data, at a cost linear in its length; no data at all leaves them unread."""
        if self.training and self.sequence_dropout > 0:
            data, mask = drop_elements(data, mask, self.sequence_dropout)
        latents = repeat(self.latents, "latents dim -> batch latents dim", batch=len(data))
        latents = latents + self.encoder_attention(latents, data, None if mask is None else mask[:, None])
        return latents + self.encoder_feed_forward(latents)

    def process(
        self, latents: Float[Tensor, "batch latents dim_latents"]
    ) -> Float[Tensor, "batch latents dim_latents"]:
        """The latents think, at a cost that knows nothing of the data's length."""
        for layer in self.layers:
            latents = layer(latents)
        return latents

    def decode(
        self, latents: Float[Tensor, "batch latents dim_latents"], queries: Float[Tensor, "*rows queries dim_queries"]
    ) -> Float[Tensor, "batch queries dim_logits"]:
        """Each query reads the latents, and nothing else; without a batch axis all rows are asked the same.

        As in the paper's decoder there is no residual around this attention: a query asks, and is not part of what is
        answered.
        """
        if queries.ndim == 2:
            queries = repeat(queries, "queries dim -> batch queries dim", batch=len(latents))
        outputs = self.decoder_attention(queries, latents)
        if self.decoder_feed_forward is not None:
            outputs = outputs + self.decoder_feed_forward(outputs)
        return self.to_logits(outputs)


def drop_elements(
    data: Float[Tensor, "batch tokens dim"], mask: Bool[Tensor, "batch tokens"] | None, probability: float
) -> tuple[Float[Tensor, "batch kept dim"], Bool[Tensor, "batch kept"] | None]:
    """Keep a random part of each sequence, in random order (Hawthorne et al. 2022, "Perceiver AR", section 3.3).

    Padding goes first, and a row keeps the same part of what is real in it, rounded up.
    """
    keep = 1.0 - probability
    scores = torch.randn(data.shape[:2], device=data.device)
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    kept = scores.topk(max(1, int(keep * data.shape[1])), dim=1).indices
    data = data.take_along_dim(kept[..., None], dim=1)
    if mask is not None:
        num_real = torch.ceil(mask.sum(dim=1, keepdim=True) * keep)
        mask = mask.gather(1, kept) & (torch.arange(kept.shape[1], device=data.device) < num_real)
    return data, mask


class PerceiverLM(nn.Module):
    """A masked language model: each token with its position goes in, and asks what stands there (section 4.1).

    Args:
        num_tokens: size of the vocabulary.
        max_tokens: learned positions.
        dim: width of a token.
        config: sizes of the Perceiver IO.
    """

    def __init__(self, num_tokens: int, max_tokens: int, dim: int, config: PerceiverIOConfig) -> None:
        super().__init__()
        self.token_embeddings = nn.Embedding(num_tokens, dim)
        self.position_embeddings = nn.Embedding(max_tokens, dim)
        self.perceiver_io = PerceiverIO(dim, dim, config, dim_logits=num_tokens)

    def forward(
        self, tokens: Int[Tensor, "batch tokens"], mask: Bool[Tensor, "batch tokens"] | None = None
    ) -> Float[Tensor, "batch tokens num_tokens"]:
        """Logits of every place.

        Raises:
            PromptError: more tokens than positions.
        """
        check_length(tokens.shape[1], self.position_embeddings.num_embeddings)
        x = self.token_embeddings(tokens) + self.position_embeddings.weight[: tokens.shape[1]]
        return self.perceiver_io(x, x, mask)
