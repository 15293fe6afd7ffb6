"""What a conversation leaves behind: turns are written when they leave the window, and read ever after."""

from __future__ import annotations

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from flamingo_app.config import MemoryConfig
from flamingo_app.memory.linformer import LinformerConfig, LinformerLayer
from flamingo_app.memory.memformer import MemformerStack
from flamingo_app.memory.perceiver_io import PerceiverIO, PerceiverIOConfig
from flamingo_app.memory.slots import CompetingSlots, RewrittenSlots, Slots

LONGEST_WAVE = 10_000.0


class ConversationMemory(nn.Module):
    """Turns to slots, and slots to what text may attend to.

    Write: a turn's hidden states become a few latents (`TurnEncoder`), and these become slots (`memory.slots`).
    Read: all slots, each with the time at which it was written, are keys and values for gated cross-attention of its
    own. There is no bottleneck of a few memory tokens between the two: which of hundreds of turns matters is known
    only where the question is, and attention to all slots costs the same however long the conversation is. Behind the
    slots stands one that holds nothing: where attention must fall on something, only so can it find that nothing fits.

    Args:
        dim_text: width of the language model.
        config: everything else.
    """

    def __init__(self, dim_text: int, config: MemoryConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = TurnEncoder(dim_text, config)
        self.update = CompetingSlots() if config.update == "competing" else RewrittenSlots(config)
        self.norm = nn.LayerNorm(config.dim)
        self.to_time = nn.Linear(config.dim, config.dim, bias=False)
        self.nothing = nn.Parameter(torch.randn(config.dim))
        self.recall_queries = nn.Parameter(torch.randn(config.recalled_tokens, dim_text))

    def write(
        self,
        slots: Slots,
        hidden: Float[Tensor, "batch tokens depth dim_text"],
        mask: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Slots:
        """The memory after one turn more.

        Args:
            hidden: what the frozen model made of the turn's tokens; see `TurnEncoder`.
            mask: True where there is a token.
        """
        return self.update(slots, self.encoder(hidden, slots, mask))

    def readable(self, slots: Slots) -> tuple[Float[Tensor, "batch readable dim"], Bool[Tensor, "batch readable"]]:
        """The slots as text reads them, what they hold and when it was written, then nothing; and which may be read."""
        time = self.to_time(waves(slots.turns, self.config.dim).to(slots.values.dtype))
        held = self.norm(slots.flat) + time.repeat_interleave(self.config.num_latents, dim=1)
        nothing = self.nothing.expand(len(held), 1, -1).to(held.dtype)
        filled = slots.filled
        return torch.cat([held, nothing], dim=1), torch.cat([filled, filled.any(dim=1, keepdim=True)], dim=1)

    def recall(self, latents: Float[Tensor, "turns latents dim"]) -> Float[Tensor, "turns tokens dim_text"]:
        """What the latents of turns say, as the hidden states of their first tokens: the decoder of Perceiver IO."""
        return self.encoder.perceiver_io.decode(latents, self.recall_queries)


class TurnEncoder(nn.Module):
    """A turn of any length to a few latents: the encoder of Perceiver IO, behind a layer that `config` may add.

    Of each token it gets the word (the input of the first layer), and what the model made of it halfway and at the end:
    the last layer alone has forgotten much of what it does not need for the next word.
    """

    DEPTH = 3

    def __init__(self, dim_text: int, config: MemoryConfig) -> None:
        super().__init__()
        dim = config.dim
        self.max_tokens = config.max_tokens
        self.norm = nn.LayerNorm(dim_text)
        self.project = nn.Linear(self.DEPTH * dim_text, dim)
        self.memformer = self.linformer = None
        if config.encoder == "memformer":
            self.memformer = MemformerStack(dim, 1, config.heads, causal=False, both_directions=True)
        elif config.encoder == "linformer":
            self.linformer = LinformerLayer(LinformerConfig(dim=dim, max_tokens=config.max_tokens, heads=config.heads))
        self.perceiver_io = PerceiverIO(
            dim,
            dim_text,
            PerceiverIOConfig(
                depth=config.depth,
                num_latents=config.num_latents,
                dim_latents=dim,
                cross_heads=config.heads,
                cross_dim_head=config.dim_head,
                latent_heads=config.heads,
                latent_dim_head=config.dim_head,
                decoder_feed_forward=True,
            ),
        )

    def forward(
        self,
        hidden: Float[Tensor, "batch tokens depth dim_text"],
        slots: Slots,
        mask: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch latents dim"]:
        """The turn's latents; what is longer than `max_tokens` is cut off."""
        hidden = hidden[:, : self.max_tokens]
        mask = None if mask is None else mask[:, : self.max_tokens]
        x = self.project(rearrange(self.norm(hidden), "batch tokens depth dim -> batch tokens (depth dim)"))
        if self.memformer is not None:
            x = self.memformer(x, slots.flat, mask, slots.filled)
        elif self.linformer is not None:
            x = self.linformer(x, mask)
        return self.perceiver_io.process(self.perceiver_io.encode(x, mask))


def turn_states(hidden_states: tuple[Tensor, ...]) -> Float[Tensor, "batch tokens depth dim_text"]:
    """What `TurnEncoder` reads of a language model's hidden states: the first, the middle and the last of them."""
    return torch.stack([hidden_states[0], hidden_states[len(hidden_states) // 2], hidden_states[-1]], dim=2)


def waves(turns: Int[Tensor, "batch places"], dim: int) -> Float[Tensor, "batch places dim"]:
    """When a turn was written, as sines and cosines of its number (Vaswani et al. 2017, section 3.5)."""
    frequencies = LONGEST_WAVE ** -torch.linspace(0, 1, dim // 2, device=turns.device)
    angles = repeat(turns.float(), "batch places -> batch places waves", waves=dim // 2) * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
