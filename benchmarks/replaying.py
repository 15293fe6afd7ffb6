"""Back-propagation through a Memformer's memory over 4 and 64 turns: peak memory and time, plain and replayed.

Each case runs in a process of its own, since what a process has once taken from the system it seldom gives back.
"""

from __future__ import annotations

import multiprocessing
import resource
import time
from typing import Any

import torch
from torch import Tensor

from flamingo_app.memory.memformer import Memformer, MemformerConfig
from training.replay import replay_backward

SHORT, LONG = 4, 64  # turns
TOKENS, BATCH, WORDS = 128, 8, 1000
CONFIG = MemformerConfig(dim=256, num_slots=32, num_tokens=WORDS, depth=2, num_target_tokens=WORDS)
CASES = [(way, turns) for way in ("plain", "replayed") for turns in (SHORT, LONG)]


def run() -> dict[str, Any]:
    """Megabytes that the gradient took at its height beyond the model and the turns themselves, and seconds."""
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        taken = dict(zip(CASES, pool.starmap(measure, CASES, chunksize=1), strict=True))
    return (
        {f"{way}_{turns}_turns_{what}": figure for (way, turns), of in taken.items() for what, figure in of.items()}
        | {f"{way}_memory_growth": taken[way, LONG]["mb"] / taken[way, SHORT]["mb"] for way in ("plain", "replayed")}
        | {"replayed_of_plain_seconds": taken["replayed", LONG]["seconds"] / taken["plain", LONG]["seconds"]}
    )


def measure(way: str, turns: int) -> dict[str, float]:
    """One case, in this process."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model, words = Memformer(CONFIG), torch.randint(WORDS, (turns, BATCH, TOKENS))

    def step(slots: Tensor, turn: Tensor) -> tuple[Tensor, Tensor | None]:
        output = model(turn, turn, slots)
        return output.slots, output.loss

    def gradient(segments: Tensor) -> None:
        slots = model.initial_slots(BATCH)
        if way == "replayed":
            replay_backward(step, slots, list(segments))
            return
        total = torch.zeros(())
        for turn in segments:
            slots, loss = step(slots, turn)
            total = total if loss is None else total + loss
        total.backward()

    gradient(words[:2])  # gradients have their place, and the library its buffers
    before, started = _peak(), time.perf_counter()
    gradient(words)
    return {"mb": (_peak() - before) / 2**20, "seconds": time.perf_counter() - started}


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
