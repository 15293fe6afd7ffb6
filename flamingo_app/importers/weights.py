"""A checkpoint's tensors by name, read when they are taken."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from flamingo_app.errors import CheckpointError

WRAPPERS = ("model_state_dict", "state_dict")
"""Where training scripts keep the weights among their optimizer's state."""

USUAL_NAMES = ("model.safetensors", "pytorch_model.bin", "model.safetensors.index.json", "pytorch_model.bin.index.json")


class Weights:
    """Tensors by name; it remembers which were taken, and which of those hold numbers that are none.

    Args:
        file: what to call it in messages.
        tensors: still on disk as far as the file's format allows.
    """

    def __init__(self, file: str, tensors: Mapping[str, Tensor]) -> None:
        self.file = file
        self.taken: set[str] = set()
        self.not_finite: set[str] = set()
        self._tensors = tensors

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a tensor whose size only the checkpoint knows.

        Raises:
            CheckpointError: it is missing.
        """
        if name not in self._tensors:
            raise missing(name, ["any number", "..."], self.file)
        return tuple(self._tensors[name].shape)

    def length(self, name: str, axis: int = 0) -> int:
        """One axis of such a tensor.

        Raises:
            CheckpointError: it is missing, or has no such axis.
        """
        shape = self.shape(name)
        if len(shape) <= axis:
            raise misshapen(name, ["any number"] * (axis + 1), shape, self.file)
        return shape[axis]

    def take(self, names: Sequence[str], shape: Sequence[int]) -> Tensor:
        """The tensor of this shape, joined row by row where the peer keeps it under several names.

        Raises:
            CheckpointError: one of them is missing, or has another shape; axes of length one do not count.
        """
        part = [shape[0] // len(names), *shape[1:]] if len(names) > 1 else list(shape)
        tensors = [self._one(name, part) for name in names]
        return torch.cat(tensors) if len(tensors) > 1 else tensors[0]

    def _one(self, name: str, shape: list[int]) -> Tensor:
        if name not in self._tensors:
            raise missing(name, shape, self.file)
        tensor = self._tensors[name]
        if [axis for axis in tensor.shape if axis != 1] != [axis for axis in shape if axis != 1]:
            raise misshapen(name, shape, tensor.shape, self.file)
        self.taken.add(name)
        if not tensor.isfinite().all():
            self.not_finite.add(name)
        return tensor.reshape(shape)


def missing(name: str, shape: Sequence[int | str], file: str) -> CheckpointError:
    """What to raise where a checkpoint lacks a tensor."""
    return CheckpointError(
        expected=f"{name} of shape {list(shape)}",
        got=f"{file} without it",
        remedy="the file is damaged or only a part of the whole: fetch it again",
    )


def misshapen(name: str, shape: Sequence[int | str], found: Sequence[int], file: str) -> CheckpointError:
    """What to raise where a tensor has another shape."""
    return CheckpointError(
        expected=f"{name} of shape {list(shape)}",
        got=f"shape {list(found)} in {file}",
        remedy="check --lm, --vision and --tokenizer; if they are right, the file is damaged: fetch it again",
    )


def open_weights(source: Path) -> Weights:
    """Open a checkpoint: a file, or a folder with one of the usual names or one file of weights alone.

    Safetensors are read directly; `.pt` and `.bin` only as plain tensors, so nothing in them can run.

    Raises:
        CheckpointError: there is no such file, or it is not one of plain tensors.
    """
    file = find_file(source)
    if file.name.endswith(".index.json"):
        shards = _shards(file)
        tensors = {name: tensor for shard in shards for name, tensor in _read(file.parent / shard).items()}
    else:
        tensors = _read(file)
    return Weights(str(file), {_plain_name(name): tensor for name, tensor in tensors.items()})


def find_file(source: Path) -> Path:
    """The file of weights that a path means."""
    if source.is_file():
        return source
    usual = [source / name for name in USUAL_NAMES if (source / name).is_file()]
    alone = [path for suffix in ("safetensors", "pt", "bin") for path in sorted(source.glob(f"*.{suffix}"))]
    if usual or len(alone) == 1:
        return (usual or alone)[0]
    raise CheckpointError(
        expected="a checkpoint, or a folder with one",
        got=f"{source} with {len(alone)} files of weights" if source.is_dir() else f"{source}, which is not there",
        remedy="name the file itself",
    )


def _shards(index: Path) -> list[str]:
    """The files that an index names."""
    try:
        return sorted({str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            expected="an index of weights: JSON with a weight_map",
            got=str(index),
            remedy="it is damaged: fetch it again",
        ) from error


def _read(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        found = _load_plain(file)
    except (OSError, RuntimeError, EOFError, ValueError, SafetensorError, pickle.UnpicklingError) as error:
        raise _unreadable(file) from error
    for wrapper in WRAPPERS:
        if isinstance(found, dict) and wrapper in found:
            found = cast("dict[str, Any]", found)[wrapper]
    tensors = cast("dict[str, Any]", found if isinstance(found, dict) else {})
    if not tensors or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise _unreadable(file)
    return tensors


def _load_plain(file: Path) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError:  # an old format, which cannot be mapped
        return torch.load(file, map_location="cpu", weights_only=True)


def _plain_name(name: str) -> str:
    """Without what wrappers for many devices and for checkpointing put into names."""
    return name.removeprefix("module.").replace("_checkpoint_wrapped_module.", "")


def _unreadable(file: Path) -> CheckpointError:
    return CheckpointError(
        expected="a file of tensors by name: safetensors, or .pt and .bin with nothing but tensors and numbers",
        got=str(file),
        remedy="fetch it again, or save its state dict as safetensors",
    )
