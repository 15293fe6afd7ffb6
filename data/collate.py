"""Episodes to one batch of tensors: ids padded on the right, loss weights, and which picture each token follows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol, cast

import torch
from transformers import PreTrainedTokenizerBase

from data.episodes import Episode, Weighted
from flamingo_app.prompt import Mark, encode

Token = tuple[int, float, int, int]  # id, weight, pictures so far, 1


class Spelled(Protocol):
    """What has pieces with weights: an episode, a sample."""

    @property
    def pieces(self) -> tuple[Weighted, ...]: ...


def collate(episodes: Sequence[Episode], tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Pad episodes to the longest.

    Returns:
        input_ids, attention_mask, weights (of each token in the loss), text_time (how many pictures stand at or
        before a token), each (batch, tokens).
    """
    return pad([tokens(episode, tokenizer) for episode in episodes], cast(int, tokenizer.pad_token_id))


def pad(rows: Sequence[Sequence[Token]], pad_token_id: int) -> dict[str, Any]:
    """Rows of tokens as tensors; see `collate`."""
    longest = max(len(row) for row in rows)
    padding = (pad_token_id, 0.0, 0, 0)
    columns = [[[token[i] for token in row] + [padding[i]] * (longest - len(row)) for row in rows] for i in range(4)]
    input_ids, weights, text_time, attention_mask = (torch.tensor(column) for column in columns)
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "weights": weights.float(),
        "text_time": text_time,
    }


def tokens(spelled: Spelled, tokenizer: PreTrainedTokenizerBase) -> list[Token]:
    """Every token of a prompt."""
    row: list[Token] = []
    pictures = 0
    for piece, weight in spelled.pieces:
        pictures += piece is Mark.IMAGE
        row += [(token, weight, pictures, 1) for token in piece_ids(piece, tokenizer)]
    return row


@lru_cache(maxsize=2**16, typed=True)
def piece_ids(piece: str | Mark, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Token ids of a piece; kept, since what is drawn by rules says the same things over and over."""
    return tuple(encode((piece,), tokenizer))
