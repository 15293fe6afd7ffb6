"""Prompts and encoded pictures to texts, or to how likely each of some answers is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers.cache_utils import Cache, DynamicCache
from transformers.generation.stopping_criteria import StoppingCriteriaList

from flamingo_app.fewshot.stopping import Stop, Stops
from flamingo_app.model.cache import repeated
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.processing import FlamingoProcessor
from flamingo_app.prompt import Prompt, encode, spell_answer

MOST_ROWS = 256
"""Answers that are weighed at once."""


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What the model goes on to say.

    Args:
        text: up to where the answer ends, without spaces around it.
        score: mean log-probability of its tokens, the one that ends it included; 0 is certainty.
    """

    text: str
    score: float


@dataclass(frozen=True)
class Prefix:
    """Text with its pictures, read once, that any number of prompts go on from."""

    cache: Cache

    @classmethod
    @torch.inference_mode()
    def read(
        cls,
        model: FlamingoForConditionalGeneration,
        processor: FlamingoProcessor,
        prompt: Prompt,
        latents: Float[Tensor, "images latents dim"] | None,
    ) -> Prefix:
        """Raises `PromptError` where it is longer than the language model's positions."""
        cache = DynamicCache(config=model.config.text_config)
        ids = torch.tensor([encode(prompt, processor.tokenizer)], device=model.device)
        model(ids, latents=None if latents is None else latents[None], past_key_values=cache, logits_to_keep=1)
        return cls(cache)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A batch of prompts.

    Args:
        prompts: what the model goes on from, after the prefix.
        latents: media latents of each prompt's own pictures; ragged.
        prefix: what stands before every one of the prompts.
    """

    prompts: Sequence[Prompt]
    latents: Sequence[Float[Tensor, "_ latents dim"]]
    prefix: Prefix | None = None

    def inputs(self, processor: FlamingoProcessor, device: torch.device) -> dict[str, Any]:
        """Keywords of the model's `forward` and `generate`."""
        inputs = cast(Any, processor.tokens(self.prompts)).to(device)
        counts = torch.tensor([len(row) for row in self.latents], device=device)
        latents = pad_sequence(list(self.latents), batch_first=True)
        pictures = {"latents": latents, "image_mask": torch.arange(latents.shape[1], device=device) < counts[:, None]}
        if self.prefix is None:
            return {**inputs, **pictures}
        cache = repeated(self.prefix.cache, len(self.prompts))
        return {
            "input_ids": inputs["input_ids"],
            "attention_mask": seen_before(inputs["attention_mask"], cache.get_seq_length()),
            "past_key_values": cache,
            **pictures,
        }


def seen_before(mask: Int[Tensor, "batch tokens"], count: int) -> Int[Tensor, "batch more"]:
    """The mask of so many tokens that are in the cache, and of those that follow."""
    return torch.cat([mask.new_ones(len(mask), count), mask], dim=1)


@torch.inference_mode()
def complete(
    model: FlamingoForConditionalGeneration,
    processor: FlamingoProcessor,
    asked: Asked,
    *,
    max_new_tokens: int,
    lead_in: Sequence[int] = (),
) -> list[Completion]:
    """Greedy completions.

    Args:
        max_new_tokens: where an answer that does not end is cut.
        lead_in: tokens that would begin another answer, see `Stops`.

    Raises:
        PromptError: for a prompt that leaves no position for an answer.
    """
    config = model.config
    stops = Stops(ends=(config.end_of_chunk_token_id, config.image_token_id), lead_in=tuple(lead_in))
    inputs = asked.inputs(processor, model.device)
    given = inputs["input_ids"].shape[1]
    output = cast(Any, model).generate(
        **inputs,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=list(stops.ends),
        suppress_tokens=None,  # a picture's mark is not kept from being said, since it ends what is said
        stopping_criteria=StoppingCriteriaList([Stop(stops, given)]),
        return_dict_in_generate=True,
        output_logits=True,
    )
    said = output.sequences[:, given:]
    rows: list[list[int]] = said.tolist()
    lengths = [stops.length(row) for row in rows]
    ended = [length < len(row) and row[length] in stops.ends for length, row in zip(lengths, rows, strict=True)]
    counts = torch.tensor([length + end for length, end in zip(lengths, ended, strict=True)], device=said.device)
    scores = mean_log_probability(torch.stack(output.logits, dim=1), said, counts)
    answers = [row[:length] for row, length in zip(rows, lengths, strict=True)]
    texts: list[str] = processor.tokenizer.batch_decode(answers, skip_special_tokens=True)
    return [Completion(text=text.strip(), score=float(score)) for text, score in zip(texts, scores, strict=True)]


def mean_log_probability(
    logits: Float[Tensor, "batch tokens vocabulary"], said: Int[Tensor, "batch tokens"], counts: Int[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """Mean over the first so many tokens of each row, at least one; what follows is padding."""
    return _log_probabilities(logits, said, counts) / counts.clamp(min=1)


@torch.inference_mode()
def weigh(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor, asked: Asked, answers: Sequence[str]
) -> Float[Tensor, "prompts answers"]:
    """Log-probability of each answer, its end of the chunk included, after each prompt.

    Raises:
        PromptError: for a prompt that leaves no position for an answer.
    """
    inputs = asked.inputs(processor, model.device)
    inputs.setdefault("past_key_values", DynamicCache(config=model.config.text_config))
    first = model(**inputs, logits_to_keep=1).logits
    rows = [torch.tensor(encode(spell_answer(answer), processor.tokenizer)) for answer in answers]
    at_once = max(1, MOST_ROWS // len(first))
    parts = [rows[start : start + at_once] for start in range(0, len(rows), at_once)]
    cache, mask = inputs["past_key_values"], inputs["attention_mask"]
    return torch.cat([_weigh(model, first, cache, mask, part) for part in parts], dim=1)


def _weigh(
    model: FlamingoForConditionalGeneration,
    first: Float[Tensor, "prompts 1 vocabulary"],
    cache: Cache,
    mask: Int[Tensor, "prompts tokens"],
    answers: Sequence[Tensor],
) -> Float[Tensor, "prompts answers"]:
    """The same for answers that are token ids, after prompts that are in the cache."""
    prompts, count = len(first), len(answers)
    counts = torch.tensor([len(row) for row in answers], device=first.device)
    ids = pad_sequence(list(answers), batch_first=True).to(first.device)
    logits = first.repeat_interleave(count, dim=0)
    if ids.shape[1] > 1:
        read = (torch.arange(ids.shape[1] - 1, device=ids.device) < counts[:, None] - 1).long().repeat(prompts, 1)
        rest = model(
            ids[:, :-1].repeat(prompts, 1),
            attention_mask=torch.cat([mask.repeat_interleave(count, dim=0), read], dim=1),
            past_key_values=repeated(cache, count),
        ).logits
        logits = torch.cat([logits, rest], dim=1)
    total = _log_probabilities(logits, ids.repeat(prompts, 1), counts.repeat(prompts))
    return total.reshape(prompts, count)


def _log_probabilities(
    logits: Float[Tensor, "batch tokens vocabulary"], said: Int[Tensor, "batch tokens"], counts: Int[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """Log-probability of the first so many tokens of each row."""
    each = logits.float().log_softmax(dim=-1).gather(-1, said[..., None]).squeeze(-1)
    counted = torch.arange(said.shape[1], device=said.device) < counts[:, None]
    return each.where(counted, 0.0).sum(dim=1)
