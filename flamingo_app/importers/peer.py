"""What a family's reader makes of a checkpoint."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig

from flamingo_app.config import Attend
from flamingo_app.errors import CheckpointError
from flamingo_app.importers.tokens import Tokens
from flamingo_app.importers.weights import Weights
from flamingo_app.model.backbones import VisionBackbone

Names = Callable[[str], tuple[str, ...]]
"""From a name of ours to the peer's: several where we keep as one tensor what it keeps apart."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a checkpoint may leave open.

    Attributes:
        lm: the language model that it was trained over, by the names in `backbones`.
        vision: the image tower that it was trained over, likewise; also a folder, or a CLIP on the Hugging Face hub.
        tokenizer: where the tokenizer is, if not with the language model.
        attend: which picture a token sees; None is what the peer's own code does.
        patches: whether the image tower's last layer norm was applied; None is what the peer's own code did when its
            released models were trained.
        image_size: pixels of a picture's side, for a checkpoint that brings an image tower and does not say.
    """

    lm: str | None = None
    vision: str | None = None
    tokenizer: str | None = None
    attend: Attend | None = None
    patches: Literal["raw", "normed"] | None = None
    image_size: int | None = None


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A peer's checkpoint in our words.

    Attributes:
        family: what the report calls it.
        fields: of `FlamingoConfig`, as the checkpoint has them.
        parts: names of what trains.
        text_config: of the language model.
        text_model: identity of the weights that the checkpoint lacks; None where it holds them all.
        text: names of the language model's weights.
        vision: the image tower; without an identity where it came out of the checkpoint.
        preprocessing: open_clip's `preprocess_cfg` for it.
        tokens: the special tokens and their ids.
        stores_output_table: whether its code saves the language model's output embedding where it is one of its own.
        copies: names that only repeat others.
        notes: what the user should know.
    """

    family: str
    fields: dict[str, Any]
    parts: Names
    text_config: PreTrainedConfig
    text_model: str | None
    text: Names
    vision: VisionBackbone
    preprocessing: dict[str, Any]
    tokens: Tokens
    stores_output_table: bool = True
    copies: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def rename(name: str, parts: Mapping[str, tuple[str, ...]], prefix: str) -> tuple[str, ...]:
    """A name of ours with one of these parts replaced by the peer's, behind a prefix; without any of them as it is."""
    for ours, theirs in parts.items():
        if found := re.fullmatch(rf"(.*\.)?{re.escape(ours)}(\.weight|\.bias|)", name):
            return tuple(f"{prefix}{found[1] or ''}{part}{found[2]}" for part in theirs)
    return (prefix + name,)


def indices(weights: Weights, pattern: str) -> set[int]:
    """The numbers that stand in names where the pattern has its group."""
    return {int(found[1]) for name in weights if (found := re.search(pattern, name))}


def read_config(folder: Path, *needed: str) -> dict[str, Any]:
    """The config.json beside a checkpoint.

    Raises:
        CheckpointError: there is none, it cannot be read, or lacks one of the `needed` fields.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            expected="the config.json that its authors' code wrote beside the checkpoint",
            got=f"{folder} without a readable one",
            remedy="fetch it too",
        ) from error
    if absent := [name for name in needed if not isinstance(config, dict) or name not in config]:
        raise _other_config(folder, f"one without {', '.join(absent)}")
    return config


@contextmanager
def understood(folder: Path) -> Generator[None, None, None]:
    """What the libraries raise over the content of a config.json, as `CheckpointError`."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError, StrictDataclassError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _other_config(folder, f"one that transformers cannot read: {reason}") from error


def _other_config(folder: Path, got: str) -> CheckpointError:
    return CheckpointError(
        expected=f"{folder / 'config.json'} as its authors' code wrote it",
        got=got,
        remedy="fetch the one that belongs to the checkpoint",
    )


def check_needed(flag: str, value: str | None) -> str:
    """Raise `CheckpointError` where the checkpoint does not say what only the user can."""
    if value is None:
        raise CheckpointError(
            expected=f"{flag}, which this checkpoint does not hold",
            got="none",
            remedy=f"name with {flag} what the model was trained over",
        )
    return value
