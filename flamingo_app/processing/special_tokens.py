"""Our two special tokens: given to a tokenizer, and read in a text that is trusted."""

from __future__ import annotations

import re

from transformers import PreTrainedTokenizerBase

from flamingo_app.prompt import END_OF_CHUNK_TOKEN, IMAGE_TOKEN, Mark, Prompt

SPELLING = re.compile("(" + "|".join(re.escape(mark.value) for mark in Mark) + ")")


def add_special_tokens(tokenizer: PreTrainedTokenizerBase) -> int:
    """Give a tokenizer `<image>` and `<|endofchunk|>` where it lacks them; returns how many were added.

    Where it has no token for padding, `<|endofchunk|>` pads. It pads on the left from now on.
    """
    vocabulary = tokenizer.get_vocab()
    missing = [token for token in (IMAGE_TOKEN, END_OF_CHUNK_TOKEN) if token not in vocabulary]
    tokenizer.add_special_tokens({"extra_special_tokens": missing}, replace_extra_special_tokens=False)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = END_OF_CHUNK_TOKEN
    tokenizer.padding_side = "left"
    return len(missing)


def read_marks(text: str) -> Prompt:
    """A trusted text as a prompt: each special token that is spelled in it becomes its mark."""
    spelled = {mark.value: mark for mark in Mark}
    return tuple(spelled.get(piece, piece) for piece in SPELLING.split(text) if piece)
