"""The frozen backbones: what their names mean, where their weights come from, and how they are told apart.

image towers     ViT-B-32-quickgelu/openai    a model and its weights, as open_clip names them
                 local-dir:PATH               a folder with open_clip_config.json and open_clip_model.safetensors
                 starter/vision               ours, shipped with the package
language models  gpt2, facebook/opt-125m      a Hugging Face hub name
                 PATH                         a folder that `save_pretrained` wrote
                 starter/text                 ours, shipped with the package

In a checkpoint a path that begins with ./ goes from the checkpoint's own folder, so that the two can be moved together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import open_clip
import torch
from open_clip.transform import PreprocessCfg, merge_preprocess_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from flamingo_app.errors import CheckpointError, ModelNotFoundError

STARTER = Path(__file__).parents[1] / "starter"
LOCAL = "local-dir:"
State = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class VisionBackbone:
    """A frozen image tower: the name to find it by again, open_clip's config of it, its weights."""

    identity: str
    config: dict[str, Any]
    state: State


@dataclass(frozen=True, kw_only=True)
class TextBackbone:
    """A frozen language model: the name to find it by again, its config, its weights."""

    identity: str
    config: PreTrainedConfig
    state: State


def open_vision(identity: str) -> VisionBackbone:
    """Find an image tower by any of the names above, downloading it if need be.

    Raises:
        ModelNotFoundError: there is none of this name.
        CheckpointError: a folder's files are missing or damaged.
    """
    description = _describe_vision(identity)
    config = {"quick_gelu": False, "embed_dim": description["model_cfg"]["embed_dim"]}
    config |= {key: value for key, value in description["model_cfg"].items() if key == "quick_gelu"}
    config |= description["model_cfg"]["vision_cfg"]
    if (folder := _local_folder(identity)) is not None:
        absolute = f"{LOCAL}{folder}" if identity.startswith(LOCAL) else identity
        return VisionBackbone(identity=absolute, config=config, state=_read_tower(folder))
    name, _, pretrained = identity.partition("/")
    try:
        clip = cast(Any, open_clip.create_model(name, pretrained=pretrained))
    except (OSError, RuntimeError) as error:
        raise _unreachable("image model", identity) from error
    return VisionBackbone(identity=identity, config=config, state=clip.visual.state_dict())


def preprocessing(identity: str) -> dict[str, Any]:
    """How pictures are made ready for an image tower: open_clip's `preprocess_cfg`, complete."""
    description = _describe_vision(identity)
    size = {"size": description["model_cfg"]["vision_cfg"]["image_size"]}
    return merge_preprocess_dict(asdict(PreprocessCfg()) | size, description.get("preprocess_cfg", {}))


def _describe_vision(identity: str) -> dict[str, Any]:
    """`model_cfg` and `preprocess_cfg` of an image tower, without its weights."""
    if (folder := _local_folder(identity)) is not None:
        try:
            return json.loads((folder / "open_clip_config.json").read_text())
        except (OSError, ValueError) as error:
            raise _damaged(folder, "open_clip_config.json") from error
    name, _, pretrained = identity.partition("/")
    model_cfg = open_clip.get_model_config(name)
    if model_cfg is None or pretrained not in open_clip.list_pretrained_tags_by_model(name):
        raise ModelNotFoundError(
            expected="an image model NAME/PRETRAINED of open_clip, or local-dir:PATH",
            got=identity,
            remedy="choose one that `open_clip.list_pretrained()` lists",
        )
    return {"model_cfg": model_cfg, "preprocess_cfg": open_clip.get_pretrained_cfg(name, pretrained)}


def _local_folder(identity: str) -> Path | None:
    if identity == "starter/vision":
        return STARTER / "vision"
    return Path(identity.removeprefix(LOCAL)).resolve() if identity.startswith(LOCAL) else None


def _read_tower(folder: Path) -> State:
    try:
        weights = load_file(folder / "open_clip_model.safetensors")
    except (OSError, SafetensorError) as error:
        raise _damaged(folder, "open_clip_model.safetensors") from error
    return {key.removeprefix("visual."): value for key, value in weights.items() if key.startswith("visual.")}


def text_source(identity: str) -> str:
    """The hub name or the folder that Hugging Face's loaders take for the name of a language model."""
    return str(STARTER / "text") if identity == "starter/text" else identity


def open_text(identity: str) -> TextBackbone:
    """Find a language model by any of the names above, downloading it if need be.

    Raises:
        ModelNotFoundError: there is none of this name.
        CheckpointError: its weights are damaged; those that it lacks are never made up.
    """
    if Path(identity).is_dir():
        identity = str(Path(identity).resolve())
    try:
        # Weights come as safetensors or not at all: nothing here unpickles.
        found, loading = cast(
            Any,
            AutoModelForCausalLM.from_pretrained(
                text_source(identity),
                dtype="auto",
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # told below, by name
                output_loading_info=True,
            ),
        )
    except (OSError, ValueError) as error:
        raise _unreachable("language model", identity) from error
    except SafetensorError as error:
        raise _damaged_text("readable weights", f"a damaged file in {identity}") from error
    for name, shape, expected in sorted(loading["mismatched_keys"]):
        raise _damaged_text(f"{name} of shape {[*expected]}", f"shape {[*shape]} in {identity}")
    for name in sorted(loading["missing_keys"]):
        raise _damaged_text(name, f"{identity} without it")
    model = cast(PreTrainedModel, found)
    model.config.name_or_path = identity  # the folder it lay in here says nothing elsewhere
    return TextBackbone(identity=identity, config=model.config, state=dict(model.state_dict()))


def beside(identity: str, checkpoint: str) -> str:
    """The identity for everybody of a backbone that a checkpoint names as its own neighbour."""
    if not identity.removeprefix(LOCAL).startswith("./"):
        return identity
    return identity.replace("./", f"{Path(checkpoint).resolve()}/", 1)


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """The sha256 of weights: of each name, type, shape and value, whatever file they came in."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _unreachable(kind: str, identity: str) -> ModelNotFoundError:
    return ModelNotFoundError(
        expected=f"a {kind} that can be found here or downloaded",
        got=identity,
        remedy="check the spelling and the network, or give a folder that holds it",
    )


def _damaged_text(expected: str, got: str) -> CheckpointError:
    return CheckpointError(
        expected=expected, got=got, remedy="the language model is damaged, or not whole: fetch it again"
    )


def _damaged(folder: Path, file: str) -> CheckpointError:
    return CheckpointError(
        expected=f"a readable {file}",
        got=f"{folder} without one",
        remedy="save the image model there again, in the layout that open_clip's hub folders have",
    )
