"""What trains, said once: these parts of the model, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from flamingo_app.errors import ConfigError

TRAINABLE = ("resampler", "gated_blocks", "added_tokens", "memory", "memory_blocks")
"""Attributes of `FlamingoForConditionalGeneration`; its checkpoint holds them and no others."""


def is_trainable(name: str) -> bool:
    """Whether a parameter or buffer of this full name belongs to a part that trains."""
    return name.split(".", maxsplit=1)[0] in TRAINABLE


def freeze_backbones(model: nn.Module) -> None:
    """Let the declared parts learn and nothing else. Loading makes new parameters, so this is done again after it."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_trainable(name))


NAMES = {
    "gates": ("gated_blocks",),
    "resampler": ("resampler",),
    "memory": ("memory", "memory_blocks"),
    "embeddings": ("added_tokens",),
}
"""What a person calls the parts that train."""


def train_only(model: nn.Module, names: Iterable[str]) -> None:
    """Of the declared parts let those learn that are named; "all" are those that a single sample uses: no memory.

    Raises:
        ConfigError: the model has no such part, or nothing in it to learn.
    """
    chosen = set(names)
    for name in chosen - {"all"}:
        if not any(p.numel() for full, p in model.named_parameters() if full.split(".")[0] in NAMES[name]):
            raise ConfigError(
                expected=f"a model with {name} to train", got="one without", remedy="leave it out of --train"
            )
    if "all" in chosen:
        chosen = chosen - {"all"} | NAMES.keys() - {"memory"}
    wanted = {part for name in chosen for part in NAMES[name]}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.split(".")[0] in wanted and parameter.numel() > 0)
