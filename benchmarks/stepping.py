"""A training step as every contender takes it, and what it costs.

Only torch is needed here: the peers run this beside libraries of their own time.
"""

from __future__ import annotations

import json
import resource
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.optim import Optimizer

BATCH, TOKENS, STEPS = 4, 32, 3
VOCABULARY = 50_257


def words(first: int) -> torch.Tensor:
    """Rows of random words after one that is given, (batch, 1 + tokens)."""
    return torch.cat([torch.full((BATCH, 1), first), torch.randint(VOCABULARY, (BATCH, TOKENS))], dim=1)


def descend(learning: Sequence[nn.Parameter], optimizer: Optimizer) -> None:
    """From gradients to new weights."""
    nn.utils.clip_grad_norm_(learning, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def report(contender: Callable[[], Callable[[], None]]) -> None:
    """Print, as JSON, the median seconds of a contender's steps after the first, and the process's peak memory in MB.

    Seconds of the processor, not of the wall: a busy machine then tells nearly the same ratios as an idle one.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    step = contender()
    step()
    taken: list[float] = []
    for _ in range(STEPS):
        start = time.process_time()
        step()
        taken.append(time.process_time() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": statistics.median(taken), "peak_mb": peak}))
