"""What a Flamingo is made of: two frozen backbones, and the parts that train between them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, ClassVar, Literal, TypeVar, cast, get_args

from transformers import AutoConfig, GPT2Config, PreTrainedConfig

from flamingo_app.errors import ConfigError

Part = TypeVar("Part")
Attend = Literal["latest", "all_previous", "next"]
Activation = Literal["gelu", "relu", "relu2", "swiglu"]
MemoryEncoder = Literal["perceiver_io", "memformer", "linformer"]
MemoryUpdating = Literal["competing", "memformer"]

CLIP_VIT_B32 = {"embed_dim": 512, "quick_gelu": True, "image_size": 224, "layers": 12, "width": 768, "patch_size": 32}
"""The image tower of OpenAI's CLIP ViT-B/32, in open_clip's words."""

RESNET_STAGE_WIDTHS = (1, 4, 8, 16, 32)
"""Channels of an open_clip ModifiedResNet after the stem and each of its four stages, in multiples of `width`."""


@dataclass(frozen=True, kw_only=True)
class FeatureConfig:
    """Which activations of the image tower are the patches.

    Attributes:
        layer: transformer block (ViT) or stage (ModifiedResNet: 0 stem, 1..4) to read; None is the last.
        layer_norm: ViT: apply the tower's last layer norm. open_clip before 2.23 and Idefics do not.
        keep_cls: ViT: keep the class token in front of the patches, as flamingo-mini does.
    """

    layer: int | None = None
    layer_norm: bool = True
    keep_cls: bool = False


@dataclass(frozen=True, kw_only=True)
class ResamplerConfig:
    """The Perceiver resampler (Alayrac et al. 2022, section 3.1.1 and appendix A.1.1).

    Attributes:
        depth: number of attention and feed-forward layers.
        num_latents: media latents that a picture or a clip becomes, whatever its size.
        heads: attention heads.
        dim_head: size of a head.
        ff_mult: width of the feed-forward's hidden layer, in multiples of the width of a patch.
        activation: of that layer; "relu2", the square of "relu", in some of flamingo-mini's models; "swiglu" in the
            gated blocks of Idefics.
        max_frames: frames with an embedding of their own; None for pictures alone, without frame embeddings.
        embed_single_frames: whether a picture, a clip of one frame, gets the first frame's; not in flamingo-pytorch.
        max_images: pictures of one text with an embedding of their own by their order, as in flamingo-pytorch; further
            pictures share the last one. None for none at all.
        qk_norm: layer norms on queries and keys, as in Idefics.
        num_positions: patches with a learned position each, for towers whose maps carry no position; None for none.
    """

    depth: int = 6
    num_latents: int = 64
    heads: int = 8
    dim_head: int = 64
    ff_mult: int = 4
    activation: Activation = "gelu"
    max_frames: int | None = None
    embed_single_frames: bool = True
    max_images: int | None = None
    qk_norm: bool = False
    num_positions: int | None = None


@dataclass(frozen=True, kw_only=True)
class GatedConfig:
    """The gated cross-attention blocks (Alayrac et al. 2022, section 3.1.2).

    Attributes:
        every: one block before every so many decoder layers.
        first: first decoder layer with a block: 0 in flamingo-mini; None is `every - 1`, as in OpenFlamingo.
        after: the block stands after its layer, as in flamingo-pytorch, not before it.
        heads: attention heads.
        dim_head: size of a head.
        ff_mult: width of the feed-forward's hidden layer, in multiples of the language model's width.
        activation: of that layer, as in `ResamplerConfig`.
        rms_norm_eps: epsilon of RMS norms, as in Idefics; None for layer norms.
        qk_norm: norms on queries and keys, as in some of Idefics' models.
        vector_gates: a gate for each number of the width, as in some of Idefics' models, not one for all.
    """

    every: int = 1
    first: int | None = None
    after: bool = False
    heads: int = 8
    dim_head: int = 64
    ff_mult: int | float = 4
    activation: Activation = "gelu"
    rms_norm_eps: float | None = None
    qk_norm: bool = False
    vector_gates: bool = False

    def layers(self, num_layers: int) -> range:
        """Indices of the decoder layers that have a gated block."""
        first = self.every - 1 if self.first is None else self.first
        return range(first, num_layers, self.every)


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """What stays of a conversation's turns after they have left the window.

    Attributes:
        encoder: what a turn's tokens go through before they become latents: nothing but the "perceiver_io" that makes
            them (Jaegle et al. 2021), a "memformer" layer that reads the slots too (Wu et al. 2022, section 3.2), or a
            "linformer" layer (Wang et al. 2020).
        update: how slots are rewritten: "competing", where a turn goes whole to the slots that are free or most like
            it, or "memformer", where each slot attends to itself and to the turn (section 3.3).
        num_turns: turns that the slots have room for.
        num_latents: latents that a turn becomes.
        dim: width of a slot.
        heads: attention heads of writing.
        dim_head: size of such a head.
        depth: layers in which a turn's latents attend to each other.
        max_tokens: longest turn, of which the rest is not written.
        recalled_tokens: how many tokens of a turn can be put into words again.
        gated: the blocks through which text reads the slots, one before each decoder layer that has one for pictures.
    """

    encoder: MemoryEncoder = "perceiver_io"
    update: MemoryUpdating = "competing"
    num_turns: int = 256
    num_latents: int = 4
    dim: int = 192
    heads: int = 6
    dim_head: int = 32
    depth: int = 1
    max_tokens: int = 512
    recalled_tokens: int = 32
    gated: GatedConfig = GatedConfig()


class PaLMConfig(PreTrainedConfig):
    """The language model of flamingo-pytorch, see `model/palm.py`.

    Attributes:
        vocab_size: number of tokens.
        hidden_size: width.
        intermediate_size: width of the feed-forward's hidden layer.
        num_hidden_layers: number of blocks.
        num_attention_heads: heads of queries; they share one head of keys and values.
        head_dim: size of a head.
    """

    model_type = "flamingo_palm"

    vocab_size: int = 256
    hidden_size: int = 512
    intermediate_size: int = 2048
    num_hidden_layers: int = 8
    num_attention_heads: int = 8
    head_dim: int = 64
    tie_word_embeddings: bool = True
    initializer_range: float = 0.02


AutoConfig.register(PaLMConfig.model_type, PaLMConfig)  # so that it can stand in a `text_config`


class FlamingoConfig(PreTrainedConfig):
    """The whole model, enough to build it without its weights.

    The nested parts are also taken as dicts, as `config.json` has them.

    Attributes:
        text_config: Hugging Face config of the language model; GPT-2's by default.
        text_model: identity of the language model's weights: a hub name, a folder, or "starter/text".
        text_hash: sha256 of those weights, checked on loading.
        vision_config: open_clip's `vision_cfg` with `embed_dim` and `quick_gelu`; CLIP ViT-B/32 by default.
        vision_model: identity of the image tower's weights: "NAME/PRETRAINED" of open_clip, "local-dir:PATH",
            or "starter/vision".
        vision_hash: sha256 of those weights, checked on loading.
        vision_feature: see `FeatureConfig`.
        resampler: see `ResamplerConfig`.
        gated: see `GatedConfig`.
        memory: see `MemoryConfig`; None for a model that forgets what leaves the window.
        window: tokens of a chat that are read together, where the model has positions for more and reads worse what is
            longer; None for as many as fit. One message may always be as long as fits.
        attend: a token sees the "latest" picture before it (the paper), or "all_previous" ones; or the "next" one, so
            that words come before their picture, as in the first OpenFlamingo.
        image_token_id: the token where a picture stands.
        end_of_chunk_token_id: the token that ends a chunk.
        eos_token_id: where generation stops: always the end of a chunk.
        pad_token_id: the token that fills short rows; None is the end of a chunk.
        num_added_tokens: how many token ids, the last of them the greatest of the two above, have trainable rows of
            ours instead of rows of the language model's. 3 is for OpenFlamingo's models, where padding is the last.
    """

    model_type = "flamingo"
    sub_configs: ClassVar[Any] = {"text_config": AutoConfig}  # pyright: ignore[reportIncompatibleMethodOverride]

    text_config: PreTrainedConfig = cast(Any, None)
    text_model: str | None = None
    text_hash: str | None = None
    vision_config: dict[str, Any] = field(default_factory=CLIP_VIT_B32.copy)
    vision_model: str | None = None
    vision_hash: str | None = None
    vision_feature: FeatureConfig = FeatureConfig()
    resampler: ResamplerConfig = ResamplerConfig()
    gated: GatedConfig = GatedConfig()
    memory: MemoryConfig | None = None
    window: int | None = None
    attend: Attend = "latest"
    image_token_id: int = 50257
    end_of_chunk_token_id: int = 50258
    eos_token_id: int | None = None
    pad_token_id: int | None = None
    num_added_tokens: int = 2
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        self.text_config = _language_model_config(self.text_config)
        self.vision_feature = _part(FeatureConfig, self.vision_feature, "vision_feature")
        self.resampler = _part(ResamplerConfig, self.resampler, "resampler")
        self.gated = _part(GatedConfig, self.gated, "gated")
        if self.memory is not None:
            memory = _part(MemoryConfig, self.memory, "memory")
            self.memory = replace(memory, gated=_part(GatedConfig, memory.gated, "memory.gated"))
        self.eos_token_id = self.end_of_chunk_token_id
        self.pad_token_id = self.end_of_chunk_token_id if self.pad_token_id is None else self.pad_token_id
        self.tie_word_embeddings = False  # ties are the language model's own business
        super().__post_init__(**kwargs)
        self._validate()

    def _validate(self) -> None:
        choices = [("attend", self.attend, Attend)]
        if self.memory is not None:
            choices += [("memory.encoder", self.memory.encoder, MemoryEncoder)]
            choices += [("memory.update", self.memory.update, MemoryUpdating)]
        for name, given, known in choices:
            if given not in get_args(known):
                raise ConfigError(
                    expected=" or ".join(get_args(known)), got=f"{name}={given!r}", remedy="choose one of these"
                )
        if missing := {"embed_dim", "image_size", "layers", "width"} - self.vision_config.keys():
            raise ConfigError(
                expected="a vision_config with embed_dim, image_size, layers and width",
                got=f"one without {', '.join(sorted(missing))}",
                remedy="choose a Vision Transformer or ModifiedResNet of open_clip; timm towers have no such config",
            )
        if self.num_added_tokens not in (0, 1, 2, 3):
            raise ConfigError(
                expected="0, 1, 2 or 3 added tokens",
                got=f"num_added_tokens={self.num_added_tokens}",
                remedy="count the special tokens that the language model's vocabulary lacks",
            )
        if self.window is not None and self.window < 1:
            raise ConfigError(
                expected="a window of 1 token or more",
                got=f"window={self.window}",
                remedy="leave it out for all that fits",
            )
        for name in ("image_token_id", "end_of_chunk_token_id"):
            if not 0 <= getattr(self, name) < self.num_tokens:
                raise ConfigError(
                    expected=f"an id below {self.num_tokens}",
                    got=f"{name}={getattr(self, name)}",
                    remedy="take the ids from the tokenizer that the language model was trained with",
                )
        if not self.gated_layers:
            raise ConfigError(
                expected="at least one gated block",
                got=f"{self.gated} on {self.text_config.num_hidden_layers} decoder layers",
                remedy="make `every` or `first` smaller",
            )

    @property
    def gated_layers(self) -> tuple[int, ...]:
        """Indices of the decoder layers that have a gated block."""
        return tuple(self.gated.layers(self.text_config.num_hidden_layers))

    @property
    def first_added_token_id(self) -> int:
        """The lowest id whose rows are ours; below it the language model's own rows are used."""
        if self.num_added_tokens == 0:
            return self.text_config.vocab_size
        added = [self.image_token_id, self.end_of_chunk_token_id, cast(int, self.pad_token_id)]
        return max(added[: max(2, self.num_added_tokens)]) + 1 - self.num_added_tokens

    @property
    def num_tokens(self) -> int:
        """Size of the vocabulary that logits are over."""
        return self.first_added_token_id + self.num_added_tokens

    @property
    def max_positions(self) -> int | None:
        """Tokens that the language model has positions for; None where it sets no limit."""
        return getattr(self.text_config, "max_position_embeddings", None)

    @property
    def dim_vision(self) -> int:
        """Width of a patch."""
        width: int = self.vision_config["width"]
        if isinstance(self.vision_config["layers"], int):
            return width
        return width * RESNET_STAGE_WIDTHS[-1 if self.vision_feature.layer is None else self.vision_feature.layer]

    def to_dict(self) -> dict[str, Any]:
        parts = {name: asdict(getattr(self, name)) for name in ("vision_feature", "resampler", "gated")}
        memory = None if self.memory is None else asdict(self.memory)
        return super().to_dict() | parts | {"memory": memory}


def _language_model_config(given: PreTrainedConfig | dict[str, Any] | None) -> PreTrainedConfig:
    if given is None:
        return GPT2Config()
    return AutoConfig.for_model(**given) if isinstance(given, dict) else given


def _part(kind: type[Part], given: Part | dict[str, Any], name: str) -> Part:
    if not isinstance(given, dict):
        return given
    try:
        return kind(**cast(dict[str, Any], given))
    except TypeError:
        known = ", ".join(part.name for part in fields(cast(Any, kind)))
        raise ConfigError(
            expected=f"{name} with some of {known}", got=f"{name}={given}", remedy="correct the name"
        ) from None
