"""What trains, said once: these parts of the model, and nothing else."""

from __future__ import annotations

from torch import nn

TRAINABLE = ("resampler", "gated_blocks", "added_tokens")
"""Attributes of `FlamingoForConditionalGeneration`; its checkpoint holds them and no others."""


def is_trainable(name: str) -> bool:
    """Whether a parameter or buffer of this full name belongs to a part that trains."""
    return name.split(".", maxsplit=1)[0] in TRAINABLE


def freeze_backbones(model: nn.Module) -> None:
    """Let the declared parts learn and nothing else. Loading makes new parameters, so this is done again after it."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_trainable(name))
