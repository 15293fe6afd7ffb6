"""Saving what trains, and putting it back between its frozen backbones."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import fields
from itertools import filterfalse
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoTokenizer, GenerationConfig, PreTrainedModel
from transformers.utils import SAFE_WEIGHTS_NAME
from transformers.utils.hub import cached_file

from flamingo_app.config import FlamingoConfig
from flamingo_app.errors import CheckpointError, ConfigError
from flamingo_app.model.backbones import (
    State,
    TextBackbone,
    VisionBackbone,
    beside,
    fingerprint,
    open_text,
    open_vision,
    text_source,
)
from flamingo_app.model.language_model import AddedTokens, probe
from flamingo_app.model.trainable import freeze_backbones, is_trainable
from flamingo_app.processing import add_special_tokens
from flamingo_app.prompt import END_OF_CHUNK_TOKEN, IMAGE_TOKEN

DAMAGE = (OSError, ValueError, TypeError, KeyError, AttributeError, SafetensorError)
"""What the libraries raise over a file that is missing, cut short, or other than they thought."""

Model = TypeVar("Model", bound="TrainablePartMixin")


class TrainablePartMixin(PreTrainedModel):
    """Checkpoints that hold what trains, and the names and hashes of the backbones that it belongs to."""

    config: FlamingoConfig

    @classmethod
    def from_backbones(
        cls: type[Model], vision: str = "ViT-B-32-quickgelu/openai", text: str = "gpt2", **config: Any
    ) -> Model:
        """A new model over two frozen backbones, its gates closed; in fp32.

        Args:
            vision: an image tower, by any of the names in `backbones`.
            text: a language model, by any of the names in `backbones`.
            config: fields of `FlamingoConfig`. The token ids are taken from the language model's tokenizer, unless
                they are given.

        Raises:
            ModelNotFoundError: a backbone cannot be found.
            UnsupportedBackboneError: it can, and would not work.
            ConfigError: no such field, or no such value.
        """
        unknown = config.keys() - {field.name for field in fields(FlamingoConfig)}
        if unknown:
            raise ConfigError(
                expected="fields of FlamingoConfig", got=", ".join(sorted(unknown)), remedy="correct the name"
            )
        tower, lm = open_vision(vision), open_text(text)
        if "image_token_id" not in config:
            config |= _token_ids(text_source(lm.identity), lm.config.vocab_size)
        model = cls(
            FlamingoConfig(
                text_config=copy.deepcopy(lm.config),
                text_model=lm.identity,
                text_hash=fingerprint(lm.state),
                vision_config=tower.config,
                vision_model=tower.identity,
                vision_hash=fingerprint(tower.state),
                **config,
            )
        )
        missing, unexpected = model.load_state_dict(_prefixed(tower, lm), strict=False)
        _refuse_misfits([*filterfalse(is_trainable, missing), *unexpected])
        _start_at_the_mean(cast(AddedTokens, model.added_tokens), model)
        return model.eval()

    def save_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]  # the library's has many more
        self, save_directory: str | Path, *, state_dict: Mapping[str, Tensor] | None = None, **kwargs: Any
    ) -> None:
        """Write config.json and model.safetensors, the latter with what trains and nothing else.

        Raises:
            CheckpointError: the backbones have no names, so that nobody could load this again.
        """
        for name in ("vision_model", "text_model"):
            if getattr(self.config, name) is None:
                raise CheckpointError(
                    expected=f"a config whose {name} says where the frozen weights are",
                    got="None",
                    remedy="build the model with from_backbones, or name them in the config",
                )
        whole = self.state_dict() if state_dict is None else state_dict
        part = {name: tensor for name, tensor in whole.items() if is_trainable(name)}
        super().save_pretrained(save_directory, state_dict=part, **kwargs)

    @classmethod
    def from_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]  # the library's has many more
        cls, pretrained_model_name_or_path: str | Path, *args: Any, config: FlamingoConfig | None = None, **kwargs: Any
    ) -> Any:
        """Load what trains, fetch the backbones it belongs to, and put the two together; in fp32 unless `dtype` is set.

        Raises:
            CheckpointError: files are missing or damaged, or the backbones are not those it was trained with.
        """
        source = str(pretrained_model_name_or_path)
        try:
            config = config or _read_config(source)
            state = load_file(cast(str, cached_file(source, SAFE_WEIGHTS_NAME)))
            generation_config = GenerationConfig.from_pretrained(source)
        except DAMAGE as error:
            raise CheckpointError(
                expected=f"config.json, generation_config.json and {SAFE_WEIGHTS_NAME}",
                got=f"{source} without a readable set of them",
                remedy="save the model there again",
            ) from error
        state |= _verified_backbones(config, source)

        with_info = kwargs.pop("output_loading_info", False)
        kwargs.setdefault("dtype", torch.float32)
        model, info = cast(Any, super()).from_pretrained(
            None,
            *args,
            config=config,
            state_dict=state,
            ignore_mismatched_sizes=True,  # they are not: the next line refuses them, by name
            output_loading_info=True,
            **kwargs,
        )
        _refuse_misfits([*info["missing_keys"], *info["unexpected_keys"], *map(str, info["mismatched_keys"])])
        model.generation_config = generation_config
        model.name_or_path = model.config.name_or_path = source
        freeze_backbones(model)
        probe(model.language_model)
        return (model, info) if with_info else model


def _read_config(source: str) -> FlamingoConfig:
    """The config of a Flamingo model; another model's would be read as one with all its fields at their defaults."""
    fields_found, _ = FlamingoConfig.get_config_dict(source)
    if (kind := fields_found.get("model_type")) != FlamingoConfig.model_type:
        raise CheckpointError(
            expected="the folder of a Flamingo model",
            got=f"{source}, whose config.json is of {kind or 'no'} model",
            remedy="give the folder that save_pretrained or `flamingo import` wrote",
        )
    return FlamingoConfig.from_pretrained(source)


