"""A tiny random model saved to a folder that speaks whole words, slowly enough for a person to press Stop."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from flamingo_app.model.checkpoint import make_processor
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.prompt import END_OF_CHUNK_TOKEN, IMAGE_TOKEN
from tests import tiny
from tests.memory.test_conversation_memory import SMALL

SPECIAL = [END_OF_CHUNK_TOKEN, IMAGE_TOKEN, "<pad>", "<unk>"]
WORDS = ["red", "green", "dog", "cat", "bird", "one", "two", "left", "right", "a", "the", "and", "is", "user", ":", "?"]

TALK = {
    "title": "Two dogs",
    "messages": [[{"picture": "teal.png"}, {"words": "a dog ?"}], [{"words": "and two dog ?"}]],
}
MEMORY = SMALL | {"num_turns": 16, "gated": tiny.SMALL_PARTS["gated"]}


def save(folder: Path) -> Path:
    """Save the model with things to click; its answers never end by themselves. Returns its folder."""
    vision, text = tiny.vision_folder(folder / "vision"), str(folder / "text")
    tokenizer().save_pretrained(text)
    language_model().save_pretrained(text)
    model = FlamingoForConditionalGeneration.from_backbones(vision, text, **tiny.SMALL_PARTS, memory=MEMORY)
    tiny.set_gates(model, 2.0)
    torch.manual_seed(3)
    for parameter in (*model.resampler.parameters(), *model.gated_blocks.parameters()):
        if parameter.dim() > 1:  # so loud that what is seen changes what is said
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder / "model")
    make_processor(vision, text).save_pretrained(folder / "model")
    (folder / "model" / "examples").mkdir()
    Image.new("RGB", (64, 64), "hotpink").save(folder / "model" / "examples" / "a-pink-page.png")
    (folder / "model" / "talks").mkdir()
    Image.new("RGB", (64, 64), "teal").save(folder / "model" / "talks" / "teal.png")
    (folder / "model" / "talks" / "talks.json").write_text(json.dumps([TALK]))
    return folder / "model"


def tokenizer() -> PreTrainedTokenizerFast:
    """A token is a word."""
    vocabulary = {word: index for index, word in enumerate([*SPECIAL, *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        eos_token=END_OF_CHUNK_TOKEN,
        pad_token="<pad>",
        unk_token="<unk>",
        extra_special_tokens=[IMAGE_TOKEN],
    )


@torch.no_grad()
def language_model() -> GPT2LMHeadModel:
    """Thin, so that it is small, and deep, so that it is slow."""
    torch.manual_seed(3)
    config = GPT2Config(
        vocab_size=len(SPECIAL) + len(WORDS),
        n_positions=160,
        n_embd=16,
        n_layer=32,
        n_head=2,
        initializer_range=0.5,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = GPT2LMHeadModel(config)
    model.transformer.wte.weight[: len(SPECIAL)] = 0.0  # no special token is ever the likeliest
    return model
