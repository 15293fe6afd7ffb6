"""A fine-tuning step at GPT-2 small and ViT-B/32 sizes (random weights, batch 4, a picture and 32 tokens, one thread).

The contenders run in turn, pass after pass, each in a process of its own so that its peak memory is its own:

    ours                as `training.train` steps
    ours_cached         with the image tower's patches from the feature cache
    open_flamingo       2.0.1, as its own trainer steps it   } where `make peers` has made an environment for them,
    flamingo_mini       as its own trainer steps it          } or --peers-python names one
    peers_recipe        our model stepped as open_flamingo steps its own: the whole input embedding learns, logits and
                        loss in the forward, AdamW with its defaults. It tells what the recipe costs, without the code.
    gpt2                GPT-2 small alone, all of it learning, on as many tokens
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import AdamW
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.finetuning_peers import CONTENDERS as PEERS
from benchmarks.finetuning_peers import GATE
from benchmarks.stepping import BATCH, TOKENS, descend, report, words
from flamingo_app.config import CLIP_VIT_B32, FlamingoConfig
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from training.kernels import use_faster
from training.objective import row_losses

ROOT = Path(__file__).parents[1]
PASSES = 3


def run(peers_python: Path | None) -> dict[str, Any]:
    """Samples a second of processor time, peak memory in MB, and both as ratios to each peer.

    Args:
        peers_python: an interpreter that finds open_flamingo and flamingo-mini; peers that it does not find are left
            out, and the reason is told.
    """
    contenders = {name: (Path(sys.executable), "benchmarks.finetuning") for name in OURS}
    missing: dict[str, str] = {}
    for name in PEERS:
        if why := _missing(peers_python, name):
            missing[name] = why
        else:
            contenders[name] = (peers_python or Path(), "benchmarks.finetuning_peers")
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    memory: dict[str, float] = {}
    for _ in range(PASSES):
        for name, (python, module) in contenders.items():
            done = subprocess.run(
                [python, "-W", "ignore", "-m", module, name], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
            )
            told = json.loads(done.stdout.splitlines()[-1])
            seconds[name].append(told["seconds"])
            memory[name] = max(memory.get(name, 0.0), told["peak_mb"])
    rates = {name: BATCH / statistics.median(taken) for name, taken in seconds.items()}
    against = [name for name in (*PEERS, "peers_recipe") if name in rates]
    return {
        "samples_per_second": rates,
        "peak_mb": memory,
        **{f"speed_of_{name}": {of: rate / rates[name] for of, rate in rates.items()} for name in against},
        **{f"memory_of_{name}": {of: used / memory[name] for of, used in memory.items()} for name in against},
        "missing": missing,
    }


def _missing(python: Path | None, name: str) -> str | None:
    """Why a peer cannot run."""
    if python is None:
        return "no environment for the peers: make peers, or --peers-python PATH"
    found = subprocess.run([python, "-W", "ignore", "-c", f"import {name}"], capture_output=True, text=True)
    return found.stderr.strip().splitlines()[-1] if found.returncode else None


def _ours(*, cached: bool = False, peers: bool = False) -> Callable[[], None]:
    model = FlamingoForConditionalGeneration(FlamingoConfig(text_config=GPT2Config(), vision_config=CLIP_VIT_B32))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("gate"):
                parameter.fill_(GATE)
    model.train(peers)  # frozen parts drop nothing out where `training.train` steps
    if peers:
        model.get_input_embeddings().requires_grad_(True)
    else:
        use_faster(model)
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = AdamW(learning, lr=1e-4, fused=None if peers else True)
    batch = {
        "input_ids": words(model.config.image_token_id),
        "attention_mask": torch.ones(BATCH, TOKENS + 1, dtype=torch.long),
        "image_mask": torch.ones(BATCH, 1, dtype=torch.bool),
    }
    pixels = torch.randn(BATCH, 1, 1, 3, 224, 224)
    batch |= {"patches": model.vision_encoder(pixels).clone()} if cached else {"pixel_values": pixels}
    labels = batch["input_ids"].masked_fill(batch["input_ids"] == model.config.image_token_id, -100)
    weights = (labels != -100).float()

    def step() -> None:
        loss = model(**batch, labels=labels).loss if peers else row_losses(model, batch | {"weights": weights}).sum()
        loss.backward()
        descend(learning, optimizer)

    return step


def _gpt2() -> Callable[[], None]:
    model = GPT2LMHeadModel(GPT2Config())
    learning: list[nn.Parameter] = list(model.parameters())
    optimizer = AdamW(learning, lr=1e-4)
    ids = words(0)

    def step() -> None:
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).backward()
        descend(learning, optimizer)

    return step


OURS: dict[str, Callable[[], Callable[[], None]]] = {
    "ours": _ours,
    "ours_cached": lambda: _ours(cached=True),
    "peers_recipe": lambda: _ours(peers=True),
    "gpt2": _gpt2,
}

if __name__ == "__main__":
    report(OURS[sys.argv[1]])
