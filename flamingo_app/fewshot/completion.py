"""Prompts and encoded pictures to texts, and how sure the model is of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.processing import FlamingoProcessor
from flamingo_app.prompt import Prompt


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What the model goes on to say.

    Args:
        text: up to the end of the chunk, without spaces around it.
        score: mean log-probability of its tokens, the one that ends it included; 0 is certainty.
    """

    text: str
    score: float


@torch.inference_mode()
def complete(
    model: FlamingoForConditionalGeneration,
    processor: FlamingoProcessor,
    prompts: Sequence[Prompt],
    latents: Sequence[Float[Tensor, "_ latents dim"]],
    *,
    max_new_tokens: int,
) -> list[Completion]:
    """Greedy completions of prompts, each with the media latents of its pictures.

    Raises:
        PromptError: for a prompt that leaves no position for an answer.
    """
    inputs = cast(Any, processor.tokens(prompts)).to(model.device)
    counts = torch.tensor([len(row) for row in latents], device=model.device)
    padded = pad_sequence(list(latents), batch_first=True)
    output = cast(Any, model).generate(
        **inputs,
        latents=padded,
        image_mask=torch.arange(padded.shape[1], device=model.device) < counts[:, None],
        max_new_tokens=max_new_tokens,
        do_sample=False,
        return_dict_in_generate=True,
        output_logits=True,
    )
    said = output.sequences[:, inputs["input_ids"].shape[1] :]
    scores = mean_log_probability(torch.stack(output.logits, dim=1), said, model.config.end_of_chunk_token_id)
    texts: list[str] = processor.tokenizer.batch_decode(said, skip_special_tokens=True)
    return [Completion(text=text.strip(), score=float(score)) for text, score in zip(texts, scores, strict=True)]


def mean_log_probability(
    logits: Float[Tensor, "batch tokens vocabulary"], said: Int[Tensor, "batch tokens"], end: int
) -> Float[Tensor, " batch"]:
    """Mean over the tokens of each row, up to and including its first `end`; what follows is padding."""
    log_probabilities = logits.float().log_softmax(dim=-1).gather(-1, said[..., None]).squeeze(-1)
    is_end = said == end
    counts = is_end.cumsum(dim=1) - is_end.long() == 0
    return (log_probabilities * counts).sum(dim=1) / counts.sum(dim=1)
