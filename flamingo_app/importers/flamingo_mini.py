"""flamingo-mini's checkpoints: what trains alone, or everything under `flamingo.`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from flamingo_app.config import GatedConfig
from flamingo_app.errors import CheckpointError
from flamingo_app.importers.clip_vision import clip_config, clip_preprocessing, clip_weights, convert_tower
from flamingo_app.importers.language_model import config_of, decoder_layers_name
from flamingo_app.importers.peer import Names, Options, Peer, read_config
from flamingo_app.importers.tokens import Tokens, add_in_order, find_tokenizer
from flamingo_app.importers.weights import Weights
from flamingo_app.model.backbones import text_source
from flamingo_app.prompt import END_OF_CHUNK_TOKEN, IMAGE_TOKEN

ACTIVATIONS = {"sqrelu": "relu2"}
"""Names of activations that are not Hugging Face's."""

SIZES = ("heads", "dim_head", "ff_mult", "act")
NEEDED = (
    *("lm", "clip_model_type", "resampler_depth", "resampler_num_latents", "resampler_num_time_embeds", "xattn_every"),
    *(f"{part}_{name}" for part in ("resampler", "xattn") for name in SIZES),
)
"""What its config.json says."""

LESS_THAN_SIGN = 27
"""GPT-2's id of `<`, by which the peer finds pictures."""

TOWER = "vision_encoder.vision_model."


def recognises(weights: Weights) -> bool:
    """Whether the gated blocks are named as flamingo-mini does it."""
    return any(".xattn_block." in name for name in weights)


def read(weights: Weights, folder: Path, options: Options) -> Peer:
    """Sizes and backbones are named in the config.json beside the checkpoint.

    Raises:
        CheckpointError: config.json is missing, or the checkpoint is damaged.
        ModelNotFoundError: a backbone cannot be found.
    """
    config = read_config(folder, *NEEDED)
    prefix = "flamingo." if any(name.startswith("flamingo.") for name in weights) else ""
    whole = any(name.startswith(prefix + TOWER) for name in weights)
    lm, clip = options.lm or config["lm"], options.vision or config["clip_model_type"]
    text_config, tower_config = config_of(lm), clip_config(clip)
    tower_weights, tower_prefix = (weights, prefix + TOWER) if whole else clip_weights(clip)
    path = decoder_layers_name(text_config)
    text = names_of_text(prefix, path)
    embedding = _embedding(text, path)
    tokenizer = find_tokenizer(options.tokenizer, text_source(lm))
    patches = options.patches or "raw"
    return Peer(
        family="flamingo-mini",
        fields={
            "resampler": _sizes(config, "resampler")
            | {"depth": config["resampler_depth"], "num_latents": config["resampler_num_latents"]}
            | {"max_frames": config["resampler_num_time_embeds"]},
            "gated": gated_fields(config),
            "attend": options.attend or "latest",
            "vision_feature": {"layer_norm": patches == "normed", "keep_cls": True},
        },
        parts=names_of_parts(prefix, path, config, text_config),
        text_config=text_config,
        text_model=None if whole else lm,
        text=text,
        vision=convert_tower(tower_weights, tower_prefix, tower_config),
        preprocessing=clip_preprocessing(tower_config),
        tokens=read_tokens(tokenizer, weights.length(embedding), embedding),
        notes=("<image> is a token of its own here; it speaks with the row of <, which its authors' code looks for",),
    )


def gated_fields(config: dict[str, Any]) -> dict[str, Any]:
    """A block stands before layer i where i % every == 0."""
    return _sizes(config, "xattn") | {"every": config["xattn_every"], "first": 0}


def names_of_parts(prefix: str, path: str, config: dict[str, Any], text_config: PreTrainedConfig) -> Names:
    """Names of what trains."""
    layers = GatedConfig(**gated_fields(config)).layers(text_config.num_hidden_layers)
    inside = path.split(".", maxsplit=1)[1]

    def theirs(name: str) -> tuple[str, ...]:
        part, rest = name.split(".", maxsplit=1)
        if part == "resampler":
            rest = rest.replace(".attention.", ".0.").replace(".feed_forward.", ".1.")
            rest = f"{prefix}resampler.{rest.replace('frame_embeddings', 'time_pos_emb')}"
            return (rest.replace("to_kv", "to_k"), rest.replace("to_kv", "to_v")) if "to_kv" in rest else (rest,)
        ordinal, rest = rest.split(".", maxsplit=1)
        rest = rest.replace("attention.", "attn.").replace("feed_forward.", "ffw.")
        rest = rest.replace("attn_gate", "alpha_attn").replace("ff_gate", "alpha_ffw")
        return (f"{prefix}lm.{inside}.{layers[int(ordinal)]}.xattn_block.{rest}",)

    return theirs


def names_of_text(prefix: str, path: str) -> Names:
    """Names of the language model's weights: the peer keeps the model and its head apart, and wraps each layer."""
    inside = re.compile(rf"^({re.escape(path)}\.\d+)\.")

    def theirs(name: str) -> tuple[str, ...]:
        if name.startswith("lm_head."):
            return (prefix + name,)
        _, rest = inside.sub(r"\1.lm_block.", name).split(".", maxsplit=1)
        return (f"{prefix}lm.{rest}",)

    return theirs


def read_tokens(tokenizer: Any, rows: int, embedding: str) -> Tokens:
    """Its last row ends a chunk; `<image>` gets the id after that.

    Raises:
        CheckpointError: the tokenizer is not the one that the model was trained with.
    """
    if tokenizer is None:
        return Tokens(image=rows, end_of_chunk=rows - 1, pad=rows - 1, rows=rows, copied=LESS_THAN_SIGN)
    if len(tokenizer) != rows - 1:
        raise CheckpointError(
            expected=f"a tokenizer of {rows - 1} words, one less than the rows of {embedding}",
            got=f"one of {len(tokenizer)}",
            remedy="name the tokenizer of the language model that it was trained over with --tokenizer",
        )
    sign = tokenizer.encode("<", add_special_tokens=False)[-1]
    add_in_order(tokenizer, [END_OF_CHUNK_TOKEN, IMAGE_TOKEN])
    if tokenizer.pad_token is None:
        tokenizer.pad_token = END_OF_CHUNK_TOKEN
    return Tokens(
        image=rows, end_of_chunk=rows - 1, pad=tokenizer.pad_token_id, rows=rows, copied=sign, tokenizer=tokenizer
    )


def _sizes(config: dict[str, Any], part: str) -> dict[str, Any]:
    activation = config[f"{part}_act"]
    sizes = {name: config[f"{part}_{name}"] for name in ("heads", "dim_head", "ff_mult")}
    return sizes | {"activation": ACTIVATIONS.get(activation, activation)}


def _embedding(text: Names, path: str) -> str:
    """The peer's name of its input embedding."""
    return text("transformer.wte.weight" if path == "transformer.h" else "model.decoder.embed_tokens.weight")[0]
