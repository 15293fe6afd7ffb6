"""A step of Muon on the starter's language model, ours against the library's, and its share of a whole step."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import GPT2LMHeadModel

from benchmarks.clock import medians
from flamingo_app.model.backbones import STARTER
from training.optimizer import Muon, split

BATCH, TOKENS = 8, 256


def run() -> dict[str, Any]:
    """How many of our steps the library takes for one, and the share of ours in a whole training step."""
    model = GPT2LMHeadModel.from_pretrained(STARTER / "text", dtype=torch.float32)
    ids = torch.randint(model.config.vocab_size, (BATCH, TOKENS))

    def backward() -> None:
        model(input_ids=ids, labels=ids).loss.backward()

    backward()
    matrices = list(split(model)[0].values())
    ours = Muon(matrices, lr=1e-6, weight_decay=0.0)
    theirs = torch.optim.Muon([_copied(matrix) for matrix in matrices], lr=1e-6, weight_decay=0.0)
    seconds = medians({"ours": ours.step, "library": theirs.step, "backward": backward}, rounds=5)
    return {
        "library_of_ours": seconds["library"] / seconds["ours"],
        "share_of_a_step": seconds["ours"] / (seconds["ours"] + seconds["backward"]),
        "threads": torch.get_num_threads(),
    }


def _copied(matrix: nn.Parameter) -> nn.Parameter:
    """A copy with its gradient."""
    copy = nn.Parameter(matrix.detach().clone())
    copy.grad = None if matrix.grad is None else matrix.grad.clone()
    return copy
