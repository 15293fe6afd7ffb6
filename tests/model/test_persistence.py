"""Saved and loaded, a model is the same model; over other backbones it is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2LMHeadModel

from flamingo_app.errors import CheckpointError, ConfigError
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.model.trainable import TRAINABLE, is_trainable
from tests import tiny


@pytest.fixture
def saved(tmp_path) -> tuple[FlamingoForConditionalGeneration, Path]:
    memory = {"num_turns": 2, "num_latents": 1, "dim": 8, "heads": 2, "dim_head": 4}
    flamingo = tiny.from_backbones(tmp_path, special=False, memory=memory)
    flamingo.save_pretrained(tmp_path / "model")
    return flamingo, tmp_path / "model"


def answer(flamingo: FlamingoForConditionalGeneration) -> torch.Tensor:
    ids = torch.tensor([[flamingo.config.image_token_id, 97, flamingo.config.end_of_chunk_token_id, 98]])
    return flamingo(ids, pixel_values=tiny.pictures()).logits


def test_the_logits_are_identical_and_the_frozen_parts_frozen(saved):
    flamingo, folder = saved
    again = FlamingoForConditionalGeneration.from_pretrained(folder)
    assert torch.equal(answer(again), answer(flamingo))
    assert not again.training
    assert again.name_or_path == str(folder)
    assert all(parameter.requires_grad == is_trainable(name) for name, parameter in again.named_parameters())
    assert again.generation_config.to_dict() == flamingo.generation_config.to_dict()


def test_only_what_trains_is_written(saved):
    _, folder = saved
    assert {name.split(".")[0] for name in load_file(folder / "model.safetensors")} == set(TRAINABLE)
    config = json.loads((folder / "config.json").read_text())
    assert Path(config["text_model"]).is_absolute()
    assert config["vision_model"].startswith("local-dir:/")


def test_a_checkpoint_of_half_precision_is_loaded_in_full(saved):
    flamingo, folder = saved
    flamingo.to(torch.bfloat16).save_pretrained(folder)
    again = FlamingoForConditionalGeneration.from_pretrained(folder)
    assert {parameter.dtype for parameter in again.parameters()} == {torch.float32}


def test_from_backbones_adds_the_tokens_that_the_tokenizer_lacks(saved):
    flamingo, _ = saved
    config = flamingo.config
    assert (config.image_token_id, config.end_of_chunk_token_id, config.num_added_tokens) == (256, 257, 2)
    mean = flamingo.get_input_embeddings().weight.mean(dim=0)
    assert (flamingo.added_tokens.input_rows - mean).abs().max() < 0.2


def test_from_backbones_takes_the_tokens_that_it_has(tmp_path):
    config = tiny.from_backbones(tmp_path).config
    assert (config.image_token_id, config.end_of_chunk_token_id, config.pad_token_id, config.num_added_tokens) == (
        tiny.IMAGE_ID,
        tiny.END_ID,
        tiny.PAD_ID,
        0,
    )


def test_the_live_language_models_config_is_not_the_composites(saved):
    flamingo, _ = saved
    assert flamingo.config.text_config.eos_token_id != flamingo.config.end_of_chunk_token_id


def test_a_mistyped_field_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="resample"):
        tiny.from_backbones(tmp_path, resample={})


def test_other_weights_under_the_same_name_are_refused(saved, tmp_path):
    _, folder = saved
    torch.manual_seed(9)
    GPT2LMHeadModel(tiny.gpt2_config(vocab_size=tiny.BYTES)).save_pretrained(tmp_path / "text")
    with pytest.raises(CheckpointError, match="sha256"):
        FlamingoForConditionalGeneration.from_pretrained(folder)


@pytest.mark.parametrize("damage", ["a tensor less", "a tensor more", "another shape"])
def test_weights_that_do_not_fit_the_config_are_refused(saved, damage):
    _, folder = saved
    state = load_file(folder / "model.safetensors")
    if damage == "a tensor less":
        del state["gated_blocks.0.attn_gate"]
    elif damage == "a tensor more":
        state["gated_blocks.9.attn_gate"] = torch.zeros(())
    else:
        state["gated_blocks.0.attn_gate"] = torch.zeros(2)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="attn_gate"):
        FlamingoForConditionalGeneration.from_pretrained(folder)


def test_a_cut_file_is_refused(saved):
    _, folder = saved
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        FlamingoForConditionalGeneration.from_pretrained(folder)


def test_without_names_for_its_backbones_a_model_is_not_saved(tmp_path):
    with pytest.raises(CheckpointError, match="vision_model"):
        tiny.model().save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()
