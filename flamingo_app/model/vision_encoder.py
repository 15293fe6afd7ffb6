"""The frozen image tower: pictures in, patches out."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from open_clip.model import _build_vision_tower  # pyright: ignore  # the public builder loads weights, which __init__ must not
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from flamingo_app.config import FeatureConfig
from flamingo_app.errors import UnsupportedBackboneError


class VisionEncoder(nn.Module):
    """An open_clip tower (Vision Transformer or ModifiedResNet) that never learns.

    It stays in eval mode whatever its owner does, so that batch norm statistics never move.
    """

    def __init__(self, vision_config: dict[str, Any], feature: FeatureConfig) -> None:
        super().__init__()
        self.feature = feature
        self.tower = build_tower(vision_config)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> VisionEncoder:
        return super().train(False)

    @torch.no_grad()
    def forward(
        self, pixel_values: Float[Tensor, "batch images frames 3 height width"]
    ) -> Float[Tensor, "batch images frames patches dim"]:
        """Patches of every frame."""
        batch, images = pixel_values.shape[:2]
        patches = self.patches(rearrange(pixel_values, "batch images frames c h w -> (batch images frames) c h w"))
        return rearrange(patches, "(batch images frames) ... -> batch images frames ...", batch=batch, images=images)

    @torch.no_grad()
    def pooled(self, pixels: Float[Tensor, "pictures 3 height width"]) -> Float[Tensor, "pictures embed_dim"]:
        """CLIP's embedding of single pictures, of length one: for comparing pictures, not for the language model."""
        return F.normalize(self.tower(pixels), dim=-1)

    def patches(self, pixels: Float[Tensor, "pictures 3 height width"]) -> Float[Tensor, "pictures patches dim"]:
        """Patches of single pictures, row by row from the top left; the class token first where it is kept."""
        indices = 1 if self.feature.layer is None else [self.feature.layer]
        if isinstance(self.tower, ModifiedResNet):
            pixels = pixels.contiguous(memory_format=torch.channels_last)  # convolutions take half the time on a CPU
            features = self.tower.forward_intermediates(pixels, indices=indices, intermediates_only=True)
            return rearrange(features["image_intermediates"][0], "pictures dim h w -> pictures (h w) dim")
        features = self.tower.forward_intermediates(
            pixels,
            indices=indices,
            stop_early=True,
            normalize_intermediates=self.feature.layer_norm,
            intermediates_only=True,
            output_fmt="NLC",
            output_extra_tokens=self.feature.keep_cls,
        )
        (patches,) = features["image_intermediates"]
        if self.feature.keep_cls:
            return torch.cat([*features["image_intermediates_prefix"], patches], dim=1)
        return patches


def build_tower(vision_config: dict[str, Any]) -> VisionTransformer | ModifiedResNet:
    """The tower's architecture, with random weights."""
    embed_dim, quick_gelu = vision_config["embed_dim"], vision_config.get("quick_gelu", False)
    # `output_tokens` makes the tower return a pair, which nobody here asks for.
    vision_cfg = {k: v for k, v in vision_config.items() if k not in ("embed_dim", "quick_gelu", "output_tokens")}
    tower = _build_vision_tower(embed_dim, cast(Any, vision_cfg), quick_gelu)
    if not isinstance(tower, VisionTransformer | ModifiedResNet):
        raise UnsupportedBackboneError(
            expected="an open_clip Vision Transformer or ModifiedResNet",
            got=f"a tower of class {type(tower).__name__}",
            remedy="choose another image model, such as ViT-B-32-quickgelu/openai",
        )
    return tower
