"""How far apart two tokens are, as a bias on their attention."""

from __future__ import annotations

import math

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn


class RelativePositionBias(nn.Module):
    """A learned bias for each head and bucket of distances (Raffel et al. 2020, section 2.1).

    Small distances have a bucket each, larger ones share buckets that grow with the logarithm up to `max_distance`.

    Args:
        heads: attention heads.
        both_directions: half of the buckets are for keys that follow. Without it all keys that follow share the
            bucket of the token itself, which is what causal attention needs.
    """

    def __init__(self, heads: int, *, both_directions: bool, num_buckets: int = 32, max_distance: int = 128) -> None:
        super().__init__()
        self.both_directions = both_directions
        self.max_distance = max_distance
        self.embedding = nn.Embedding(num_buckets, heads)

    def forward(self, num_queries: int, num_keys: int) -> Float[Tensor, "heads num_queries num_keys"]:
        device = self.embedding.weight.device
        distances = torch.arange(num_queries, device=device)[:, None] - torch.arange(num_keys, device=device)
        return rearrange(self.embedding(self.buckets(distances)), "queries keys heads -> heads queries keys")

    def buckets(self, distances: Int[Tensor, "queries keys"]) -> Int[Tensor, "queries keys"]:
        """The bucket of each distance, which is positive where the key precedes."""
        num_buckets, first = self.embedding.num_embeddings, 0
        if self.both_directions:
            num_buckets //= 2
            first = (distances < 0) * num_buckets
            distances = distances.abs()
        distances = distances.clamp(min=0)

        exact = num_buckets // 2
        # The clamp is for the logarithm alone: below it the distance itself is taken.
        growth = torch.log(distances.clamp(min=exact) / exact) / math.log(self.max_distance / exact)
        shared = (exact + (growth * (num_buckets - exact)).long()).clamp(max=num_buckets - 1)
        return first + torch.where(distances < exact, distances, shared)
