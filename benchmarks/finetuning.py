"""A fine-tuning step at GPT-2 small and ViT-B/32 sizes (random weights, batch 4, a picture and 32 tokens, one thread).

The contenders run one after the other, each in a process of its own so that its peak memory is its own. What counts is
the processor's time, not the wall's, so that a busy machine tells nearly the same ratios as an idle one:

    ours                as `training.train` steps
    ours_cached         with the image tower's patches from the feature cache
    peers_recipe        our model stepped as open_flamingo 2.0.1 steps its own: the whole input embedding learns, logits
                        and loss in the forward, AdamW with its defaults. It stands for the recipe alone: their code
                        does not run beside the libraries of today, and its modules may be faster or slower than ours.
    gpt2                GPT-2 small alone, all of it learning, on as many tokens
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import AdamW
from transformers import GPT2Config, GPT2LMHeadModel

from flamingo_app.config import CLIP_VIT_B32, FlamingoConfig
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from training.objective import row_losses

BATCH, TOKENS, ROUNDS = 4, 32, 3
NAMES = ("ours", "ours_cached", "peers_recipe", "gpt2")


def run() -> dict[str, Any]:
    """Samples a second of processor time, peak memory in MB, and both as ratios to the peers' recipe."""
    measured: dict[str, tuple[float, float]] = {}
    for name in NAMES:
        # A process for each: the pool has one place, and gives it up after one task.
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            measured[name] = pool.apply(_contend, (name,))
    rates = {name: BATCH / seconds for name, (seconds, _) in measured.items()}
    memory = {name: used for name, (_, used) in measured.items()}
    return {
        "samples_per_second": rates,
        "peak_mb": memory,
        "of_peers_recipe": {name: rate / rates["peers_recipe"] for name, rate in rates.items()},
        "memory_of_peers_recipe": {name: used / memory["peers_recipe"] for name, used in memory.items()},
    }


def _contend(name: str) -> tuple[float, float]:
    """Median seconds of a step after the first, and the peak of memory."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    step = _gpt2() if name == "gpt2" else _ours(cached=name == "ours_cached", peers=name == "peers_recipe")
    step()
    taken: list[float] = []
    for _ in range(ROUNDS):
        start = time.process_time()
        step()
        taken.append(time.process_time() - start)
    return statistics.median(taken), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _ours(*, cached: bool, peers: bool) -> Callable[[], None]:
    model = FlamingoForConditionalGeneration(FlamingoConfig(text_config=GPT2Config(), vision_config=CLIP_VIT_B32))
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if parameter_name.endswith("gate"):
                parameter.fill_(0.1)
    if peers:
        model.get_input_embeddings().requires_grad_(True)
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = AdamW(learning, lr=1e-4, fused=None if peers else True)
    batch = {
        "input_ids": _words(model.config.image_token_id),
        "attention_mask": torch.ones(BATCH, TOKENS + 1, dtype=torch.long),
        "image_mask": torch.ones(BATCH, 1, dtype=torch.bool),
    }
    pixels = torch.randn(BATCH, 1, 1, 3, 224, 224)
    batch |= {"patches": model.vision_encoder(pixels).clone()} if cached else {"pixel_values": pixels}
    labels = batch["input_ids"].masked_fill(batch["input_ids"] == model.config.image_token_id, -100)
    weights = (labels != -100).float()

    def step() -> None:
        loss = model(**batch, labels=labels).loss if peers else row_losses(model, batch | {"weights": weights}).sum()
        _update(loss, learning, optimizer)

    return step


def _gpt2() -> Callable[[], None]:
    model = GPT2LMHeadModel(GPT2Config())
    optimizer = AdamW(model.parameters(), lr=1e-4)
    ids = _words(0)

    def step() -> None:
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        _update(F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()), list(model.parameters()), optimizer)

    return step


def _words(first: int) -> torch.Tensor:
    """Rows of random words after one that is given."""
    return torch.cat([torch.full((BATCH, 1), first), torch.randint(50_000, (BATCH, TOKENS))], dim=1)


def _update(loss: torch.Tensor, learning: list[nn.Parameter], optimizer: AdamW) -> None:
    loss.backward()
    nn.utils.clip_grad_norm_(learning, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
