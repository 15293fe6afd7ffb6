"""flamingo-pytorch's `FlamingoPaLM`: its own language model, and whatever image encoder its user had, in a file."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from open_clip.transform import PreprocessCfg

from flamingo_app.config import GatedConfig, PaLMConfig
from flamingo_app.errors import CheckpointError
from flamingo_app.importers.convolution import convolution_tower
from flamingo_app.importers.open_flamingo import SEEN
from flamingo_app.importers.peer import Names, Options, Peer, indices, rename
from flamingo_app.importers.tokens import Tokens, find_tokenizer, respell
from flamingo_app.importers.weights import Weights
from flamingo_app.model.backbones import LOCAL, VisionBackbone, open_vision, preprocessing
from flamingo_app.model.palm import SLOWEST, rotary_speeds
from flamingo_app.prompt import END_OF_CHUNK_TOKEN, IMAGE_TOKEN

MEDIA_TOKEN = 3
"""The id of a picture where nobody chose another; the checkpoint does not say."""

IMAGE_SIZE = 224
"""Pixels of a picture's side where nobody says; the checkpoint does not."""

ENCODER = "img_encoder."
FRAMES = "video_frame_pos_emb"
SPEEDS = "layers.{}.0.fn.rotary_emb.inv_freq"

RESAMPLER = {
    "image_embeddings": ("media_pos_emb",),
    "attention.norm_media": ("0.norm_media",),
    "attention.norm_latents": ("0.norm_latents",),
    "attention.to_q": ("0.to_q",),
    "attention.to_kv": ("0.to_kv",),
    "attention.to_out": ("0.to_out",),
    "feed_forward.0": ("1.0",),
    "feed_forward.1": ("1.1",),
    "feed_forward.3": ("1.3",),
}
"""Our names of parts, and theirs."""

BLOCK = {
    "attention.norm": ("attn.norm",),
    "attention.to_q": ("attn.to_q",),
    "attention.to_kv": ("attn.to_kv",),
    "attention.to_out": ("attn.to_out",),
    "feed_forward.0": ("ff.0",),
    "feed_forward.1": ("ff.1",),
    "feed_forward.3": ("ff.3",),
}

LAYER = {
    "norm.weight": ("norm.gamma",),
    "norm.bias": ("norm.beta",),
    "to_qkv_ff": ("fused_attn_ff_proj",),
}

AROUND = {
    "embed_tokens": ("token_emb",),
    "lm_head": ("to_logits.1",),
    "norm.weight": ("to_logits.0.gamma",),
    "norm.bias": ("to_logits.0.beta",),
}
"""Inside the language model's layers, and around them."""


def recognises(weights: Weights) -> bool:
    """Whether the resampler is named as flamingo-pytorch does it."""
    return any(name.startswith("perceiver_resampler.") for name in weights)


def read(weights: Weights, folder: Path, options: Options) -> Peer:
    """Sizes are those of the tensors; neither the tokenizer nor how pictures are prepared is in the checkpoint.

    Raises:
        CheckpointError: the checkpoint is damaged, or its image encoder is of a kind that we have no place for.
    """
    config = text_config(weights)
    fields = fields_of(weights, config)
    vision, prepared = image_tower(weights, options)
    attend = options.attend or "latest"
    tokens = read_tokens(find_tokenizer(options.tokenizer, folder, folder / "tokenizer", options.lm), config.vocab_size)
    return Peer(
        family="flamingo-pytorch",
        fields=fields | {"attend": attend, "vision_feature": {"layer_norm": False}},
        parts=names_of_parts(config, fields),
        text_config=config,
        text_model=None,
        text=names_of_text,
        vision=vision,
        preprocessing=prepared,
        tokens=tokens,
        notes=(
            f"a word sees {SEEN[attend]} (--attend)",
            f"token {tokens.image} is the place of a picture",
            f"pictures are {prepared['size']} pixels wide (--image-size)",
        ),
    )


