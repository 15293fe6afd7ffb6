"""What is learnt where earlier turns have left the window: to remember them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from flamingo_app.memory.slots import Slots
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from training.objective import row_losses
from training.starter.memory import RECALLED, recall_loss

SPELLED = ("input_ids", "attention_mask")


def remembered_losses(model: FlamingoForConditionalGeneration, batch: Mapping[str, Any]) -> Float[Tensor, " batch"]:
    """`row_losses` of rows that are read with a memory of the turns before them; and how badly that memory says the
    turns again.

    Turns are read each by itself, as a conversation reads those that leave it, and without a gradient: what learns from
    them is the memory, through all its writes.

    Args:
        batch: of a reader that remembers.
    """
    left: Tensor = batch["left"]
    window = {name: tensor for name, tensor in batch.items() if name not in ("turns", "left")}
    slots = Slots.empty(model.memory.config, batch=len(left), like=model.memory.recall_queries)
    recalled = slots.values.new_zeros(())
    if "turns" in batch:
        slots, recalled = written(model, slots, batch["turns"], left)
    rows = row_losses(partial(model, memory=model.view_memory(slots)), window)
    return rows + RECALLED * recalled * (window["weights"][:, 1:] > 0).sum(dim=1)


def written(
    model: FlamingoForConditionalGeneration, slots: Slots, turns: Mapping[str, Tensor], left: Tensor
) -> tuple[Slots, Tensor]:
    """The memories of rows after their turns, all rows at once; and what it costs to say the turns again.

    Args:
        turns: what `forward` takes of turns, each a row.
        left: (rows, most turns), for each row the numbers of its turns in their order, -1 where there is none.
    """
    with torch.no_grad():
        states = model.turn_states(**turns)
    mask = turns["attention_mask"].bool()
    encode = model.memory.encoder
    # Where reading a turn hangs on nothing that was written before it, each is read once for all rows that hold it.
    read = None if model.memory.config.encoder == "memformer" else encode(states, slots, mask)
    latents: list[Tensor] = []
    for numbers in left.unbind(dim=1):
        there, turn = numbers >= 0, numbers.clamp(min=0)
        told = encode(states[turn], slots, mask[turn]) if read is None else read[turn]
        after = model.memory.update(slots, told)
        slots = Slots(
            values=torch.where(there[:, None, None, None], after.values, slots.values),
            turns=torch.where(there[:, None], after.turns, slots.turns),
            written=torch.where(there, after.written, slots.written),
        )
        latents.append(told[there])
    order = left.T[left.T >= 0]
    told_again, _ = recall_loss(model, torch.cat(latents), {name: turns[name][order] for name in SPELLED})
    return slots, told_again
