"""The special tokens that a peer added, under the ids that it gave them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from flamingo_app.errors import CheckpointError
from flamingo_app.prompt import END_OF_CHUNK_TOKEN, IMAGE_TOKEN

OWN_ROWS = 3
"""At most so many rows at the end of the vocabulary are ours to train; of more, the whole vocabulary stays frozen."""


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Ids of the special tokens, and how many rows the peer's embedding has.

    Attributes:
        copied: the row of the peer's that `<image>` speaks with, where the peer has no such token.
        apart: how many of the rows, the last, the peer keeps in a table of their own.
        own: how many rows, the last, are ours to train; None for those of the special tokens.
        tokenizer: None where none was found.
    """

    image: int
    end_of_chunk: int
    pad: int
    rows: int
    copied: int | None = None
    apart: int = 0
    own: int | None = None
    tokenizer: Any = None

    @property
    def first(self) -> int:
        """The lowest id whose row is ours to train; below it rows are the language model's."""
        return max(self.rows, self.image + 1) - self.fields()["num_added_tokens"]

    def fields(self) -> dict[str, int]:
        """Of `FlamingoConfig`."""
        last = max(self.rows, self.image + 1)
        count = last - min(self.image, self.end_of_chunk) if self.own is None else self.own
        ours = count <= OWN_ROWS and max(self.image, self.end_of_chunk, self.pad) == last - 1
        return {
            "image_token_id": self.image,
            "end_of_chunk_token_id": self.end_of_chunk,
            "pad_token_id": self.pad,
            "num_added_tokens": count if ours else 0,
        }


def find_tokenizer(chosen: str | None, *sources: str | Path | None) -> Any:
    """The tokenizer that the user chose, or the first among these places; None if there is none.

    Raises:
        CheckpointError: there is none where the user says.
    """
    found = _first_tokenizer(*sources) if chosen is None else _first_tokenizer(chosen)
    if found is None and chosen is not None:
        raise CheckpointError(
            expected="a tokenizer that can be found here or downloaded",
            got=f"--tokenizer {chosen}",
            remedy="check the spelling and the network, or give a folder that holds it",
        )
    return found


def _first_tokenizer(*sources: str | Path | None) -> Any:
    for source in sources:
        if source is None or (
            Path(source).is_dir() and not any(path.is_file() for path in Path(source).glob("*token*"))
        ):
            continue
        try:
            return AutoTokenizer.from_pretrained(source)
        except (OSError, ValueError):
            continue
    return None


def tokens_of(tokenizer: Any, added: Sequence[str]) -> Tokens:
    """As OpenFlamingo and Otter do it: add what is missing in this order, then padding where there is none.

    Raises:
        CheckpointError: there is no tokenizer.
    """
    if tokenizer is None:
        raise CheckpointError(
            expected="the tokenizer that the language model was trained with",
            got="none",
            remedy="name a folder or a model that has it with --tokenizer",
        )
    add_in_order(tokenizer, added)
    if tokenizer.pad_token is None:
        tokenizer.add_special_tokens({"pad_token": "<PAD>"})
    image, end = tokenizer.convert_tokens_to_ids([IMAGE_TOKEN, END_OF_CHUNK_TOKEN])
    return Tokens(image=image, end_of_chunk=end, pad=tokenizer.pad_token_id, rows=len(tokenizer), tokenizer=tokenizer)


def respell(tokenizer: Any, image: int, end_of_chunk: int, **named: str) -> Any:
    """A tokenizer that spells these two as we do, for a peer that has them under other names.

    They are special from now on: no text that a user types becomes one; so are those that are `named` besides.

    Raises:
        CheckpointError: what it does not know is such a token to it.
    """
    if tokenizer.unk_token_id in (image, end_of_chunk):
        raise CheckpointError(
            expected=f"a tokenizer with tokens for {IMAGE_TOKEN} and for the end of a text that are nothing else",
            got=f"{tokenizer.unk_token}, id {tokenizer.unk_token_id}, for all words that it does not know",
            remedy="name the tokenizer that the model was trained with by --tokenizer",
        )
    spellings = {image: IMAGE_TOKEN, end_of_chunk: END_OF_CHUNK_TOKEN}
    ours = {tokenizer.convert_ids_to_tokens(identity): spelling for identity, spelling in spellings.items()}
    described = _respelled(json.loads(tokenizer.backend_tokenizer.to_str()), ours)
    marks = {name: ours.get(str(token), str(token)) for name, token in tokenizer.special_tokens_map.items()}
    marks = {"pad_token": END_OF_CHUNK_TOKEN, "padding_side": "left"} | marks | named
    made = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(described)), **marks)
    made.add_special_tokens({"extra_special_tokens": list(spellings.values())}, replace_extra_special_tokens=False)
    return made


def _respelled(described: Any, spellings: Mapping[str, str]) -> Any:
    if isinstance(described, dict):
        found = cast("dict[str, Any]", described)
        return {spellings.get(name, name): _respelled(value, spellings) for name, value in found.items()}
    if isinstance(described, list):
        return [_respelled(value, spellings) for value in cast("list[Any]", described)]
    return spellings.get(described, described) if isinstance(described, str) else described


def add_in_order(tokenizer: Any, added: Sequence[str]) -> None:
    """Give a tokenizer those of the special tokens that it lacks."""
    vocabulary = tokenizer.get_vocab()
    missing = [token for token in added if token not in vocabulary]
    tokenizer.add_special_tokens({"extra_special_tokens": missing}, replace_extra_special_tokens=False)
    tokenizer.padding_side = "left"
