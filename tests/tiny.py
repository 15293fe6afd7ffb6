"""Tiny random models for all tests: real parts, small enough to build in milliseconds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from flamingo_app.config import FlamingoConfig
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.model.vision_encoder import build_tower
from flamingo_app.prompt import END_OF_CHUNK_TOKEN, IMAGE_TOKEN

IMAGE_SIZE = 32
VIT: dict[str, Any] = {"image_size": IMAGE_SIZE, "layers": 2, "width": 16, "patch_size": 16, "head_width": 8}
RESNET: dict[str, Any] = {"image_size": IMAGE_SIZE, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32}
EMBED_DIM = 8
PREPROCESS = {"size": IMAGE_SIZE, "mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"}
SMALL_PARTS: dict[str, Any] = {
    "resampler": {"depth": 1, "num_latents": 3, "heads": 2, "dim_head": 8},
    "gated": {"heads": 2, "dim_head": 8},
}
PAD = "<pad>"
BYTES = 256  # words are bytes; the special tokens come after
END_ID, PAD_ID, IMAGE_ID = BYTES, BYTES + 1, BYTES + 2


@cache
def tokenizer(*, special: bool = True) -> PreTrainedTokenizerFast:
    """A byte tokenizer; without `special` it lacks our tokens, as those of the hubs do."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    if not special:
        return PreTrainedTokenizerFast(tokenizer_object=words, padding_side="left", clean_up_tokenization_spaces=False)
    fast = PreTrainedTokenizerFast(tokenizer_object=words, padding_side="left", clean_up_tokenization_spaces=False)
    fast.add_special_tokens({"eos_token": END_OF_CHUNK_TOKEN, "pad_token": PAD, "extra_special_tokens": [IMAGE_TOKEN]})
    return fast


def gpt2_config(*, positions: int = 320, vocab_size: int = BYTES + 3) -> GPT2Config:
    """GPT-2 of two layers; sure of itself, so that greedy choices do not hang on rounding."""
    return GPT2Config(
        vocab_size=vocab_size,
        n_positions=positions,
        n_embd=16,
        n_layer=2,
        n_head=2,
        initializer_range=0.5,
        bos_token_id=None,
        eos_token_id=None,
        attn_pdrop=0.0,
        embd_pdrop=0.0,
        resid_pdrop=0.0,
    )


def config(*, vision: dict[str, Any] = VIT, text: Any = None, positions: int = 320, **fields: Any) -> FlamingoConfig:
    """A config whose language model knows the special tokens of `tokenizer()`."""
    ids = {"image_token_id": IMAGE_ID, "end_of_chunk_token_id": END_ID, "pad_token_id": PAD_ID, "num_added_tokens": 0}
    return FlamingoConfig(
        text_config=text or gpt2_config(positions=positions),
        vision_config=vision | {"embed_dim": EMBED_DIM, "quick_gelu": False},
        **ids | SMALL_PARTS | fields,
    )


def model(*, gates: float = 0.5, seed: int = 0, **fields: Any) -> FlamingoForConditionalGeneration:
    """A random model, its gates open by default so that pictures matter."""
    torch.manual_seed(seed)
    made = FlamingoForConditionalGeneration(config(**fields)).eval()
    set_gates(made, gates)
    return made


@torch.no_grad()
def set_gates(flamingo: FlamingoForConditionalGeneration, value: float) -> None:
    """Open all gates by `value`, before tanh."""
    for name, parameter in flamingo.named_parameters():
        if name.endswith("gate"):
            parameter.fill_(value)


def pictures(batch: int = 1, images: int = 1, *, seed: int = 0) -> torch.Tensor:
    """Random pixel values (batch images 1 3 height width)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, images, 1, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator)


def rows(texts: Sequence[str]) -> dict[str, torch.Tensor]:
    """Left-padded ids and mask of texts, `*` standing for a picture."""
    marked = [text.replace("*", IMAGE_TOKEN) for text in texts]
    return dict(tokenizer()(marked, return_tensors="pt", padding=True, return_token_type_ids=False))


def vision_folder(folder: Path, *, vision: dict[str, Any] = VIT) -> str:
    """Save a tiny CLIP the way open_clip's hub folders look; returns its identity."""
    torch.manual_seed(1)
    folder.mkdir(parents=True)
    text = {"context_length": 8, "vocab_size": 16, "width": 8, "heads": 1, "layers": 1}
    description = {"model_cfg": {"embed_dim": EMBED_DIM, "vision_cfg": vision, "text_cfg": text}}
    (folder / "open_clip_config.json").write_text(json.dumps(description | {"preprocess_cfg": PREPROCESS}))
    tower = build_tower(vision | {"embed_dim": EMBED_DIM})
    weights = {f"visual.{name}": value.contiguous() for name, value in tower.state_dict().items()}
    save_file(weights | {"logit_scale": torch.zeros(())}, folder / "open_clip_model.safetensors")
    return f"local-dir:{folder}"


def text_folder(folder: Path, *, special: bool = True) -> str:
    """Save a tiny GPT-2 and its tokenizer the way the Hugging Face hub has them; returns its identity."""
    torch.manual_seed(2)
    GPT2LMHeadModel(gpt2_config(vocab_size=BYTES + 3 if special else BYTES)).save_pretrained(folder)
    tokenizer(special=special).save_pretrained(folder)
    return str(folder)


def from_backbones(folder: Path, *, special: bool = True, **fields: Any) -> FlamingoForConditionalGeneration:
    """A model over two tiny backbones saved in a folder, so that it can be saved and loaded; its gates open."""
    made = FlamingoForConditionalGeneration.from_backbones(
        vision_folder(folder / "vision"), text_folder(folder / "text", special=special), **SMALL_PARTS | fields
    )
    set_gates(made, 0.5)
    return made
