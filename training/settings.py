"""What a fine-tuning run is told, checked before anything is loaded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from flamingo_app.errors import ConfigError

PARTS = ("gates", "resampler", "memory", "embeddings", "all")
TRACKERS = ("tensorboard", "wandb", "trackio", "none")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
# What may differ between a run and its continuation: none of it changes what is computed.
FREE = (
    "output",
    "resume",
    "workers",
    "save_every",
    "keep",
    "eval_every",
    "eval_items",
    "track",
    "push_to_hub",
    "dry_run",
)


ABOVE_0, NOT_BELOW_0 = "above 0", "0 or more"
LEAST = {
    **dict.fromkeys(("epochs", "steps", "batch_size", "accumulate", "learning_rate", "gate_rate", "clip"), ABOVE_0),
    **dict.fromkeys(("max_tokens", "max_images", "check_rows", "save_every", "keep", "eval_items"), ABOVE_0),
    **dict.fromkeys(("lora", "seed", "workers", "warmup", "weight_decay", "eval_every", "similarity"), NOT_BELOW_0),
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A run.

    Args:
        data: what to train on; see `data.formats` and `data.mixture`.
        output: the run's folder.
        eval_data: held out: measured before, between and after.
        model: where to start from: starter, a preset, or a folder.
        resume: go on from the newest whole checkpoint in `output`.
        train: which parts learn, of `PARTS`.
        lora: rank of adapters on the frozen language model; 0 for none.
        epochs: passes over the data.
        steps: optimiser steps in all, instead of epochs.
        batch_size: samples at once, in each process.
        accumulate: batches for one optimiser step.
        learning_rate: after the warm-up; it falls along a half cosine to a twentieth.
        gate_rate: factor on the learning rate of the gates.
        warmup: share of the steps in which the rate rises.
        weight_decay: on matrices alone; gates, norms, biases and embeddings have none.
        clip: largest norm of the gradient.
        seed: of the order, the augmentation and the new weights.
        workers: processes that read ahead; 0 reads in between.
        augment: show another part of each picture every time.
        max_tokens: longer samples are cut there; None is what the language model can read.
        max_images: of one sample.
        image_root, similarity: see `data.formats.Reading`.
        max_bad: share of bad rows with which the run still starts, and goes on.
        check_rows: rows of each source that are looked at first; None is all.
        feature_cache: folder for the image tower's patches, so that each picture is encoded once.
        precision: "auto" is bf16 on an accelerator, fp32 on a CPU.
        gradient_checkpointing: compute activations twice rather than keep them.
        save_every: steps between checkpoints.
        keep: checkpoints that are kept.
        eval_every: steps between evaluations; 0 is before and after only.
        eval_items: samples of `eval_data` that are measured.
        track: where figures go, of `TRACKERS`.
        push_to_hub: repository that the result is uploaded to.
        dry_run: only say what would be uploaded.
    """

    data: str
    output: Path
    eval_data: str | None = None
    model: str = "starter"
    resume: bool = False
    train: tuple[str, ...] = ("all",)
    lora: int = 0
    epochs: float = 1.0
    steps: int | None = None
    batch_size: int = 8
    accumulate: int = 1
    learning_rate: float = 3e-4
    gate_rate: float = 3.0
    warmup: float = 0.05
    weight_decay: float = 0.05
    clip: float = 1.0
    seed: int = 0
    workers: int = 0
    augment: bool = False
    max_tokens: int | None = None
    max_images: int = 8
    image_root: Path | None = None
    similarity: float = 0.24
    max_bad: float = 0.05
    check_rows: int | None = None
    feature_cache: Path | None = None
    precision: str = "auto"
    gradient_checkpointing: bool = False
    save_every: int = 200
    keep: int = 2
    eval_every: int = 0
    eval_items: int = 100
    track: str = "tensorboard"
    push_to_hub: str | None = None
    dry_run: bool = False

    def __post_init__(self) -> None:
        for name, least in LEAST.items():
            given = getattr(self, name)
            if given is not None and not (0 < given < math.inf if least == ABOVE_0 else 0 <= given < math.inf):
                raise ConfigError(expected=f"{flag(name)} {least}", got=str(given), remedy="correct it")
        if not self.train or set(self.train) - {*PARTS}:
            raise ConfigError(
                expected=f"--train with some of {', '.join(PARTS)}", got=repr(",".join(self.train)), remedy="correct it"
            )
        if self.dry_run and not self.push_to_hub:
            raise ConfigError(
                expected="--push-to-hub beside --dry-run", got="none", remedy="only to look at the data, say --check"
            )
        if self.feature_cache and self.augment:
            raise ConfigError(
                expected="one of --feature-cache and --augment",
                got="both",
                remedy="leave one out: a cached picture is always the same",
            )
        if not 0 <= self.max_bad < 1:
            raise ConfigError(expected="--max-bad from 0 to below 1", got=str(self.max_bad), remedy="correct it")

    def as_json(self) -> dict[str, Any]:
        """The settings as JSON has them."""
        return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(self).items()}


def flag(name: str) -> str:
    """A field as it is typed."""
    return f"--{name.replace('_', '-')}"


def check_continuation(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with a run under settings that would make it another one.

    Raises:
        ConfigError: naming the first that differs.
    """
    for name in now:
        then, here = before.get(name), list(now[name]) if isinstance(now[name], tuple) else now[name]
        if name not in FREE and then != here:
            raise ConfigError(
                expected=f"{flag(name)} {then}, as the run in --output began",
                got=str(here),
                remedy="repeat the command as it was, or choose another --output",
            )


NAMES = tuple(field.name for field in fields(Settings))
