"""How far the gates are open: tanh of each, over the steps."""

from __future__ import annotations

import re
from collections.abc import Mapping

from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.model.gated_cross_attention import opening

SHUT = 0.01


def gates(model: FlamingoForConditionalGeneration) -> dict[str, float]:
    """tanh of every gate by its layer, those to the memory apart: 0 is shut, 1 fully open."""
    kinds = {"layer": model.gated_blocks} | ({"memory": model.memory_blocks} if model.config.memory else {})
    return {
        f"{kind} {layer} {name.removesuffix('_gate')}": opening(getattr(block, name))
        for kind, blocks in kinds.items()
        for layer, block in zip(model.config.gated_layers, blocks, strict=True)
        for name in ("attn_gate", "ff_gate")
    }


def warning(opened: Mapping[str, float], step: int) -> str | None:
    """A line where all gates that let pictures in are still shut: such a model sees nothing."""
    widest = max(abs(value) for name, value in opened.items() if re.fullmatch(r"layer \d+ attn", name))
    if widest >= SHUT:
        return None
    return (
        f"warning: after {step} steps no gate is open by more than {widest:.4f}: the model hardly sees the pictures; "
        "train longer, or raise --learning-rate or --gate-rate"
    )
