from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, pipeline

from flamingo_app.errors import CheckpointError, ModelNotFoundError
from flamingo_app.model import backbones, checkpoint
from flamingo_app.model.checkpoint import load, make_processor
from flamingo_app.presets import PRESETS, Preset
from flamingo_app.prompt import Mark
from tests import tiny

PICTURE = Image.new("RGB", (50, 40), "red")


@pytest.fixture
def folder(tmp_path) -> Path:
    """A model and its processor as both are saved."""
    flamingo = tiny.from_backbones(tmp_path, special=False)
    flamingo.save_pretrained(tmp_path / "model")
    make_processor(flamingo.config.vision_model, flamingo.config.text_model).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_folder_is_loaded_with_its_processor(folder):
    flamingo, processor = load(folder)
    inputs = processor.prompts([(Mark.IMAGE, " a"), (" no picture",)], [[PICTURE], []])
    assert flamingo(**inputs).logits.shape[-1] == flamingo.config.num_tokens == len(processor.tokenizer)
    assert flamingo.dtype == torch.float32
    assert load(folder, dtype=torch.bfloat16)[0].dtype == torch.bfloat16


def test_a_preset_is_two_backbones(tmp_path, monkeypatch):
    preset = Preset(vision=tiny.vision_folder(tmp_path / "v"), text=tiny.text_folder(tmp_path / "t", special=False))
    monkeypatch.setitem(PRESETS, "tiny", preset)
    flamingo, processor = load("tiny")
    inputs = processor.prompts([(Mark.IMAGE, " a")], [[PICTURE]])
    blank = {**inputs, "pixel_values": torch.zeros_like(inputs["pixel_values"])}
    assert torch.equal(flamingo(**inputs).logits, flamingo(**blank).logits), "the gates of a new model are closed"


def test_the_starters_backbones_move_with_the_package(tmp_path, monkeypatch):
    tiny.vision_folder(tmp_path / "vision")
    tiny.text_folder(tmp_path / "text")
    for module in (backbones, checkpoint):
        monkeypatch.setattr(module, "STARTER", tmp_path)
    with pytest.raises(ModelNotFoundError, match="make starter"):
        load()
    made = checkpoint.FlamingoForConditionalGeneration.from_backbones(
        "starter/vision", "starter/text", **tiny.SMALL_PARTS
    )
    made.save_pretrained(tmp_path)
    make_processor("starter/vision", "starter/text").save_pretrained(tmp_path)
    flamingo, _ = load()
    assert (flamingo.config.vision_model, flamingo.config.text_model) == ("starter/vision", "starter/text")


def test_an_unknown_name_lists_what_exists(tmp_path):
    with pytest.raises(ModelNotFoundError, match="starter, clip-vit-b32-gpt2"):
        load("clip-vit-b32-gpt3")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load(tmp_path)


def test_a_folder_with_the_model_alone_gets_the_processor_of_its_backbones(folder):
    whole = load(folder)[1]
    for name in ("processor_config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    alone = load(folder)[1]
    prompt, pictures = [(Mark.IMAGE, " a dog")], [[PICTURE]]
    assert alone.prompts(prompt, pictures)["input_ids"].equal(whole.prompts(prompt, pictures)["input_ids"])


@pytest.mark.parametrize("name", ["processor_config.json", "tokenizer.json", "config.json", "generation_config.json"])
@pytest.mark.parametrize("content", ["", "[1]", '{"model_type": '])
def test_a_damaged_file_of_a_folder_is_one_line(folder, name, content):
    (folder / name).write_text(content)
    with pytest.raises(CheckpointError, match=r"expected .*; got "):
        load(folder)


def test_another_models_folder_is_told_from_ours(tmp_path):
    with pytest.raises(CheckpointError, match=r"Flamingo model; got .* of gpt2 model"):
        load(tiny.text_folder(tmp_path / "t", special=False))


def test_auto_classes_know_it(folder):
    assert AutoConfig.from_pretrained(folder).model_type == "flamingo"
    flamingo, processor = AutoModelForImageTextToText.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    assert isinstance(flamingo, checkpoint.FlamingoForConditionalGeneration)
    assert isinstance(processor, checkpoint.FlamingoProcessor)


def test_the_pipeline_answers_about_a_picture(folder):
    ask = pipeline("image-text-to-text", model=str(folder), device="cpu")
    content = [{"type": "image", "image": PICTURE}, {"type": "text", "text": "what is this?"}]
    (said,) = ask(text=[{"role": "user", "content": content}], max_new_tokens=5, return_full_text=False)
    flamingo, processor = load(folder)
    prompt = ("user:", Mark.IMAGE, " what is this?", "\n", "assistant:")
    inputs = processor.prompts([prompt], [[PICTURE]])
    new = flamingo.generate(**inputs, max_new_tokens=5)[0, inputs["input_ids"].shape[1] :]
    assert said["generated_text"] == processor.tokenizer.decode(new, skip_special_tokens=True)
