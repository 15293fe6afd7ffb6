"""The language model under a peer's checkpoint: what it holds of it, and the rows of the added tokens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from flamingo_app.errors import ModelNotFoundError
from flamingo_app.importers.peer import Peer
from flamingo_app.importers.weights import Weights, missing
from flamingo_app.model.backbones import State, open_text, text_source
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.model.language_model import decoder_layers


@dataclass(frozen=True, kw_only=True)
class ConvertedText:
    """Weights of the language model, and trainable rows of the added tokens.

    Attributes:
        state: without an output table that is only the input table again.
        changed: whether they are other than the published ones.
        missing: what the peer never stored, in words.
    """

    state: State
    added: State
    changed: bool
    missing: tuple[str, ...]


def convert_text(peer: Peer, weights: Weights, model: FlamingoForConditionalGeneration) -> ConvertedText:
    """Take what the checkpoint holds of the language model, and the rest from the published weights.

    Raises:
        CheckpointError: a weight is in neither, or has another shape.
    """
    lm = model.language_model
    published = open_text(peer.text_model).state if peer.text_model else State()
    input_name, output_name = _name_of(lm, model.get_input_embeddings()), _name_of(lm, model.get_output_embeddings())
    shapes = {name: meta.shape for name, meta in lm.state_dict().items()}
    state, added, lost = State(), State(), tuple[str, ...]()

    inputs = _table(peer, weights, input_name, shapes[input_name][1])
    state[input_name] = _own_rows(inputs, published.get(input_name), peer.tokens.first)
    added["input_rows"] = _added_rows(inputs, peer)
    if lm.config.tie_word_embeddings:
        if peer.text(output_name)[0] in weights:
            _table(peer, weights, output_name, shapes[output_name][1])
        added["output_rows"] = added["input_rows"].clone()
    elif peer.text(output_name)[0] in weights or peer.stores_output_table:
        outputs = _table(peer, weights, output_name, shapes[output_name][1])
        state[output_name] = _own_rows(outputs, published.get(output_name), peer.tokens.first)
        added["output_rows"] = _added_rows(outputs, peer)
    else:
        mean = published[output_name].mean(dim=0)
        added["output_rows"] = mean.repeat(len(added["input_rows"]), 1)
        lost = ("output rows of the added tokens, which its authors' code never saves: they start at the mean word",)

    for name, shape in shapes.items():
        if name not in (input_name, output_name) or (name == output_name and lost):
            state[name] = _taken_or_published(peer.text(name)[0], shape, weights, published.get(name))
    changed = any(
        published.get(name) is not kept and not _same(kept, published.get(name)) for name, kept in state.items()
    )
    return ConvertedText(state=state, added=added, changed=changed, missing=lost)


def config_of(lm: str) -> PreTrainedConfig:
    """Config of a language model, without its weights.

    Raises:
        ModelNotFoundError: there is none of this name.
    """
    try:
        return AutoConfig.from_pretrained(text_source(lm))
    except (OSError, ValueError) as error:
        raise ModelNotFoundError(
            expected="a language model that can be found here or downloaded",
            got=lm,
            remedy="check the spelling and the network, or give a folder that holds it",
        ) from error


def decoder_layers_name(config: PreTrainedConfig) -> str:
    """Where a language model keeps its decoder layers."""
    with torch.device("meta"):
        lm = cast(PreTrainedModel, AutoModelForCausalLM.from_config(config))
    layers = decoder_layers(lm)
    return next(name for name, module in lm.named_modules() if module is layers)


def save_text(state: State, config: PreTrainedConfig, folder: Path) -> None:
    """Write a language model as Hugging Face's `save_pretrained` does."""
    config.save_pretrained(folder)
    whole = {name: tensor.contiguous() for name, tensor in state.items()}
    save_file(whole, folder / "model.safetensors", metadata={"format": "pt"})


def _table(peer: Peer, weights: Weights, name: str, width: int) -> Tensor:
    """The peer's embedding as one table, with a row for `<image>` where the peer has no such token."""
    tokens, (main, *apart) = peer.tokens, peer.text(name)
    rows = weights.take([main], (tokens.rows - tokens.apart, width))
    if apart:
        rows = torch.cat([rows, weights.take(apart, (tokens.apart, width))])
    copied = tokens.copied
    return rows if copied is None else torch.cat([rows, rows[copied : copied + 1]])


def _own_rows(table: Tensor, published: Tensor | None, first: int) -> Tensor:
    """Rows that stay the language model's; it may have more of them than its tokenizer has words."""
    if published is None or len(published) < first:
        return table[:first]
    return torch.cat([table[:first].to(published.dtype), published[first:]])


def _added_rows(table: Tensor, peer: Peer) -> Tensor:
    return table[peer.tokens.first :][: peer.tokens.fields()["num_added_tokens"]].clone()


def _taken_or_published(name: str, shape: torch.Size, weights: Weights, published: Tensor | None) -> Tensor:
    if name in weights:
        return weights.take([name], shape)
    if published is None:
        raise missing(name, shape, weights.file)
    return published


def _same(kept: Tensor, published: Tensor | None) -> bool:
    return published is not None and kept.dtype == published.dtype and torch.equal(kept, published)


def _name_of(lm: PreTrainedModel, table: nn.Module) -> str:
    return next(f"{name}.weight" for name, module in lm.named_modules() if module is table)
