"""OpenFlamingo's checkpoints, of its first version and of its second, in all layouts that are about.

lang_encoder.LAYERS.3.gated_cross_attn_layer.    the second version, inside the decoder layer
lang_encoder.gated_cross_attn_layers.3.          the first, which has the block also inside the decoder layer;
                                                 files converted from it may have it here alone
perceiver.layers.0.0.to_q, ....0.1.1             attention and feed-forward
perceiver.layers.0.to_q, ....0.feed_forward.1    Otter's names of the same
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from flamingo_app.config import Attend, GatedConfig
from flamingo_app.errors import CheckpointError
from flamingo_app.importers.language_model import config_of, decoder_layers_name
from flamingo_app.importers.peer import Names, Options, Peer, check_needed, indices
from flamingo_app.importers.tokens import find_tokenizer, tokens_of
from flamingo_app.importers.weights import Weights
from flamingo_app.model.backbones import LOCAL, open_vision, preprocessing, text_source
from flamingo_app.prompt import END_OF_CHUNK_TOKEN, IMAGE_TOKEN

ADDED = (END_OF_CHUNK_TOKEN, IMAGE_TOKEN)
LISTED = "lang_encoder.gated_cross_attn_layers."
SEEN = {"next": "the next picture", "latest": "the latest picture", "all_previous": "all previous pictures"}
VISION = "ViT-L-14-quickgelu/openai"
"""The image tower of all its released models."""


def recognises(weights: Weights) -> bool:
    """Whether the weights are named as OpenFlamingo does it."""
    return any(name.startswith("lang_encoder.") for name in weights)


def read(weights: Weights, folder: Path, options: Options) -> Peer:
    """Its checkpoints hold neither backbone, and of the language model only the embeddings.

    Raises:
        CheckpointError: the options do not name the language model, or the checkpoint is of an unknown kind.
    """
    lm = check_needed("--lm", options.lm)
    vision = options.vision or VISION
    if Path(vision).is_dir():
        vision = LOCAL + vision
    text_config = config_of(lm)
    first_version = recognises_first_version(weights)
    attend = options.attend or ("next" if first_version else "latest")
    patches = options.patches or "raw"
    return Peer(
        family="OpenFlamingo's first version" if first_version else "OpenFlamingo",
        fields=shared_fields(weights) | {"attend": attend, "vision_feature": {"layer_norm": patches == "normed"}},
        parts=names_of_parts(weights, text_config),
        text_config=text_config,
        text_model=lm,
        text=names_of_text(text_config),
        stores_output_table=text_config.model_type == "gpt_neox",
        vision=open_vision(vision),
        preprocessing=preprocessing(vision),
        tokens=tokens_of(find_tokenizer(options.tokenizer, text_source(lm)), ADDED),
        copies=(LISTED,) if first_version else (),
        notes=notes_on(attend, patches),
    )


def notes_on(attend: Attend, patches: str) -> tuple[str, str]:
    """What the checkpoint does not say, and was taken to be so."""
    return (
        f"a word sees {SEEN[attend]} (--attend)",
        f"patches are {patches} (--patches): its released models were trained on raw ones",
    )


def recognises_first_version(weights: Weights) -> bool:
    """Only its own code writes every gated block twice."""
    return _inside_layers(weights) and any(name.startswith(LISTED) for name in weights)


def shared_fields(weights: Weights) -> dict[str, Any]:
    """Sizes of the resampler and places of the gated blocks; heads are 8 of width 64, which is not stored.

    Raises:
        CheckpointError: there are no gated blocks, or time embeddings that we have no place for.
    """
    if "perceiver.media_time_embs" in weights:
        raise CheckpointError(
            expected="a resampler without embeddings of the pictures' order",
            got=f"perceiver.media_time_embs in {weights.file}",
            remedy="import another model: none of the released ones has it",
        )
    blocks = indices(weights, r"(?:gated_cross_attn_layers\.(?=\d+\.)|\.(?=\d+\.gated_cross_attn_layer\.))(\d+)")
    # A block stands before layer i where (i + 1) % every == 0.
    every = math.gcd(*(index + 1 for index in blocks)) or 1
    frames = weights.length("perceiver.frame_embs") if "perceiver.frame_embs" in weights else None
    depth = max(indices(weights, r"^perceiver\.layers\.(\d+)\."), default=0) + 1
    return {
        "resampler": {"depth": depth, "num_latents": weights.length("perceiver.latents"), "max_frames": frames},
        "gated": {"every": every},
    }


def names_of_parts(weights: Weights, text_config: PreTrainedConfig) -> Names:
    """Names of what trains."""
    path = decoder_layers_name(text_config)
    layers = GatedConfig(**shared_fields(weights)["gated"]).layers(text_config.num_hidden_layers)
    flat = any(".feed_forward." in name for name in weights)
    block = f"lang_encoder.{path}.{{}}.gated_cross_attn_layer" if _inside_layers(weights) else LISTED + "{}"

    def theirs(name: str) -> tuple[str, ...]:
        part, rest = name.split(".", maxsplit=1)
        if part == "resampler":
            rest = re.sub(r"(layers\.\d+)\.attention\.", r"\1." if flat else r"\1.0.", rest)
            if not flat:
                rest = re.sub(r"(layers\.\d+)\.feed_forward\.", r"\1.1.", rest)
            return (f"perceiver.{rest.replace('frame_embeddings', 'frame_embs')}",)
        ordinal, rest = rest.split(".", maxsplit=1)
        rest = rest.replace("attention.", "attn.").replace("feed_forward.", "feed_forward." if flat else "ff.")
        return (f"{block.format(layers[int(ordinal)])}.{rest}",)

    return theirs


def names_of_text(text_config: PreTrainedConfig) -> Names:
    """Names of the language model's weights, as they are without gated blocks."""

    def theirs(name: str) -> tuple[str, ...]:
        if text_config.model_type == "gpt_neox":  # as its head was called when this was written
            name = name.replace("lm_head.", "embed_out.")
        return (f"lang_encoder.{name}",)

    return theirs


def _inside_layers(weights: Weights) -> bool:
    return any(".gated_cross_attn_layer." in name for name in weights)
