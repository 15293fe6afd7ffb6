"""A conversation's memory as a value: saved, loaded, branched and cleared."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from flamingo_app.errors import CheckpointError
from flamingo_app.memory.slots import Slots

FORMAT = "flamingo memory 1"


@runtime_checkable
class Remembers(Protocol):
    """A model with a memory."""

    def empty_slots(self) -> Slots: ...
    def memory_fingerprint(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class MemoryState:
    """What a model remembers of one conversation. It is never changed: to branch, keep it; to go back, use it again.

    Attributes:
        slots: the memory of one conversation, a batch of one.
        fingerprint: of the weights that wrote it; others cannot read it.
    """

    slots: Slots
    fingerprint: str

    @classmethod
    def empty(cls, model: Remembers) -> MemoryState:
        """Before anything was said; also what is left when everything is to be forgotten."""
        return cls(slots=model.empty_slots(), fingerprint=model.memory_fingerprint())

    @cached_property
    def name(self) -> str:
        """The same for the same state of the same model, another for another."""
        whole = sha256(self.fingerprint.encode())
        for tensor in (self.slots.values, self.slots.turns, self.slots.written):
            dense = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            whole.update(dense.view(-1).view(torch.uint8).numpy().tobytes())
        return whole.hexdigest()

    @property
    def num_written(self) -> int:
        """How many turns were written."""
        return int(self.slots.written)

    @property
    def turns(self) -> tuple[int, ...]:
        """Which turns, counted from 1, still have slots of their own, in their order."""
        return tuple(sorted({turn for turn in self.slots.turns[0].tolist() if turn}))

    def save(self, file: str | Path) -> None:
        """Write it to one safetensors file.

        Raises:
            CheckpointError: it cannot be written there.
        """
        tensors = {"values": self.slots.values, "turns": self.slots.turns, "written": self.slots.written}
        notes = {"format": FORMAT, "fingerprint": self.fingerprint, "name": self.name}
        try:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, str(file), metadata=notes)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                expected="a file that can be written",
                got=f"{file}: {error}",
                remedy="name one in a folder that exists and has room",
            ) from error

    @classmethod
    def load(cls, file: str | Path, model: Remembers) -> MemoryState:
        """Read what `save` wrote.

        Raises:
            CheckpointError: it is no such file, or was written by a model with other weights.
        """
        try:
            with safe_open(str(file), "pt") as opened:
                notes = opened.metadata() or {}
                # Copied, since what is read in place changes with the file.
                slots = Slots(**{name: opened.get_tensor(name).clone() for name in opened.keys()})  # noqa: SIM118
        except (OSError, SafetensorError, TypeError) as error:
            raise CheckpointError(
                expected="a file that MemoryState.save wrote", got=f"{file}: {error}", remedy="save the memory again"
            ) from error
        state = cls(slots=slots, fingerprint=notes.get("fingerprint", "none"))
        state.check(model, str(file))
        if (notes.get("format"), notes.get("name")) != (FORMAT, state.name):
            raise CheckpointError(
                expected="a file that MemoryState.save wrote",
                got=f"{file}, which was changed since or is of another version",
                remedy="save the memory again",
            )
        like = model.empty_slots()
        return cls(slots=slots.to(like.values), fingerprint=state.fingerprint)

    def check(self, model: Remembers, name: str = "a memory") -> None:
        """Raise `CheckpointError` where the model is not the one that wrote this."""
        if self.fingerprint != (expected := model.memory_fingerprint()):
            raise CheckpointError(
                expected=f"a memory written by this model (fingerprint {expected[:12]})",
                got=f"{name} with fingerprint {self.fingerprint[:12]}",
                remedy="load the model that wrote it, or Conversation.load(..., anew=True) to read the messages again",
            )