def _refuse_misfits(names: list[str]) -> None:
    if names:
        raise CheckpointError(
            expected="weights for just the parts that the config describes",
            got=f"{len(names)} missing, left over or of another shape: {min(names)}",
            remedy="bring config and weights from the same place",
        )


def _verified_backbones(config: FlamingoConfig, source: str) -> State:
    config.vision_model, config.text_model = (
        beside(identity or "", source) for identity in (config.vision_model, config.text_model)
    )
    tower, lm = open_vision(config.vision_model), open_text(config.text_model)
    for backbone, trained_with in ((tower, config.vision_hash), (lm, config.text_hash)):
        if (came := fingerprint(backbone.state)) != trained_with:
            raise CheckpointError(
                expected=f"the weights that {source} was trained with (sha256 {trained_with})",
                got=f"{backbone.identity} with sha256 {came}",
                remedy="restore those weights, or train again over these",
            )
    return _prefixed(tower, lm)


def _prefixed(tower: VisionBackbone, lm: TextBackbone) -> State:
    """The frozen weights under the names that they have in the whole model."""
    vision = {f"vision_encoder.tower.{key}": value for key, value in tower.state.items()}
    return vision | {f"language_model.{key}": value for key, value in lm.state.items()}


def _token_ids(source: str, vocab_size: int) -> dict[str, int]:
    """Ids of the special tokens; those that the language model's tokenizer lacks are counted on after its own."""
    tokenizer: Any = AutoTokenizer.from_pretrained(source)
    num_new = add_special_tokens(tokenizer)
    image, end = tokenizer.convert_tokens_to_ids([IMAGE_TOKEN, END_OF_CHUNK_TOKEN])
    return {
        "image_token_id": image,
        "end_of_chunk_token_id": end,
        "pad_token_id": end if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
        "num_added_tokens": max(num_new, (image >= vocab_size) + (end >= vocab_size)),
    }


@torch.no_grad()
def _start_at_the_mean(added: AddedTokens, model: PreTrainedModel) -> None:
    """Let added tokens start as average words, a little apart: far from that, the frozen layers read noise."""
    added.input_rows.add_(cast(Tensor, model.get_input_embeddings().weight).mean(dim=0))
    added.output_rows.add_(cast(Tensor, cast(nn.Module, model.get_output_embeddings()).weight).mean(dim=0))