def text_config(weights: Weights) -> PaLMConfig:
    """Sizes of the language model.

    Raises:
        CheckpointError: what its authors' code computes anew at each start is other than what it computes.
    """
    num_layers = 1 + max(indices(weights, r"^layers\.(\d+)\.0\."), default=0)
    head_dim = 2 * weights.length(SPEEDS.format(0))
    for name in (SPEEDS.format(layer) for layer in range(num_layers)):
        if not torch.allclose(weights.take([name], (head_dim // 2,)).float(), rotary_speeds(head_dim), rtol=1e-4):
            raise CheckpointError(
                expected=f"{name} as flamingo-pytorch computes it, from 1 down to near 1/{SLOWEST}",
                got=f"other numbers in {weights.file}",
                remedy="the file is damaged: fetch it again",
            )
    return PaLMConfig(
        vocab_size=weights.length("token_emb.weight"),
        hidden_size=weights.length("token_emb.weight", axis=1),
        intermediate_size=weights.length("layers.0.0.fn.ff_out.1.weight", axis=1),
        num_hidden_layers=num_layers,
        num_attention_heads=weights.length("layers.0.0.fn.attn_out.weight", axis=1) // head_dim,
        head_dim=head_dim,
    )


def fields_of(weights: Weights, config: PaLMConfig) -> dict[str, Any]:
    """Of the resampler and the gated blocks: a block stands after layer i where i % every == 0."""
    heads = {"heads": config.num_attention_heads, "dim_head": config.head_dim}
    return {
        "resampler": heads
        | {
            "depth": 1 + max(indices(weights, r"^perceiver_resampler\.layers\.(\d+)\."), default=0),
            "num_latents": weights.length("perceiver_resampler.latents"),
            "max_images": weights.length("perceiver_resampler.media_pos_emb"),
            "max_frames": weights.length(FRAMES) if FRAMES in weights else None,
            "embed_single_frames": False,
        },
        "gated": heads
        | {
            "every": math.gcd(*indices(weights, r"^layers\.(\d+)\.1\.")) or config.num_hidden_layers,
            "first": 0,
            "after": True,
        },
    }


def names_of_parts(config: PaLMConfig, fields: dict[str, Any]) -> Names:
    """Names of what trains."""
    layers = GatedConfig(**fields["gated"]).layers(config.num_hidden_layers)

    def theirs(name: str) -> tuple[str, ...]:
        part, rest = name.split(".", maxsplit=1)
        if part == "resampler":
            return (FRAMES,) if rest == "frame_embeddings" else rename(rest, RESAMPLER, "perceiver_resampler.")
        ordinal, rest = rest.split(".", maxsplit=1)
        return rename(rest, BLOCK, f"layers.{layers[int(ordinal)]}.1.")

    return theirs


def names_of_text(name: str) -> tuple[str, ...]:
    """Names of the language model's weights; a norm's bias is theirs too, zeros that nothing trains."""
    if not name.startswith("layers."):
        return rename(name, AROUND, "")
    _, index, rest = name.split(".", maxsplit=2)
    return rename(rest, LAYER, f"layers.{index}.0.fn.")


def image_tower(weights: Weights, options: Options) -> tuple[VisionBackbone, dict[str, Any]]:
    """The image tower and how its pictures are prepared: the one that the user names, or the checkpoint's own.

    Raises:
        CheckpointError: its own is more than one convolution over patches, and the user names no other.
    """
    if options.vision is not None:
        vision = LOCAL + options.vision if Path(options.vision).is_dir() else options.vision
        return open_vision(vision), preprocessing(vision)
    layers = {name.rpartition(".")[0] for name in weights if name.startswith(ENCODER)}
    if len(layers) != 1 or len(weights.shape(f"{min(layers)}.weight")) != 4:
        raise CheckpointError(
            expected=f"{ENCODER}* of one convolution over patches, or --vision",
            got=f"{len(layers)} layers of that name in {weights.file}",
            remedy="convert its image encoder to a folder of open_clip's, and name that with --vision",
        )
    size = options.image_size or IMAGE_SIZE
    return convolution_tower(weights, min(layers), size), asdict(PreprocessCfg(size=size))


def read_tokens(tokenizer: Any, rows: int) -> Tokens:
    """Its `<image>`, or the peer's usual place of it; its `<|endofchunk|>`, or else its end of a text.

    Raises:
        CheckpointError: the tokenizer has more words than the checkpoint has rows, or no end of a text.
    """
    if tokenizer is None:
        return Tokens(image=MEDIA_TOKEN, end_of_chunk=0, pad=0, rows=rows, own=0)
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    image = vocabulary.get(IMAGE_TOKEN, MEDIA_TOKEN)
    end = vocabulary.get(END_OF_CHUNK_TOKEN, tokenizer.eos_token_id)
    if end is None or len(tokenizer) > rows:
        raise CheckpointError(
            expected=f"a tokenizer of at most {rows} words, the rows of token_emb.weight, that ends a text with one",
            got=f"one of {len(tokenizer)} with the end {end}",
            remedy="name the tokenizer that the model was trained with by --tokenizer",
        )
    tokenizer = respell(tokenizer, image, end)
    return Tokens(image=image, end_of_chunk=end, pad=tokenizer.pad_token_id, rows=rows, own=0, tokenizer=tokenizer)
