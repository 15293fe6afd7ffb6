"""Idefics' checkpoints, as transformers' `IdeficsForVisionText2Text` writes them: everything is in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import IdeficsConfig, LlamaConfig

from flamingo_app.errors import CheckpointError
from flamingo_app.importers.clip_vision import clip_preprocessing, convert_tower
from flamingo_app.importers.open_flamingo import SEEN
from flamingo_app.importers.peer import Names, Options, Peer, read_config, rename, understood
from flamingo_app.importers.tokens import Tokens, find_tokenizer, respell
from flamingo_app.importers.weights import Weights
from flamingo_app.prompt import IMAGE_TOKEN

AROUND_IMAGE = "<fake_token_around_image>"
"""What stands on both sides of a picture."""

END_OF_UTTERANCE = "<end_of_utterance>"
"""What ends a turn in its models for chats."""

RESAMPLER = {
    "norm": ("layer_norm",),
    "attention.norm_media": ("0.context_layer_norm",),
    "attention.norm_latents": ("0.latents_layer_norm",),
    "attention.norm_q": ("0.q_layer_norm",),
    "attention.norm_k": ("0.k_layer_norm",),
    "attention.to_q": ("0.q_proj",),
    "attention.to_kv": ("0.k_proj", "0.v_proj"),
    "attention.to_out": ("0.output_proj",),
    "feed_forward.0": ("1.ln",),
    "feed_forward.1": ("1.fc",),
    "feed_forward.3": ("1.c_proj",),
}
"""Our names of parts, and theirs: several where we keep as one tensor what they keep apart."""

BLOCK = {
    "attention.norm": ("input_layernorm",),
    "attention.norm_q": ("cross_attn.q_layer_norm",),
    "attention.norm_k": ("cross_attn.k_layer_norm",),
    "attention.to_q": ("cross_attn.q_proj",),
    "attention.to_kv": ("cross_attn.k_proj", "cross_attn.v_proj"),
    "attention.to_out": ("cross_attn.o_proj",),
    "feed_forward.0": ("post_attention_layernorm",),
    "feed_forward.1": ("mlp.up_proj", "mlp.gate_proj"),
    "feed_forward.3": ("mlp.down_proj",),
    "attn_gate": ("alpha_cross_attn",),
    "ff_gate": ("alpha_dense",),
}

APART = {
    "model.embed_tokens.weight": "model.embed_tokens.additional_embedding.weight",
    "lm_head.weight": "lm_head.additional_fc.weight",
}
"""Where the added tokens' rows of a table are."""


def recognises(weights: Weights) -> bool:
    """Whether the gates are named as Idefics does it."""
    return any(".alpha_cross_attn" in name for name in weights)


def read(weights: Weights, folder: Path, options: Options) -> Peer:
    """Everything but the tokenizer is in the checkpoint and the config.json beside it.

    Raises:
        CheckpointError: config.json is missing, describes what we have no place for, or the checkpoint is damaged.
    """
    with understood(folder):
        config = IdeficsConfig.from_dict(read_config(folder, "perceiver_config", "vision_config"))
    check_known(config)
    tower: Any = config.vision_config
    attend, patches = options.attend or "latest", options.patches or "raw"
    return Peer(
        family="Idefics",
        fields={
            "resampler": resampler_fields(config.perceiver_config),
            "gated": gated_fields(config),
            "attend": attend,
            "vision_feature": {"layer_norm": patches == "normed", "keep_cls": True},
        },
        parts=names_of_parts,
        text_config=text_config(config),
        text_model=None,
        text=names_of_text(config.additional_vocab_size),
        vision=convert_tower(weights, "model.vision_model.", tower),
        preprocessing=clip_preprocessing(tower) | {"resize_mode": "squash"},
        tokens=read_tokens(find_tokenizer(options.tokenizer, folder, folder / "tokenizer", options.lm), config),
        notes=(f"a word sees {SEEN[attend]} (--attend)", f"{AROUND_IMAGE} stands on both sides of every picture"),
    )


