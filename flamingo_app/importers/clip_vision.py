"""Hugging Face's CLIP image tower as one of open_clip's."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from open_clip.transform import PreprocessCfg
from safetensors.torch import save_file
from transformers import CLIPVisionConfig
from transformers.utils import SAFE_WEIGHTS_NAME
from transformers.utils.hub import cached_file

from flamingo_app.errors import CheckpointError, ModelNotFoundError
from flamingo_app.importers.weights import Weights, open_weights
from flamingo_app.model.backbones import VisionBackbone
from flamingo_app.model.vision_encoder import build_tower

LAYER_NORM_EPS = 1e-5
"""What a tower of open_clip's has unless it says otherwise."""

LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
"""open_clip's names inside a transformer block, and Hugging Face's."""

AROUND = {
    "class_embedding": "embeddings.class_embedding",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_pre": "pre_layrnorm",
    "ln_post": "post_layernorm",
}
"""And around the blocks; the misspelling is theirs."""


def convert_tower(weights: Weights, prefix: str, config: Any) -> VisionBackbone:
    """A tower out of a checkpoint, with no identity yet.

    What Hugging Face's image model alone lacks is CLIP's projection; the identity takes its place, so that pictures
    are compared by what the projection would have been given.

    Args:
        prefix: what stands before the tower's names.
        config: Hugging Face's of a CLIP or Idefics image tower.

    Raises:
        CheckpointError: a weight is missing, or has another shape; or open_clip has no such tower.
    """
    width = getattr(config, "hidden_size", None) or config.embed_dim
    if config.hidden_act not in ("gelu", "quick_gelu"):
        raise CheckpointError(
            expected="an image tower with hidden_act gelu or quick_gelu, as CLIP's are",
            got=config.hidden_act,
            remedy="import another model: open_clip has no such tower",
        )
    ours = {
        "embed_dim": width,
        "quick_gelu": config.hidden_act == "quick_gelu",
        "image_size": config.image_size,
        "patch_size": config.patch_size,
        "width": width,
        "layers": config.num_hidden_layers,
        "head_width": width // config.num_attention_heads,
        "mlp_ratio": config.intermediate_size / width,
    }
    if config.layer_norm_eps != LAYER_NORM_EPS:
        ours["norm_kwargs"] = {"eps": config.layer_norm_eps}
    with torch.device("meta"):
        shapes = {name: meta.shape for name, meta in build_tower(ours).state_dict().items()}
    state = {name: weights.take(_theirs(prefix, name), shape) for name, shape in shapes.items() if name != "proj"}
    return VisionBackbone(identity="", config=ours, state=state | {"proj": torch.eye(width)})


def clip_config(identity: str) -> CLIPVisionConfig:
    """Config of a CLIP image tower, by a name of the Hugging Face hub or a folder.

    Raises:
        ModelNotFoundError: there is none of this name.
    """
    try:
        return CLIPVisionConfig.from_pretrained(identity)
    except (OSError, ValueError) as error:
        raise _unreachable(identity) from error


def clip_weights(identity: str) -> tuple[Weights, str]:
    """Weights of a CLIP, and what stands before the names of its image tower.

    Raises:
        ModelNotFoundError: there are none of this name.
    """
    try:
        return open_weights(Path(str(cached_file(identity, SAFE_WEIGHTS_NAME)))), "vision_model."
    except OSError as error:
        raise _unreachable(identity) from error


def clip_preprocessing(config: Any) -> dict[str, Any]:
    """How CLIP's pictures are made ready."""
    return asdict(PreprocessCfg(size=config.image_size))


def save_tower(tower: VisionBackbone, preprocessing: dict[str, Any], folder: Path) -> None:
    """Write a tower the way open_clip's hub folders look."""
    folder.mkdir()
    outside = ("embed_dim", "quick_gelu")
    model_cfg = {name: tower.config[name] for name in outside}
    model_cfg["vision_cfg"] = {name: value for name, value in tower.config.items() if name not in outside}
    description = {"model_cfg": model_cfg, "preprocess_cfg": preprocessing}
    (folder / "open_clip_config.json").write_text(json.dumps(description, indent=2))
    state = {f"visual.{name}": tensor.contiguous() for name, tensor in tower.state.items()}
    save_file(state, folder / "open_clip_model.safetensors")


def _theirs(prefix: str, name: str) -> tuple[str, ...]:
    if not name.startswith("transformer.resblocks."):
        part, dot, kind = name.partition(".")
        return (prefix + (AROUND.get(name) or f"{AROUND[part]}{dot}{kind}"),)
    _, _, index, inner = name.split(".", maxsplit=3)
    layer = f"{prefix}encoder.layers.{index}."
    if inner.startswith("attn.in_proj_"):
        return tuple(f"{layer}self_attn.{one}_proj.{inner.removeprefix('attn.in_proj_')}" for one in "qkv")
    part, _, kind = inner.rpartition(".")
    return (f"{layer}{LAYER[part]}.{kind}",)


def _unreachable(identity: str) -> ModelNotFoundError:
    return ModelNotFoundError(
        expected="a CLIP of the Hugging Face hub, with weights as safetensors",
        got=identity,
        remedy="check the spelling and the network, or give a folder that holds it with --vision",
    )
