"""The peers' training steps, in the environment of `make peers`: `python -m benchmarks.finetuning_peers NAME`.

Each is built by its own code at GPT-2 small and ViT-B/32 sizes, with random weights, and stepped as its own trainer
steps it.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch.optim import AdamW

from benchmarks.stepping import BATCH, VOCABULARY, descend, report, words

GATE = 0.1  # of all contenders: shut gates stop every gradient behind them


def open_flamingo() -> Callable[[], None]:
    """open_flamingo 2.0.1: `train/train_utils.py`, one batch of interleaved data, `train.py`'s optimiser."""
    factory: Any = import_module("open_flamingo")
    with tempfile.TemporaryDirectory() as folder:
        _gpt2(Path(folder))
        _tokenizer(Path(folder))
        model, _, tokenizer = factory.create_model_and_transforms(
            "ViT-B-32", None, folder, folder, cross_attn_every_n_layers=1, decoder_layers_attr_name="transformer.h"
        )
    _open(model)
    model.train()
    image, end = (tokenizer.convert_tokens_to_ids(token) for token in ("<image>", "<|endofchunk|>"))
    embeddings = model.lang_encoder.get_input_embeddings().weight
    decayed = [p for name, p in model.named_parameters() if p.requires_grad and "gated_cross_attn" in name]
    others = [p for name, p in model.named_parameters() if p.requires_grad and "gated_cross_attn" not in name]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = AdamW(groups, lr=1e-4)
    pixels, ids = torch.randn(BATCH, 1, 1, 3, 224, 224), words(image)
    labels = ids.masked_fill(ids == image, -100)

    def step() -> None:
        model(vision_x=pixels, lang_x=ids, attention_mask=torch.ones_like(ids), labels=labels)[0].backward()
        added = torch.zeros_like(embeddings.grad)
        added[[image, end]] = 1.0
        embeddings.grad = embeddings.grad * added
        descend(decayed + others, optimizer)

    return step


def flamingo_mini() -> Callable[[], None]:
    """flamingo-mini: as the library's Trainer steps it in `training/train.py`, with `--optim adamw_torch`."""
    library: Any = import_module("flamingo_mini")
    transformers: Any = import_module("transformers")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # it tells language models apart by how their names begin
        _gpt2(Path("gpt2"))
        vision = transformers.CLIPVisionConfig(hidden_size=768, intermediate_size=3072, patch_size=32, image_size=224)
        transformers.CLIPVisionModel(vision).save_pretrained("clip")
        model = library.FlamingoModel(library.FlamingoConfig(lm="gpt2", clip_model_type="clip", dim=768))
        os.chdir("/")
    _open(model)
    model.train()
    learning = list(model.parameters_trainable())
    optimizer = AdamW(learning, lr=1e-4)
    pixels, ids = torch.randn(BATCH, 1, 3, 224, 224), words(VOCABULARY)
    places = torch.zeros_like(ids)
    places[:, 0] = 1

    def step() -> None:
        mask = torch.ones_like(ids)
        model(
            input_ids=ids, attention_mask=mask, media_locations=places, pixel_values=pixels, labels=ids
        ).loss.backward()
        descend(learning, optimizer)

    return step


def _gpt2(folder: Path) -> None:
    transformers: Any = import_module("transformers")
    transformers.GPT2LMHeadModel(transformers.GPT2Config()).save_pretrained(folder)


def _tokenizer(folder: Path) -> None:
    """As many words as GPT-2 has tokens."""
    tokenizers: Any = import_module("tokenizers")
    transformers: Any = import_module("transformers")
    known = tokenizers.Tokenizer(tokenizers.models.WordLevel({f"w{n}": n for n in range(VOCABULARY)}, unk_token="w0"))
    transformers.PreTrainedTokenizerFast(tokenizer_object=known).save_pretrained(folder)


@torch.no_grad()
def _open(model: torch.nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if "gate" in name.rpartition(".")[2] or "alpha" in name.rpartition(".")[2]:
            parameter.fill_(GATE)


CONTENDERS = {"open_flamingo": open_flamingo, "flamingo_mini": flamingo_mini}

if __name__ == "__main__":
    report(CONTENDERS[sys.argv[1]])
