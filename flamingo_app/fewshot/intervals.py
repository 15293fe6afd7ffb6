"""95% intervals of what was measured on a sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Z = 1.959964  # of 95%, two-sided


def wilson(right: int, count: int) -> tuple[float, float]:
    """Of a share of at least one (Wilson 1927); it holds near 0 and 1 too."""
    share = right / count
    centre = (share + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2)) / (1 + Z**2 / count)
    return max(0.0, centre - half), min(1.0, centre + half)


def bootstrap(values: Sequence[float], *, seed: int = 0, rounds: int = 2000) -> tuple[float, float]:
    """Of a mean: percentiles of the means of samples drawn again (Efron 1979)."""
    each: np.ndarray[Any, Any] = np.asarray(values, dtype=float)
    drawn = np.random.default_rng(seed).integers(0, len(each), (rounds, len(each)))
    low, high = np.percentile(each[drawn].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)
