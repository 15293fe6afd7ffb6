"""Back-propagation through a memory over many turns, with the activations of one turn at a time."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

Turn = TypeVar("Turn")
Slots = Float[Tensor, "batch slots dim"]
Step = Callable[[Slots, Turn], tuple[Slots, Tensor | None]]


def replay_backward(step: Step[Turn], slots: Slots, turns: Sequence[Turn]) -> Float[Tensor, ""]:
    """Memory replay back-propagation (Wu et al. 2022, "Memformer", section 3.4 and algorithm 1).

    First the turns run without a graph, and of each only the memory before it is kept. Then they run again from the
    last to the first, each with a graph of its own, which takes the gradient of its memory from the turn after it.
    The gradients are those of plain back-propagation through time.

    Args:
        step: one turn: from the memory before it to the memory after it and the turn's loss, or None for no loss. All
            but the last turn run twice, with the same random numbers.
        slots: the memory before the first turn; gradients flow on into what made it.
        turns: in the order of time.

    Returns:
        The sum of all losses, detached. Gradients are added to `.grad`, as `backward()` does.
    """
    memories, replays = [slots.detach()], []
    with torch.no_grad():
        for turn in turns[:-1]:
            replays.append(_RandomNumbers(slots.device).again())
            memories.append(step(memories[-1], turn)[0])
    replays.append(nullcontext())

    total, grad = slots.new_zeros(()), torch.zeros_like(slots)
    for memory, turn, replay in reversed(list(zip(memories, turns, replays, strict=True))):
        with replay:
            loss, grad = _turn_backward(step, memory.requires_grad_(), turn, grad)
        total = total if loss is None else total + loss
    if slots.requires_grad:
        slots.backward(grad)
    return total


def _turn_backward(step: Step[Turn], memory: Slots, turn: Turn, grad: Slots) -> tuple[Tensor | None, Slots]:
    """The turn's loss, and the gradient of the memory before it from that of the memory after it."""
    following, loss = step(memory, turn)
    if loss is None:
        following.backward(grad)
    else:
        torch.autograd.backward([following, loss], [grad, torch.ones_like(loss)])
    assert memory.grad is not None
    return (None if loss is None else loss.detach()), memory.grad


class _RandomNumbers:
    """Where torch's generators stand, on the CPU and on one device."""

    def __init__(self, device: torch.device) -> None:
        self.devices = [device] if device.type == "cuda" else []
        self.cpu_state = torch.get_rng_state()
        self.device_states = [torch.cuda.get_rng_state(device) for device in self.devices]

    @contextmanager
    def again(self) -> Generator[None]:
        """Draw the same numbers once more; outside nothing has been drawn."""
        with torch.random.fork_rng(self.devices):
            torch.set_rng_state(self.cpu_state)
            for device, state in zip(self.devices, self.device_states, strict=True):
                torch.cuda.set_rng_state(state, device)
            yield
