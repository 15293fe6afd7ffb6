"""The turn is over: what of it goes into the slots."""

from __future__ import annotations

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn

from flamingo_app.memory.attention import Attention, FeedForward


class MemoryUpdate(nn.Module):
    """Each slot attends to itself and to the turn, then a GRU cell decides what stays, then a feed-forward.

    (Wu et al. 2022, "Memformer", section 3.3. The gate is the reference's: the paper normalises and forgets instead.)
    No slot sees another one, so that slots do not become the same.

    Args:
        dim: width of slots and of the encoded turn.
        heads: attention heads.
        num_updates: how often a turn is written, one update on the result of the other.
    """

    def __init__(self, dim: int, *, heads: int = 8, num_updates: int = 1) -> None:
        super().__init__()
        self.num_updates = num_updates
        self.attention = Attention(dim, heads=heads, bias=True)
        self.gate = nn.GRUCell(dim, dim)
        self.feed_forward = FeedForward(dim)

    def forward(
        self,
        slots: Float[Tensor, "batch slots dim"],
        turn: Float[Tensor, "batch tokens dim"],
        mask: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch slots dim"]:
        """The next slots; `mask` is True where the turn has a token."""
        visible = self._itself_and_turn(slots, turn, mask)
        for _ in range(self.num_updates):
            news = self.attention(slots, torch.cat([slots, turn], dim=1), visible)
            slots = self._gated(news, slots)
            slots = slots + self.feed_forward(slots)
        return slots

    def _gated(
        self, news: Float[Tensor, "batch slots dim"], slots: Float[Tensor, "batch slots dim"]
    ) -> Float[Tensor, "batch slots dim"]:
        rows = [rearrange(part, "batch slots dim -> (batch slots) dim") for part in (news, slots)]
        return rearrange(self.gate(*rows), "(batch slots) dim -> batch slots dim", batch=len(slots))

    @staticmethod
    def _itself_and_turn(slots: Tensor, turn: Tensor, mask: Tensor | None) -> Bool[Tensor, "batch slots keys"]:
        itself = torch.eye(slots.shape[1], dtype=torch.bool, device=slots.device)
        real = torch.ones(turn.shape[:2], dtype=torch.bool, device=slots.device) if mask is None else mask
        return torch.cat(
            [
                repeat(itself, "slots keys -> batch slots keys", batch=len(slots)),
                repeat(real, "batch tokens -> batch slots tokens", slots=slots.shape[1]),
            ],
            dim=2,
        )
