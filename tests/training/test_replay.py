from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flamingo_app.memory.memory_update import MemoryUpdate
from training.replay import replay_backward

TURNS = 5


def conversation() -> tuple[MemoryUpdate, nn.Parameter, list[Tensor]]:
    torch.manual_seed(0)
    slots = nn.Parameter(torch.randn(3, 8))
    return MemoryUpdate(8, heads=2), slots, [torch.randn(2, 4, 8) for _ in range(TURNS)]


def step(update: MemoryUpdate, slots: Tensor, turn: Tensor, dropout: float) -> tuple[Tensor, Tensor]:
    slots = update(slots, F.dropout(turn, dropout))
    return slots, slots.square().mean()


def gradients(update: MemoryUpdate, slots: nn.Parameter) -> list[Tensor]:
    found = [parameter.grad for parameter in (slots, *update.parameters())]
    update.zero_grad()
    slots.grad = None
    return found


def test_gradients_are_those_of_plain_back_propagation_with_dropout_too():
    update, slots, turns = conversation()
    torch.manual_seed(7)
    memory, total = slots.expand(2, -1, -1), torch.zeros(())
    for turn in turns:
        memory, loss = step(update, memory, turn, dropout=0.5)
        total = total + loss
    total.backward()
    expected, drawn_next = gradients(update, slots), torch.rand(1)

    torch.manual_seed(7)
    replayed = replay_backward(lambda s, t: step(update, s, t, dropout=0.5), slots.expand(2, -1, -1), turns)
    torch.testing.assert_close(replayed, total.detach())
    assert torch.equal(torch.rand(1), drawn_next)
    for ours, plain in zip(gradients(update, slots), expected, strict=True):
        torch.testing.assert_close(ours, plain, atol=1e-6, rtol=1e-5)


def test_one_turn_has_a_graph_at_a_time():
    """Only the memory goes from turn to turn, and it comes as a leaf: no graph reaches from one turn to another."""
    update, slots, turns = conversation()
    leaves = []

    def watched(memory: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
        leaves.append(memory.is_leaf)
        return step(update, memory, turn, dropout=0.0)

    replay_backward(watched, slots.expand(2, -1, -1), turns)
    assert leaves == [True] * (2 * TURNS - 1)
