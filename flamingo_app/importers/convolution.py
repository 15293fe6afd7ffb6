"""A convolution over patches as one of open_clip's image towers."""

from __future__ import annotations

import re

import torch

from flamingo_app.importers.weights import Weights
from flamingo_app.model.backbones import VisionBackbone
from flamingo_app.model.vision_encoder import build_tower


def convolution_tower(weights: Weights, name: str, image_size: int) -> VisionBackbone:
    """A convolution over patches as a Vision Transformer whose only layer adds nothing.

    The convolution's bias is every position's embedding. Without a class token of any meaning, pictures are compared by
    the mean of their patches.
    """
    width, _, _, patch_size = weights.shape(f"{name}.weight")
    config = {
        "embed_dim": width,
        "quick_gelu": False,
        "image_size": image_size,
        "patch_size": patch_size,
        "width": width,
        "layers": 1,
        "head_width": width,
        "mlp_ratio": 1.0,
        "no_ln_pre": True,
        "pool_type": "avg",
    }
    with torch.device("meta"):
        shapes = {name: meta.shape for name, meta in build_tower(config).state_dict().items()}
    state = {name: torch.zeros(shape) for name, shape in shapes.items()}
    state |= {name: torch.ones(width) for name in state if re.search(r"ln_\w+\.weight$", name)}
    state["proj"] = torch.eye(width)
    state["conv1.weight"] = weights.take([f"{name}.weight"], shapes["conv1.weight"])
    state["positional_embedding"][1:] = weights.take([f"{name}.bias"], (width,))
    return VisionBackbone(identity="", config=config, state=state)
