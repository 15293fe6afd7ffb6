"""Any number of patches to a fixed number of media latents."""

from __future__ import annotations

import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor, nn

from flamingo_app.attention import FeedForward, attend, attention_weights, merge_heads, split_heads
from flamingo_app.config import ResamplerConfig
from flamingo_app.errors import PromptError


class PerceiverAttention(nn.Module):
    """Latents attend to patches and to themselves (Alayrac et al. 2022, appendix A.1.1)."""

    def __init__(self, dim: int, config: ResamplerConfig) -> None:
        super().__init__()
        inner = config.heads * config.dim_head
        self.heads = config.heads
        self.norm_media = nn.LayerNorm(dim)
        self.norm_latents = nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, inner, bias=False)
        self.to_kv = nn.Linear(dim, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, dim, bias=False)
        self.norm_q = nn.LayerNorm(config.dim_head) if config.qk_norm else nn.Identity()
        self.norm_k = nn.LayerNorm(config.dim_head) if config.qk_norm else nn.Identity()

    def forward(
        self,
        patches: Float[Tensor, "pictures patches dim"],
        latents: Float[Tensor, "pictures latents dim"],
        trace: list[Tensor] | None = None,
    ) -> Float[Tensor, "pictures latents dim"]:
        latents = self.norm_latents(latents)
        media = torch.cat([self.norm_media(patches), latents], dim=1)
        queries = split_heads(self.to_q(latents), self.heads)
        keys, values = (split_heads(half, self.heads) for half in self.to_kv(media).chunk(2, dim=-1))
        queries, keys = self.norm_q(queries), self.norm_k(keys)
        if trace is not None:
            trace.append(attention_weights(queries, keys))
        return self.to_out(merge_heads(attend(queries, keys, values)))


class PerceiverLayer(nn.Module):
    """Attention, then feed-forward, both residual."""

    def __init__(self, dim: int, config: ResamplerConfig) -> None:
        super().__init__()
        self.attention = PerceiverAttention(dim, config)
        self.feed_forward = FeedForward(dim, config.ff_mult, config.activation)

    def forward(
        self,
        patches: Float[Tensor, "pictures patches dim"],
        latents: Float[Tensor, "pictures latents dim"],
        trace: list[Tensor] | None = None,
    ) -> Float[Tensor, "pictures latents dim"]:
        latents = latents + self.attention(patches, latents, trace)
        return latents + self.feed_forward(latents)


class PerceiverResampler(nn.Module):
    """Learned latents read the patches of a picture, or of all frames of a clip (Alayrac et al. 2022, section 3.1.1).

    Frames get learned embeddings where the config names `max_frames`, pictures, by their order in the text, where it
    names `max_images` (all after those share the last); patches get learned positions where it names `num_positions`,
    for convolutional towers.
    """

    def __init__(self, dim: int, config: ResamplerConfig) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(config.num_latents, dim))
        self.embed_single_frames = config.embed_single_frames
        self.frame_embeddings = _embeddings(config.max_frames, dim)
        self.image_embeddings = _embeddings(config.max_images, dim)
        self.position_embeddings = _embeddings(config.num_positions, dim)
        self.layers = nn.ModuleList(PerceiverLayer(dim, config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(dim)

    def forward(
        self,
        patches: Float[Tensor, "batch images frames patches dim"],
        trace: list[Tensor] | None = None,
        seen: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch images latents dim"]:
        """Media latents of every picture.

        Args:
            trace: gets one (pictures latents patches+latents) for each layer: what latents took of both.
            seen: how many pictures came earlier in each row's text; None for none.

        Raises:
            PromptError: more frames than there are embeddings for, or another number of patches than of positions.
        """
        batch, images, frames = patches.shape[:3]
        if self.position_embeddings is not None:
            patches = patches + self._rows(self.position_embeddings, patches.shape[3], "patches")
        if self.frame_embeddings is not None and (frames > 1 or self.embed_single_frames):
            embeddings = self._rows(self.frame_embeddings, frames, "frames")
            patches = patches + rearrange(embeddings, "frames dim -> frames 1 dim")
        if self.image_embeddings is not None:
            first = torch.zeros(batch, dtype=torch.long, device=patches.device) if seen is None else seen
            order = first[:, None] + torch.arange(images, device=first.device)
            embeddings = self.image_embeddings[order.clamp(max=len(self.image_embeddings) - 1)]
            patches = patches + rearrange(embeddings, "batch images dim -> batch images 1 1 dim")

        media = rearrange(patches, "batch images frames patches dim -> (batch images) (frames patches) dim")
        latents = repeat(self.latents, "latents dim -> pictures latents dim", pictures=len(media))
        for layer in self.layers:
            latents = layer(media, latents, trace)
        return rearrange(self.norm(latents), "(batch images) latents dim -> batch images latents dim", batch=batch)

    @staticmethod
    def _rows(embeddings: Tensor, count: int, name: str) -> Tensor:
        if count > len(embeddings):
            raise PromptError(
                expected=f"at most {len(embeddings)} {name}",
                got=str(count),
                remedy="send fewer or shorter clips, and pictures of the size the model was made for",
            )
        return embeddings[:count]


def _embeddings(count: int | None, dim: int) -> nn.Parameter | None:
    return None if count is None else nn.Parameter(torch.randn(count, dim))
