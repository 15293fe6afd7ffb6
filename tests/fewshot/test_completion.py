"""Texts and scores of completions."""

from __future__ import annotations

import pytest
import torch

from flamingo_app.errors import PromptError
from flamingo_app.fewshot.completion import Asked, complete, mean_log_probability
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.processing import FlamingoProcessor
from flamingo_app.prompt import caption_prompt, encode
from tests import tiny


def test_a_score_counts_so_many_tokens_and_nothing_after_them() -> None:
    logits = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    said = torch.tensor([[0, 2, 2, 1], [0, 1, 1, 0]])
    each = logits.log_softmax(-1).gather(-1, said[..., None])[..., 0]
    expected = torch.stack([each[0, :2].mean(), each[1].mean()])
    torch.testing.assert_close(mean_log_probability(logits, said, torch.tensor([2, 4])), expected)


def test_scores_are_those_of_one_uncached_pass(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor
) -> None:
    latents = model.encode_images(tiny.pictures(images=2))[0]
    prompts = [caption_prompt(["a dog."]), caption_prompt()]
    rows = complete(model, processor, Asked(prompts=prompts, latents=[latents, latents[:1]]), max_new_tokens=6)
    for prompt, own, row in zip(prompts, [latents, latents[:1]], rows, strict=True):
        (alone,) = complete(model, processor, Asked(prompts=[prompt], latents=[own]), max_new_tokens=6)
        assert alone.text == row.text
        assert alone.score == pytest.approx(row.score, rel=1e-4)
        ids = torch.tensor([encode(prompt, processor.tokenizer)])
        said = model.generate(input_ids=ids, latents=own[None], max_new_tokens=6, do_sample=False)
        with torch.no_grad():
            logits = model(input_ids=said[:, :-1], latents=own[None]).logits[:, ids.shape[1] - 1 :]
        new = said[:, ids.shape[1] :]
        score = mean_log_probability(logits, new, torch.tensor([new.shape[1]]))
        assert row.score == pytest.approx(score.item(), rel=1e-4)


def test_a_prompt_that_leaves_no_room_is_refused(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor
) -> None:
    latents = model.encode_images(tiny.pictures())[0]
    asked = Asked(prompts=[caption_prompt(lead_in="x" * 400)], latents=[latents])
    with pytest.raises(PromptError, match="at most 320 tokens"):
        complete(model, processor, asked, max_new_tokens=6)
