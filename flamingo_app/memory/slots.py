"""What a memory holds, and how a turn gets its place in it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from flamingo_app.config import MemoryConfig
from flamingo_app.memory.memory_update import MemoryUpdate


@dataclass(frozen=True, kw_only=True)
class Slots:
    """The memory of a batch of conversations: a value, never changed in place.

    Attributes:
        values: (batch, places, latents, dim).
        turns: which turn each place holds, counted from 1; 0 where it is free.
        written: how many turns were written.
    """

    values: Float[Tensor, "batch places latents dim"]
    turns: Int[Tensor, "batch places"]
    written: Int[Tensor, " batch"]

    @classmethod
    def empty(cls, config: MemoryConfig, batch: int = 1, like: Tensor | None = None) -> Slots:
        """The memory before anything was said; `like` is a tensor on the device and of the type wanted."""
        like = torch.zeros(()) if like is None else like
        turns = torch.zeros(batch, config.num_turns, dtype=torch.long, device=like.device)
        values = like.new_zeros(batch, config.num_turns, config.num_latents, config.dim)
        return cls(values=values, turns=turns, written=turns[:, 0].clone())

    @property
    def flat(self) -> Float[Tensor, "batch slots dim"]:
        """All slots in one row."""
        return rearrange(self.values, "batch places latents dim -> batch (places latents) dim")

    @property
    def filled(self) -> Bool[Tensor, "batch slots"]:
        """Which of the slots in that row hold something."""
        return (self.turns > 0).repeat_interleave(self.values.shape[2], dim=1)

    def rows(self, start: int, stop: int) -> Slots:
        """The memories of some conversations of the batch."""
        return Slots(**{name: value[start:stop] for name, value in vars(self).items()})

    def to(self, like: Tensor) -> Slots:
        """The same on the device and of the type of another tensor."""
        turns, written = (counts.to(like.device) for counts in (self.turns, self.written))
        return Slots(values=self.values.to(like), turns=turns, written=written)

    @property
    def used(self) -> Slots:
        """Without the places behind the last that holds something; at least one stays."""
        held = (self.turns > 0).any(dim=0).nonzero()
        return self.places(int(held.max()) + 1 if len(held) else 1)

    def places(self, count: int) -> Slots:
        """The first places alone."""
        return replace(self, values=self.values[:, :count], turns=self.turns[:, :count])


class CompetingSlots(nn.Module):
    """Places compete for a turn: a free one wins, the first of them; where none is free, the one most like the turn.

    The turn is written there whole, and all others keep what they hold: nothing fades, however long the conversation,
    and when there is no room left, what gives way is what the memory can spare, as something like it has just come.
    """

    def forward(self, slots: Slots, turn: Float[Tensor, "batch latents dim"]) -> Slots:
        """The memory with one turn more."""
        num_places = slots.turns.shape[1]
        free = slots.turns == 0
        winner = free.int().argmax(dim=1, keepdim=True)
        room = free.any(dim=1, keepdim=True)
        if not room.all():  # likeness is not asked for as long as there is room
            alike = F.cosine_similarity(slots.values.flatten(2), turn.flatten(1)[:, None], dim=-1)
            winner = torch.where(room, winner, alike.argmax(dim=1, keepdim=True))
        won = torch.arange(num_places, device=turn.device) == winner
        written = slots.written + 1
        return Slots(
            values=torch.where(won[..., None, None], turn[:, None], slots.values),
            turns=torch.where(won, written[:, None], slots.turns),
            written=written,
        )


class RewrittenSlots(nn.Module):
    """Memformer's own: every slot attends to itself and to the turn, and a gate decides what stays of it.

    Slots begin as different learned vectors, and belong to no turn: each says when it was last written.
    """

    def __init__(self, config: MemoryConfig) -> None:
        super().__init__()
        self.initial = nn.Parameter(torch.randn(config.num_turns, config.num_latents, config.dim))
        self.update = MemoryUpdate(config.dim, heads=config.heads)

    def forward(self, slots: Slots, turn: Float[Tensor, "batch latents dim"]) -> Slots:
        """The memory with one turn more."""
        fresh = (slots.written == 0)[:, None, None, None]
        before = replace(slots, values=torch.where(fresh, self.initial.to(turn.dtype), slots.values))
        after = self.update(before.flat, turn).view_as(before.values)
        written = slots.written + 1
        return Slots(values=after, turns=written[:, None].expand_as(slots.turns), written=written)
