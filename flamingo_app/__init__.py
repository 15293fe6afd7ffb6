"""Flamingo App: a few-shot vision-language model to chat with, to teach with a handful of pictures, and to fine-tune.

The way a picture travels:

    bytes ── images.py ──> RGB ── processing.py ──> pixel_values   (batch images frames 3 height width)
      └─ model/vision_encoder.py: a frozen open_clip tower ──> patches  (batch images frames patches dim_vision)
          └─ model/perceiver_resampler.py ──> media latents             (batch images latents dim_vision)
              └─ model/gated_cross_attention.py, before layers of a frozen language model  <── tokens, from prompt.py
                  └─ model/generation.py, over one cache for text and media ──> words

Names are imported when they are first used: `import flamingo_app` loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flamingo_app.config import FlamingoConfig as FlamingoConfig
    from flamingo_app.conversation.session import Conversation as Conversation
    from flamingo_app.fewshot.captioning import caption as caption
    from flamingo_app.fewshot.classification import classify as classify
    from flamingo_app.fewshot.shots import Shot as Shot
    from flamingo_app.memory.state import MemoryState as MemoryState
    from flamingo_app.model.checkpoint import load as load
    from flamingo_app.model.flamingo import FlamingoForConditionalGeneration as FlamingoForConditionalGeneration
    from flamingo_app.processing import FlamingoProcessor as FlamingoProcessor

_HOMES = {
    "Conversation": "conversation.session",
    "FlamingoConfig": "config",
    "FlamingoForConditionalGeneration": "model.flamingo",
    "FlamingoProcessor": "processing",
    "MemoryState": "memory.state",
    "Shot": "fewshot.shots",
    "caption": "fewshot.captioning",
    "classify": "fewshot.classification",
    "load": "model.checkpoint",
}

__all__ = [
    "Conversation",
    "FlamingoConfig",
    "FlamingoForConditionalGeneration",
    "FlamingoProcessor",
    "MemoryState",
    "Shot",
    "caption",
    "classify",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
