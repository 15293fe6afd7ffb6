"""How far the gates are open: tanh of each, over the steps."""

from __future__ import annotations

from collections.abc import Mapping

from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.model.gated_cross_attention import opening

SHUT = 0.01


def gates(model: FlamingoForConditionalGeneration) -> dict[str, float]:
    """tanh of every gate by its layer: 0 is shut, 1 fully open."""
    opened: dict[str, float] = {}
    for layer, block in zip(model.config.gated_layers, model.gated_blocks, strict=True):
        for name in ("attn_gate", "ff_gate"):
            opened[f"layer {layer} {name.removesuffix('_gate')}"] = opening(getattr(block, name))
    return opened


def warning(opened: Mapping[str, float], step: int) -> str | None:
    """A line where all gates that let pictures in are still shut: such a model sees nothing."""
    widest = max(abs(value) for name, value in opened.items() if name.endswith("attn"))
    if widest >= SHUT:
        return None
    return (
        f"warning: after {step} steps no gate is open by more than {widest:.4f}: the model hardly sees the pictures; "
        "train longer, or raise --learning-rate or --gate-rate"
    )