def check_known(config: IdeficsConfig) -> None:
    """Raise `CheckpointError` where the model is of a kind that we have no place for."""
    wanted = {"use_resampler": True, "hidden_act": "silu"}
    for name, value in wanted.items():
        if getattr(config, name) != value:
            raise CheckpointError(
                expected=f"a model with {name} {value}, as Idefics' released ones have it",
                got=f"{name} {getattr(config, name)} in config.json",
                remedy="import another: there is no place here for such layers",
            )


def resampler_fields(perceiver: Any) -> dict[str, Any]:
    """Of `ResamplerConfig`."""
    return {
        "depth": perceiver.resampler_depth,
        "num_latents": perceiver.resampler_n_latents,
        "heads": perceiver.resampler_n_heads,
        "dim_head": perceiver.resampler_head_dim,
        "activation": "relu",
        "qk_norm": perceiver.qk_layer_norms_perceiver,
    }


def gated_fields(config: IdeficsConfig) -> dict[str, Any]:
    """Of `GatedConfig`: a block stands before layer i where i % every == 0."""
    return {
        "every": config.cross_layer_interval,
        "first": 0,
        "heads": config.num_attention_heads,
        "dim_head": config.hidden_size // config.num_attention_heads,
        "ff_mult": config.intermediate_size / config.hidden_size,
        "activation": "swiglu",
        "rms_norm_eps": config.rms_norm_eps,
        "qk_norm": config.qk_layer_norms,
        "vector_gates": config.alpha_type == "vector",
    }


def text_config(config: IdeficsConfig) -> LlamaConfig:
    """Without the gated blocks its decoder is Llama's."""
    shared = (
        "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act",
        "max_position_embeddings", "rms_norm_eps", "rope_parameters", "tie_word_embeddings", "initializer_range",
        "pad_token_id", "bos_token_id", "eos_token_id",
    )  # fmt: skip
    return LlamaConfig(**{name: getattr(config, name) for name in shared})


def names_of_parts(name: str) -> tuple[str, ...]:
    """Names of what trains."""
    part, rest = name.split(".", maxsplit=1)
    if part == "resampler":
        return rename(rest.replace("layers.", "blocks."), RESAMPLER, "model.perceiver_resampler.")
    return rename(rest, BLOCK, "model.gated_cross_attn_layers.")


def names_of_text(additional: int) -> Names:
    """Names of the language model's weights: Llama's own, and tables in two parts."""

    def theirs(name: str) -> tuple[str, ...]:
        return (name, APART[name]) if additional and name in APART else (name,)

    return theirs


def read_tokens(tokenizer: Any, config: IdeficsConfig) -> Tokens:
    """Its own `<image>`, and the token that ends a turn, or else a document, for the end of a chunk.

    Raises:
        CheckpointError: the tokenizer is another model's.
    """
    rows = config.vocab_size + config.additional_vocab_size
    # <fake_token_around_image> and <image> are the first that its authors add.
    image, pad = config.vocab_size + 1, config.pad_token_id
    end = config.eos_token_id[0] if isinstance(config.eos_token_id, list) else config.eos_token_id
    if tokenizer is not None:
        vocabulary: dict[str, int] = tokenizer.get_vocab()
        image, end = vocabulary.get(IMAGE_TOKEN, rows), vocabulary.get(END_OF_UTTERANCE, tokenizer.eos_token_id)
    if end is None or max(image, end) >= rows:
        raise CheckpointError(
            expected=f"a tokenizer of at most {rows} words, with {IMAGE_TOKEN} and an end among them",
            got="none" if tokenizer is None else f"one of {len(tokenizer)}, {IMAGE_TOKEN} at {image}, its end at {end}",
            remedy="name the tokenizer that the model was trained with by --tokenizer",
        )
    if tokenizer is not None:
        beside = {"beside_image_token": AROUND_IMAGE} if AROUND_IMAGE in tokenizer.get_vocab() else {}
        tokenizer = respell(tokenizer, image, end, **beside)
        pad = tokenizer.pad_token_id
    return Tokens(
        image=image,
        end_of_chunk=end,
        pad=end if pad is None else pad,
        rows=rows,
        apart=config.additional_vocab_size,
        own=config.additional_vocab_size,
        tokenizer=tokenizer,
    )
