"""Our seams in a frozen Hugging Face language model; its classes and parameter names stay its authors'."""

from __future__ import annotations

from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from flamingo_app.errors import UnsupportedBackboneError
from flamingo_app.model.gated_cross_attention import GatedCrossAttentionBlock, MediaContext

CONTEXT = "flamingo_context"
"""The keyword under which a `MediaContext` travels through the language model to its decoder layers."""


class GatedDecoderLayer:
    """A decoder layer with a gated block that sees pictures, and one that reads the memory, before it or after it.

    Where a block is None, or there is nothing for it, it is passed by.

    It stands beside the layer as a hook, not around it as a module: the frozen weights keep their names, and the
    library still finds the layer by its class. What it conditions on comes with each call.
    """

    def __init__(
        self,
        layer: nn.Module,
        gated_block: GatedCrossAttentionBlock | None,
        ordinal: int = 0,
        memory_block: GatedCrossAttentionBlock | None = None,
        *,
        after: bool = False,
    ) -> None:
        self.gated_block, self.ordinal, self.memory_block = gated_block, ordinal, memory_block
        if gated_block is not None and after:
            layer.register_forward_hook(self.leave, with_kwargs=True)
        else:
            layer.register_forward_pre_hook(self, with_kwargs=True)

    def __call__(
        self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        kwargs = dict(kwargs)
        context: MediaContext | None = kwargs.pop(CONTEXT, None)
        if context is None or self.gated_block is None:
            return args, kwargs
        x, *rest = args if args else (kwargs.pop("hidden_states"),)
        return (self._look(x, context), *rest), kwargs

    def leave(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        context: MediaContext | None = kwargs.get(CONTEXT)
        if context is None:
            return output
        if isinstance(output, tuple):
            return (self._look(output[0], context), *output[1:])
        return self._look(output, context)

    def _look(self, x: Tensor, context: MediaContext) -> Tensor:
        cached = context.cached[self.ordinal] if context.cached else None
        block = cast(nn.Module, self.gated_block)
        x = block(x, context.media, context.visible, cached, context.gate_scale, context.trace)
        if context.memory is not None and self.memory_block is not None:
            x = context.memory.read(self.ordinal, self.memory_block, x, context.gate_scale)
        return x


class AddedTokens(nn.Module):
    """Trainable embedding rows of the token ids from `first` on; the language model's own rows stay frozen below.

    Rows of our own instead of a larger embedding: an optimizer with weight decay cannot move what it does not hold.
    """

    def __init__(self, first: int, count: int, dim_input: int, dim_output: int) -> None:
        super().__init__()
        self.first = first
        self.input_rows = nn.Parameter(torch.zeros(count, dim_input))
        self.output_rows = nn.Parameter(torch.zeros(count, dim_output))

    def embed(self, input_ids: Int[Tensor, "batch tokens"], embedding: nn.Module) -> Float[Tensor, "batch tokens dim"]:
        """Rows for any id: ours from `first` on, the language model's below."""
        ours = input_ids >= self.first
        rows = embedding(input_ids.masked_fill(ours, 0))
        if not len(self.input_rows):
            return rows
        added = nn.functional.embedding((input_ids - self.first).clamp(min=0), self.input_rows)
        return torch.where(ours[..., None], added.to(rows.dtype), rows)

    def extend_logits(self, head: nn.Module, args: tuple[Tensor, ...], logits: Tensor) -> Tensor:
        """Hook of the language model's head: its logits below `first`, then ours."""
        if not len(self.output_rows):
            return logits
        return torch.cat([logits[..., : self.first], nn.functional.linear(args[0], self.output_rows)], dim=-1)


def decoder_layers(language_model: PreTrainedModel) -> nn.ModuleList:
    """The stack of decoder layers, whatever its authors called it."""
    count = cast(Any, language_model.config).num_hidden_layers
    for module in language_model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise unsupported(language_model, f"no list of {count} decoder layers in it")


@torch.no_grad()
def probe(language_model: PreTrainedModel) -> None:
    """Run one token and see that the context arrives at every decoder layer.

    Raises:
        UnsupportedBackboneError: it does not; the model would run, and no token would ever see a picture.
    """
    arrived: list[bool] = []

    def look(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        arrived.append(CONTEXT in kwargs)

    layers = decoder_layers(language_model)
    handles = [layer.register_forward_pre_hook(look, prepend=True, with_kwargs=True) for layer in layers]
    token = torch.zeros(1, 1, dtype=torch.long, device=language_model.device)
    try:
        language_model(input_ids=token, use_cache=False, **{CONTEXT: MediaContext(None, None)})
    except TypeError as error:
        if CONTEXT not in str(error):
            raise
    finally:
        for handle in handles:
            handle.remove()
    if arrived.count(True) != len(layers):
        raise unsupported(language_model, "its decoder layers do not receive the keywords of the call")


def unsupported(language_model: PreTrainedModel, reason: str) -> UnsupportedBackboneError:
    return UnsupportedBackboneError(
        expected="a language model that passes keywords on to its decoder layers",
        got=f"{type(language_model).__name__}: {reason}",
        remedy="use GPT-2, OPT, GPT-NeoX, Llama, Mistral, Qwen or a model built like them",
    )
