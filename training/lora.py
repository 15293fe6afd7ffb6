"""Low-rank adapters on the frozen language model (Hu et al. 2021), by peft; merged into a copy of it at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from flamingo_app.errors import ConfigError
from flamingo_app.importers.language_model import save_text
from flamingo_app.model.backbones import fingerprint
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration


def add(model: FlamingoForConditionalGeneration, rank: int, seed: int) -> None:
    """Put adapters on the language model's linear layers; they alone of it will learn.

    Raises:
        ConfigError: peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise ConfigError(
            expected="the peft package for --lora", got="none", remedy="install it: pip install '.[train]'"
        ) from None
    torch.manual_seed(seed)
    names = sorted({name.rpartition(".")[2] for name, part in model.language_model.named_modules() if _maps(part)})
    names = [name for name in names if name not in ("lm_head", "embed_out")]
    fan_in_fan_out = any(type(part).__name__ == "Conv1D" for part in model.language_model.modules())
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=names, fan_in_fan_out=fan_in_fan_out)
    inject_adapter_in_model(config, cast(Any, model.language_model))


def _maps(part: torch.nn.Module) -> bool:
    return isinstance(part, torch.nn.Linear) or type(part).__name__ == "Conv1D"


@torch.no_grad()
def merged(model: FlamingoForConditionalGeneration) -> dict[str, Tensor]:
    """The language model's weights with the adapters added, under its authors' names; the model is left as it was."""
    weights: dict[str, Tensor] = {}
    adapted = {name: cast(Any, part) for name, part in model.language_model.named_modules() if hasattr(part, "lora_A")}
    for name, tensor in model.language_model.state_dict().items():
        if ".lora_" in name:
            continue
        plain = name.replace(".base_layer.", ".")
        weights[plain] = tensor.clone()
        layer = adapted.get(name.removesuffix(".base_layer.weight"))
        if layer is not None:
            weights[plain] += layer.get_delta_weight("default")
    return weights


def save_merged(model: FlamingoForConditionalGeneration, folder: Path) -> None:
    """Write the merged language model to `folder`/text and let the model's config name it."""
    weights = merged(model)
    (folder / "text").mkdir(parents=True, exist_ok=True)
    save_text(weights, model.config.text_config, folder / "text")
    model.config.text_model, model.config.text_hash = "./text", fingerprint(weights)
