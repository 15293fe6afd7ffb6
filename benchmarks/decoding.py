"""Decoding at GPT-2 small and ViT-B/32 sizes (random weights): tokens a second with pictures, of plain GPT-2's."""

from __future__ import annotations

from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.clock import medians
from flamingo_app.config import CLIP_VIT_B32, FlamingoConfig, GatedConfig
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration

PICTURES, WORDS, NEW = 4, 100, 40


@torch.inference_mode()
def run() -> dict[str, Any]:
    """Seconds of `NEW` tokens after pictures and words, a gated block before every layer and before every 4th."""
    words = torch.randint(50_000, (1, WORDS))
    plain = GPT2LMHeadModel(GPT2Config()).eval()
    contenders = {"gpt2": lambda: _decode(plain, words, {})}
    for every in (1, 4):
        model = FlamingoForConditionalGeneration(
            FlamingoConfig(text_config=GPT2Config(), vision_config=CLIP_VIT_B32, gated=GatedConfig(every=every))
        ).eval()
        for name, parameter in model.named_parameters():
            if name.endswith("gate"):
                parameter.fill_(0.5)
        ids = torch.cat([torch.full((1, PICTURES), model.config.image_token_id), words], dim=1)
        latents = torch.randn(1, PICTURES, model.config.resampler.num_latents, model.config.dim_vision)
        contenders[f"every_{every}"] = lambda model=model, ids=ids, latents=latents: _decode(
            model, ids, {"latents": latents}
        )
    seconds = medians(contenders, rounds=3)
    return seconds | {f"{name}_of_gpt2": seconds["gpt2"] / spent for name, spent in seconds.items() if name != "gpt2"}


def _decode(model: Any, ids: torch.Tensor, pictures: dict[str, Any]) -> None:
    model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        min_new_tokens=NEW,
        max_new_tokens=NEW,
        do_sample=False,
        pad_token_id=0,
        **pictures,
    )
