"""From a name to a model that is ready, with the processor that goes with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoTokenizer

from flamingo_app.errors import CheckpointError, ModelNotFoundError
from flamingo_app.model.backbones import STARTER, preprocessing, text_source
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.model.persistence import DAMAGE
from flamingo_app.presets import PRESETS, STARTER_NAME, Preset, check_model_name
from flamingo_app.processing import FlamingoImageProcessor, FlamingoProcessor, add_special_tokens


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
    check_model_name(name)
    if name in PRESETS:
        model, processor = _from_preset(PRESETS[str(name)])
    else:
        folder = _folder(name)
        model = cast(FlamingoForConditionalGeneration, FlamingoForConditionalGeneration.from_pretrained(folder))
        processor = _processor(folder, model)
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


def _processor(folder: Path, model: FlamingoForConditionalGeneration) -> FlamingoProcessor:
    """The processor that lies in a model's folder; where only the model was saved, the one of its backbones."""
    if not any((folder / name).exists() for name in ("processor_config.json", "preprocessor_config.json")):
        return make_processor(str(model.config.vision_model), str(model.config.text_model))
    try:
        return FlamingoProcessor.from_pretrained(folder)
    except DAMAGE as error:
        raise CheckpointError(
            expected="readable files of the processor (processor_config.json, tokenizer.json)",
            got=f"{folder} without a whole set of them",
            remedy="save the processor there again, with its save_pretrained",
        ) from error


def _folder(name: str | Path) -> Path:
    if name != STARTER_NAME:
        return Path(name)
    if not (STARTER / "model.safetensors").is_file():
        raise ModelNotFoundError(
            expected="the starter's weights in the package", got="none", remedy="run `make starter` to train them"
        )
    return STARTER
