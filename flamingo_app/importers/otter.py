"""Otter's checkpoints: OpenFlamingo's shape with both backbones inside, the image tower as Hugging Face has it."""

from __future__ import annotations

import re
from pathlib import Path

from transformers import AutoConfig, CLIPVisionConfig

from flamingo_app.importers import open_flamingo
from flamingo_app.importers.clip_vision import clip_preprocessing, convert_tower
from flamingo_app.importers.language_model import decoder_layers_name
from flamingo_app.importers.peer import Names, Options, Peer, read_config, understood
from flamingo_app.importers.tokens import find_tokenizer, tokens_of
from flamingo_app.importers.weights import Weights

ADDED = (*open_flamingo.ADDED, "<answer>")
TOWER = "vision_encoder.vision_model."


def recognises(weights: Weights) -> bool:
    """Whether the weights are of OpenFlamingo's kind with the image tower among them."""
    return open_flamingo.recognises(weights) and any(name.startswith(TOWER) for name in weights)


def read(weights: Weights, folder: Path, options: Options) -> Peer:
    """Everything but the tokenizer is in the checkpoint and the config.json beside it.

    Raises:
        CheckpointError: config.json or the tokenizer is missing, or the checkpoint is damaged.
    """
    config = read_config(folder, "text_config", "vision_config")
    with understood(folder):
        text_config = AutoConfig.for_model(**config["text_config"])
        tower_config = CLIPVisionConfig.from_dict(config["vision_config"])
    attend, patches = options.attend or "latest", options.patches or "raw"
    return Peer(
        family="Otter",
        fields=open_flamingo.shared_fields(weights)
        | {"attend": attend, "vision_feature": {"layer_norm": patches == "normed"}},
        parts=open_flamingo.names_of_parts(weights, text_config),
        text_config=text_config,
        text_model=None,
        text=names_of_text(decoder_layers_name(text_config)),
        vision=convert_tower(weights, TOWER, tower_config),
        preprocessing=clip_preprocessing(tower_config),
        tokens=tokens_of(find_tokenizer(options.tokenizer, folder, folder / "tokenizer", options.lm), ADDED),
        notes=open_flamingo.notes_on(attend, patches),
    )


def names_of_text(path: str) -> Names:
    """Names of the language model's weights: each decoder layer stands inside a wrapper."""
    inside = re.compile(rf"^({re.escape(path)}\.\d+)\.")

    def theirs(name: str) -> tuple[str, ...]:
        return ("lang_encoder." + inside.sub(r"\1.decoder_layer.", name),)

    return theirs
