"""What a model may be called. Nothing heavy is imported here: a wrong name is refused before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flamingo_app.errors import ModelNotFoundError

STARTER_NAME = "starter"


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


def check_model_name(name: str | Path) -> None:
    """Raise `ModelNotFoundError` where this is neither the starter nor a preset nor an existing folder."""
    known = (STARTER_NAME, *PRESETS)
    if str(name) not in known and not (str(name) and Path(name).is_dir()):
        raise ModelNotFoundError(
            expected=f"{', '.join(known)}, or a folder", got=repr(str(name)), remedy="choose one of these"
        )
