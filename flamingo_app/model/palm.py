"""The language model of flamingo-pytorch, in PaLM's shape; Hugging Face has no class for it."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from flamingo_app.attention import GatedUnit, attend, merge_heads, split_heads
from flamingo_app.config import PaLMConfig

SLOWEST = 10_000
"""Base of the rotary embedding's wavelengths (Su et al. 2021)."""

Rotation = tuple[Float[Tensor, "#batch tokens dim_head"], Float[Tensor, "#batch tokens dim_head"]]


class PaLMBlock(GradientCheckpointingLayer):
    """Attention and feed-forward side by side over one norm, added at once (Chowdhery et al. 2022, section 2).

    All heads of queries read one head of keys and values.
    """

    def __init__(self, config: PaLMConfig, index: int) -> None:
        super().__init__()
        dim, inner, hidden = config.hidden_size, config.num_attention_heads * config.head_dim, config.intermediate_size
        self.heads, self.index = config.num_attention_heads, index
        self.widths = (inner, config.head_dim, config.head_dim, 2 * hidden)
        self.norm = nn.LayerNorm(dim)
        self.to_qkv_ff = nn.Linear(dim, sum(self.widths), bias=False)
        self.attn_out = nn.Linear(inner, dim, bias=False)
        self.ff_out = nn.Sequential(GatedUnit(F.silu), nn.Linear(hidden, dim, bias=False))

    def forward(
        self,
        hidden_states: Float[Tensor, "batch tokens dim"],
        rotation: Rotation,
        visible: Bool[Tensor, "#batch tokens keys"],
        past_key_values: Cache | None = None,
        **_: Any,
    ) -> Float[Tensor, "batch tokens dim"]:
        x = hidden_states
        queries, keys, values, hidden = self.to_qkv_ff(self.norm(x)).split(self.widths, dim=-1)
        queries, keys, values = split_heads(queries, self.heads), split_heads(keys, 1), split_heads(values, 1)
        queries, keys = apply_rotary_pos_emb(queries, keys, *rotation)
        if past_key_values is not None:
            keys, values = past_key_values.update(keys, values, self.index)
        keys, values = (one.expand(-1, self.heads, -1, -1) for one in (keys, values))
        return x + self.attn_out(merge_heads(attend(queries, keys, values, visible))) + self.ff_out(hidden)


class PaLMForCausalLM(PreTrainedModel, GenerationMixin):
    """Embeddings, blocks, a norm, and logits over the embeddings; called as Hugging Face's models are."""

    config_class = PaLMConfig
    config: PaLMConfig
    base_model_prefix = ""
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ["PaLMBlock"]  # noqa: RUF012  # declared so by the base class
    _tied_weights_keys = {"lm_head.weight": "embed_tokens.weight"}  # noqa: RUF012

    def __init__(self, config: PaLMConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(PaLMBlock(config, index) for index in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embed_tokens

    def get_output_embeddings(self) -> nn.Linear:
        return self.lm_head

    def forward(
        self,
        input_ids: Int[Tensor, "batch tokens"] | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Int[Tensor, "_ tokens"] | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Float[Tensor, "batch tokens dim"] | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits of the tokens; `kwargs` go to the blocks, see `FlamingoForConditionalGeneration.forward`."""
        x = self.embed_tokens(cast(Tensor, input_ids)) if inputs_embeds is None else inputs_embeds
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        past = 0 if past_key_values is None else past_key_values.get_seq_length()
        places = torch.arange(past + x.shape[1], device=x.device)
        rotation = _rotation(places[None, past:] if position_ids is None else position_ids, self.config.head_dim, x)
        visible = _visible(places, past, attention_mask)
        states = [x]
        for layer in self.layers:
            x = layer(x, rotation, visible, past_key_values=past_key_values, **kwargs)
            states.append(x)
        states[-1] = x = self.norm(x)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        return CausalLMOutputWithPast(
            logits=self.lm_head(x[:, kept]),
            past_key_values=past_key_values,
            hidden_states=tuple(states) if output_hidden_states else None,
        )


def rotary_speeds(dim: int) -> Float[Tensor, " half_dim"]:
    """By how much each pair of a head's numbers turns from one position to the next."""
    return SLOWEST ** -(torch.arange(0, dim, 2).float() / dim)


def _rotation(positions: Int[Tensor, "#batch tokens"], dim: int, like: Tensor) -> Rotation:
    """Cosine and sine of each position's angles, the second half of a head turning as the first does."""
    angles = (positions[..., None].float() * rotary_speeds(dim).to(like.device)).repeat(1, 1, 2)
    return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


def _visible(places: Int[Tensor, " keys"], past: int, mask: Tensor | None) -> Bool[Tensor, "_ tokens keys"]:
    """Which token sees which: those up to itself that are no padding."""
    earlier = (places <= places[past:, None])[None]
    return earlier if mask is None else earlier & mask[:, None].bool()
