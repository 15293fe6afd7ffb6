"""Episodes to one batch of tensors: ids padded on the right, loss weights, and which picture each token follows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from data.episodes import Episode
from flamingo_app.prompt import Mark, encode


def collate(episodes: Sequence[Episode], tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Pad episodes to the longest.

    Returns:
        input_ids, attention_mask, weights (of each token in the loss), text_time (how many pictures stand at or
        before a token), each (batch, tokens).
    """
    rows = [_tokens(episode, tokenizer) for episode in episodes]
    longest = max(len(row) for row in rows)
    padding = (tokenizer.pad_token_id, 0.0, 0, 0)
    columns = [[[token[i] for token in row] + [padding[i]] * (longest - len(row)) for row in rows] for i in range(4)]
    input_ids, weights, text_time, attention_mask = (torch.tensor(column) for column in columns)
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "weights": weights.float(),
        "text_time": text_time,
    }


def _tokens(episode: Episode, tokenizer: PreTrainedTokenizerBase) -> list[tuple[int, float, int, int]]:
    """(id, weight, pictures so far, 1) of every token."""
    tokens: list[tuple[int, float, int, int]] = []
    pictures = 0
    for piece, weight in episode.pieces:
        pictures += piece is Mark.IMAGE
        tokens += [(token, weight, pictures, 1) for token in encode((piece,), tokenizer)]
    return tokens
