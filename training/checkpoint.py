"""Checkpoints that survive being killed while they are written: temporary folder, fsync, manifest of hashes, rename.

A checkpoint is a folder `step-0001200` with `model.safetensors`, `optimizer.safetensors` and `manifest.json`. Nothing
in it is a pickle. A folder whose manifest is absent, or whose files differ from it, is not a checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer

from flamingo_app.errors import TrainingError

MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What is needed to go on exactly: the step reached, the trained tensors, the optimiser's, and notes."""

    step: int
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    notes: dict[str, Any]


def save(folder: Path, checkpoint: Checkpoint, *, keep: int = 2) -> Path:
    """Write a checkpoint under `folder` so that it is either whole or not there; older ones are pruned afterwards, and
    so are later ones: a run comes to an earlier step again only where those were damaged.

    Raises:
        TrainingError: it cannot be written.
    """
    final = folder / f"step-{checkpoint.step:07d}"
    try:
        _write(final, checkpoint)
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            expected=f"room for {final}",
            got=str(error),
            remedy="make some, and go on with --resume latest from the one before it",
        ) from error
    folders = _folders(folder)
    kept = [path for path in folders if path <= final][-keep:]
    for path in folders:
        if path not in kept:
            shutil.rmtree(path)
    return final


def _write(final: Path, checkpoint: Checkpoint) -> None:
    folder = final.parent
    temporary = folder / f".{final.name}.writing"
    for left in folder.glob(".step-*.writing"):  # by a kill
        shutil.rmtree(left)
    temporary.mkdir(parents=True)
    for name in ("model", "optimizer"):
        tensors: dict[str, Tensor] = getattr(checkpoint, name)
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, temporary / f"{name}.safetensors")
    hashes = {file.name: file_hash(file) for file in sorted(temporary.iterdir())}
    manifest = {"step": checkpoint.step, "notes": checkpoint.notes, "sha256": hashes}
    (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1))
    for path in (*temporary.iterdir(), temporary):
        _sync(path)
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    _sync(folder)


def latest(folder: Path, *, passed_over: Callable[[Path], None] = lambda path: None) -> Checkpoint | None:
    """The newest complete checkpoint under `folder`.

    Args:
        passed_over: told of each damaged one.
    """
    for path in reversed(_folders(folder)):
        try:
            manifest = json.loads((path / MANIFEST).read_text())
            if all(file_hash(path / name) == wanted for name, wanted in manifest["sha256"].items()):
                return Checkpoint(
                    step=manifest["step"],
                    model=load_file(path / "model.safetensors"),
                    optimizer=load_file(path / "optimizer.safetensors"),
                    notes=manifest["notes"],
                )
        except (AttributeError, OSError, ValueError, KeyError, TypeError):
            pass
        passed_over(path)
    return None


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """An optimiser's state as named tensors: "<parameter's number>.<what>"."""
    state: Mapping[int, Mapping[str, Any]] = optimizer.state_dict()["state"]
    return {f"{i}.{key}": torch.as_tensor(value).clone() for i, entry in state.items() for key, value in entry.items()}


def restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `optimizer_tensors`; learning rates and groups stay as the optimiser was built."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, key = name.split(".", 1)
        state.setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _folders(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*")) if folder.is_dir() else []


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
