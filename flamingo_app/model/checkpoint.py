"""From a name to a model that is ready, with the processor that goes with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoTokenizer

from flamingo_app.errors import ModelNotFoundError
from flamingo_app.model.backbones import STARTER, preprocessing, text_source
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.processing import FlamingoImageProcessor, FlamingoProcessor, add_special_tokens


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Two real backbones that go well together, and a gated block before every so many layers."""

    vision: str
    text: str
    every: int = 1


PRESETS = {
    "clip-vit-b32-gpt2": Preset(vision="ViT-B-32-quickgelu/openai", text="openai-community/gpt2"),
    "clip-vit-l14-gpt2-medium": Preset(
        vision="ViT-L-14-quickgelu/openai", text="openai-community/gpt2-medium", every=2
    ),
    "clip-vit-l14-qwen3-0.6b": Preset(vision="ViT-L-14-quickgelu/openai", text="Qwen/Qwen3-0.6B", every=4),
}
"""Models over downloaded weights. Their gates are closed: they know pictures only once they are trained."""


def load(
    name: str | Path = "starter", *, device: str | torch.device | None = None, dtype: torch.dtype | None = None
) -> tuple[FlamingoForConditionalGeneration, FlamingoProcessor]:
    """A model in eval mode, and its processor.

    Args:
        name: "starter", a preset, or a folder that `save_pretrained` of both has written.
        device: where the model is to be; None is the CPU.
        dtype: None is float32, whatever was stored: anything shorter is slow on a CPU.

    Raises:
        ModelNotFoundError: there is none of this name, or the starter has not been trained here.
        CheckpointError: its files are missing, damaged, or do not belong together.
    """
    if name in PRESETS:
        model, processor = _from_preset(PRESETS[str(name)])
    else:
        folder = _folder(name)
        model = cast(FlamingoForConditionalGeneration, FlamingoForConditionalGeneration.from_pretrained(folder))
        processor = FlamingoProcessor.from_pretrained(folder)
    cast(Any, model).to(device=device, dtype=dtype or torch.float32)
    return model, processor


def make_processor(vision: str, text: str) -> FlamingoProcessor:
    """The processor of two backbones: pictures as the tower wants them, words as the language model spells them."""
    tokenizer = AutoTokenizer.from_pretrained(text_source(text))
    add_special_tokens(tokenizer)
    return FlamingoProcessor(image_processor=FlamingoImageProcessor(**preprocessing(vision)), tokenizer=tokenizer)


def _from_preset(preset: Preset) -> tuple[FlamingoForConditionalGeneration, FlamingoProcessor]:
    model = FlamingoForConditionalGeneration.from_backbones(preset.vision, preset.text, gated={"every": preset.every})
    return model, make_processor(preset.vision, preset.text)


def _folder(name: str | Path) -> Path:
    if name == "starter":
        if not (STARTER / "model.safetensors").is_file():
            raise ModelNotFoundError(
                expected="the starter's weights in the package", got="none", remedy="run `make starter` to train them"
            )
        return STARTER
    if not Path(name).is_dir():
        raise ModelNotFoundError(
            expected=f"starter, {', '.join(PRESETS)}, or a folder", got=str(name), remedy="choose one of these"
        )
    return Path(name)
