"""The whole model: a frozen language model that sees."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel, initialization
from transformers.cache_utils import Cache, DynamicCache
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils.generic import can_return_tuple

from flamingo_app.checks import check_images, check_length, check_mask
from flamingo_app.config import FlamingoConfig
from flamingo_app.errors import ConfigError
from flamingo_app.memory.conversation_memory import ConversationMemory, turn_states
from flamingo_app.memory.slots import Slots
from flamingo_app.model.backbones import fingerprint
from flamingo_app.model.cache import MediaCache, MediaLayer, media_ordinals, text_time, visible_media
from flamingo_app.model.gated_cross_attention import GatedCrossAttentionBlock, MediaContext, MemoryView, Trace
from flamingo_app.model.generation import MediaGenerationMixin
from flamingo_app.model.language_model import CONTEXT, AddedTokens, GatedDecoderLayer, decoder_layers, probe
from flamingo_app.model.perceiver_resampler import PerceiverResampler
from flamingo_app.model.persistence import TrainablePartMixin
from flamingo_app.model.trainable import freeze_backbones, is_trainable
from flamingo_app.model.vision_encoder import VisionEncoder


class FlamingoForConditionalGeneration(TrainablePartMixin, MediaGenerationMixin):
    """Pictures and text in, text out (Alayrac et al. 2022).

    1. `vision_encoder`, frozen: pixels to patches.
    2. `resampler`: the patches of a picture to a few media latents.
    3. `gated_blocks`, each before a layer of 4, or after it: tokens look at the latents of the pictures before them.
    4. `language_model`, frozen: embeddings to logits; `added_tokens` gives rows to the tokens it did not know.
    5. `memory`, where the config has one: turns that leave the window to slots, which `memory_blocks` read.
    """

    config_class = FlamingoConfig
    config: FlamingoConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    input_modalities = ["image", "text"]  # noqa: RUF012  # declared so by the base class
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ["GatedCrossAttentionBlock", "PerceiverResampler", "VisionEncoder"]  # noqa: RUF012

    def __init__(self, config: FlamingoConfig) -> None:
        super().__init__(config)
        text = config.text_config
        self.vision_encoder = VisionEncoder(config.vision_config, config.vision_feature)
        self.resampler = PerceiverResampler(config.dim_vision, config.resampler)
        self.gated_blocks = nn.ModuleList(
            GatedCrossAttentionBlock(text.hidden_size, config.dim_vision, config.gated) for _ in config.gated_layers
        )
        self.language_model = cast(
            PreTrainedModel, AutoModelForCausalLM.from_config(text, dtype=torch.get_default_dtype())
        )
        if config.memory is not None:
            self.memory = ConversationMemory(text.hidden_size, config.memory)
            self.memory_blocks = nn.ModuleList(
                GatedCrossAttentionBlock(text.hidden_size, config.memory.dim, config.memory.gated)
                for _ in config.gated_layers
            )
        self.added_tokens = self._attach()
        self.post_init()
        self.generation_config.suppress_tokens = [config.image_token_id]  # a picture is given, not said
        freeze_backbones(self)
        if self.device.type != "meta":  # where it is, loading is under way and probes at its end
            probe(self.language_model)

    def _attach(self) -> AddedTokens:
        """Put our parts into the language model's seams."""
        config, head = self.config, self.get_output_embeddings()
        ordinals = {index: ordinal for ordinal, index in enumerate(config.gated_layers)}
        for index, layer in enumerate(decoder_layers(self.language_model)):
            ordinal = ordinals.get(index)
            blocks = (
                cast(GatedCrossAttentionBlock, parts[ordinal]) if parts and ordinal is not None else None
                for parts in (self.gated_blocks, getattr(self, "memory_blocks", None))
            )
            gated_block, memory_block = blocks
            GatedDecoderLayer(layer, gated_block, ordinal or 0, memory_block, after=config.gated.after)
        dims = (self.get_input_embeddings().embedding_dim, head.in_features)
        added = AddedTokens(config.first_added_token_id, config.num_added_tokens, *dims)
        head.register_forward_hook(added.extend_logits)
        return added

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # Loading leaves a raw parameter that a checkpoint lacks as uninitialised memory, unless it is set here.
        super()._init_weights(module)
        if isinstance(module, GatedCrossAttentionBlock):
            initialization.zeros_(module.attn_gate)
            initialization.zeros_(module.ff_gate)
        elif isinstance(module, PerceiverResampler):
            for name, parameter in module.named_parameters(recurse=False):
                initialization.normal_(parameter, std=1.0 if name == "latents" else self.config.initializer_range)
        elif isinstance(module, AddedTokens):
            for parameter in module.parameters(recurse=False):
                initialization.normal_(parameter, std=self.config.initializer_range)

    def get_input_embeddings(self) -> nn.Embedding:
        return cast(nn.Embedding, self.language_model.get_input_embeddings())

    def get_output_embeddings(self) -> nn.Linear:
        return cast(nn.Linear, self.language_model.get_output_embeddings())

    def encode_images(
        self,
        pixel_values: Float[Tensor, "batch images frames 3 height width"],
        seen: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch images latents dim"]:
        """Media latents of pictures: encode once, pass as `latents` as often as wanted.

        Args:
            seen: how many pictures come earlier in each row's text; only models with `resampler.max_images` ask for it.
        """
        return self.resampler(self.vision_encoder(pixel_values.to(self.dtype)), seen=seen)

    def images_seen(self, cache: Cache | None) -> Int[Tensor, " batch"] | None:
        """How many pictures each row of a cache's text holds; None for an empty one."""
        media = self._media_cache(cache)
        return None if media is None else media.images_seen()

    @can_return_tuple
    def forward(
        self,
        input_ids: Int[Tensor, "batch tokens"],
        attention_mask: Tensor | None = None,
        position_ids: Int[Tensor, "_ tokens"] | None = None,
        past_key_values: Cache | None = None,
        pixel_values: Float[Tensor, "batch images frames 3 height width"] | None = None,
        image_mask: Bool[Tensor, "batch images"] | None = None,
        patches: Float[Tensor, "batch images frames patches dim_vision"] | None = None,
        latents: Float[Tensor, "batch images latents dim_vision"] | None = None,
        labels: Int[Tensor, "batch tokens"] | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        gate_scale: float = 1.0,
        trace: Trace | None = None,
        memory: MemoryView | None = None,
    ) -> CausalLMOutputWithPast:
        """Logits of the tokens, and the loss where labels are given.

        Args:
            input_ids: the tokens that are new in this call, `<image>` where a picture stands.
            attention_mask: (batch, cached and new tokens), zero for padding; None if there is none.
            position_ids: positions of the new tokens; None to count them from the mask.
            past_key_values: cache of what came before; it grows.
            pixel_values: the new pictures, in one of three forms: these, or
            patches: their frozen features, or
            latents: their media latents.
            image_mask: which of the pictures exist; those that fill a row stand at its end. None: all.
            labels: what each token should be, -100 where that does not count; shifted here.
            use_cache: make a cache if none is given.
            output_hidden_states: return the language model's hidden states too.
            logits_to_keep: logits of the last so many tokens only; 0 for all.
            gate_scale: what the gates are multiplied with, from 0, the plain language model, to 1; one for a cache.
            trace: gets what tokens took of latents in each gated block.
            memory: of what left the window, from `view_memory`; one for a cache.

        Raises:
            PromptError: pictures and `<image>` tokens do not match, or there are more tokens than positions.
        """
        config = self.config
        if past_key_values is None and use_cache:
            past_key_values = DynamicCache(config=config.text_config)
        past = 0 if past_key_values is None else past_key_values.get_seq_length()
        check_length(past + input_ids.shape[1], config.max_positions)
        check_mask(attention_mask, past + input_ids.shape[1])

        latents = self._latents(pixel_values, patches, latents, self.images_seen(past_key_values))
        output = self.language_model(
            inputs_embeds=self.added_tokens.embed(input_ids, self.get_input_embeddings()),
            attention_mask=attention_mask,
            position_ids=_positions(position_ids, attention_mask, input_ids.shape[1]),
            past_key_values=past_key_values,
            # Left to itself the language model would make a cache of its own, without our layers.
            use_cache=past_key_values is not None,
            output_hidden_states=output_hidden_states,
            logits_to_keep=logits_to_keep,
            **{CONTEXT: self._context(input_ids, latents, image_mask, past_key_values, gate_scale, trace, memory)},
        )
        return CausalLMOutputWithPast(
            loss=None if labels is None else next_token_loss(output.logits, labels),
            logits=output.logits,
            past_key_values=past_key_values,
            hidden_states=output.hidden_states,
        )

    def _latents(
        self, pixel_values: Tensor | None, patches: Tensor | None, latents: Tensor | None, seen: Tensor | None
    ) -> Tensor | None:
        if pixel_values is not None:
            return self.encode_images(pixel_values, seen)
        return latents if patches is None else self.resampler(patches, seen=seen)

    def _media_cache(self, cache: Cache | None) -> MediaCache | None:
        if cache is None:
            return None
        return MediaCache.within(cache, self.config.text_config.num_hidden_layers, len(self.gated_blocks))

    def _context(
        self,
        input_ids: Tensor,
        latents: Tensor | None,
        image_mask: Tensor | None,
        cache: Cache | None,
        gate_scale: float,
        trace: Trace | None,
        memory: MemoryView | None,
    ) -> MediaContext:
        """Work out which token sees which latent, and write it to the cache."""
        config = self.config
        is_image = input_ids == config.image_token_id
        if latents is not None and image_mask is None:
            image_mask = torch.ones(latents.shape[:2], dtype=torch.bool, device=latents.device)
        check_images(is_image, image_mask)

        media = self._media_cache(cache)
        seen = None if media is None else media.images_seen()
        time = text_time(is_image, seen)
        ordinals = None
        if latents is not None:
            ordinals = media_ordinals(cast(Tensor, image_mask), seen, latents.shape[2])
        if media is not None:
            media.extend(time, ordinals)
            ordinals = media.all_ordinals()
        return MediaContext(
            media=None if latents is None else latents.flatten(1, 2),
            visible=None if ordinals is None else visible_media(time, ordinals, config.attend, is_image),
            cached=() if media is None else media.blocks,
            gate_scale=gate_scale,
            trace=trace,
            memory=memory,
        )

    def empty_slots(self) -> Slots:
        """The memory of one conversation before anything was written.

        Raises:
            ConfigError: this model has no memory.
        """
        if self.config.memory is None:
            raise ConfigError(
                expected="a model with a memory", got="one without", remedy="give its config a `memory`, and train it"
            )
        return Slots.empty(self.config.memory, like=self.memory.recall_queries)

    def memory_fingerprint(self) -> str:
        """Of the weights that write memories, of those that they were trained over, and of what shapes them."""
        ours = fingerprint({name: tensor for name, tensor in self.state_dict().items() if is_trainable(name)})
        text = self.config.text_hash or fingerprint(self.language_model.state_dict())
        vision = self.config.vision_hash or fingerprint(self.vision_encoder.state_dict())
        return sha256(repr((ours, text, vision, self.config.memory)).encode()).hexdigest()

    def write_turn(self, slots: Slots, input_ids: Int[Tensor, "batch tokens"], **pictures: Any) -> Slots:
        """The memory after one turn more, which the model reads by itself, from its beginning.

        Args:
            input_ids: the turn's tokens.
            pictures: `attention_mask`, and the turn's pictures, as `forward` takes them.
        """
        states = self.turn_states(input_ids, **pictures)
        mask = pictures.get("attention_mask")
        return self.memory.write(slots, states, None if mask is None else mask.bool())

    def turn_states(
        self, input_ids: Int[Tensor, "batch tokens"], **pictures: Any
    ) -> Float[Tensor, "batch tokens depth dim_text"]:
        """What the memory's encoder reads of turns: hidden states of the model without memory."""
        read = self(input_ids, output_hidden_states=True, logits_to_keep=1, **pictures)
        return turn_states(read.hidden_states)

    def view_memory(self, slots: Slots, trace: Trace | None = None) -> MemoryView:
        """The slots as `forward` takes them; `trace` gets what each block's tokens took of each, and of none."""
        media, visible = self.memory.readable(slots)
        blocks = (cast(GatedCrossAttentionBlock, block).attention for block in self.memory_blocks)
        return MemoryView(tuple(MediaLayer.of(*block.keys_and_values(media, None)) for block in blocks), visible, trace)

    def recall(self, slots: Slots) -> Float[Tensor, "turns tokens vocabulary"]:
        """What the memory of one conversation says, turn after turn: logits of the first tokens of each."""
        turns = slots.turns[0]
        held = turns.nonzero().flatten()
        latents = slots.values[0, held[turns[held].argsort()]]
        return cast(Tensor, self.get_output_embeddings()(self.memory.recall(latents)))


def next_token_loss(
    logits: Float[Tensor, "batch tokens vocabulary"], labels: Int[Tensor, "batch tokens"]
) -> Float[Tensor, ""]:
    """Mean cross-entropy of each next token, over the labels that count."""
    return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten())


def _positions(position_ids: Tensor | None, attention_mask: Tensor | None, num_tokens: int) -> Tensor | None:
    """Positions counted without padding; None lets the language model count from the cache's length."""
    if position_ids is not None or attention_mask is None:
        return position_ids
    return (attention_mask.long().cumsum(dim=1) - 1).clamp(min=0)[:, -num_tokens:]
