"""Whether probabilities mean what they say: Brier score, reliability curve, calibration error."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Json = dict[str, Any]

MOST_BINS = 10
ROWS_A_BIN = 10
Z = 1.959963984540054
"""Of the 95 % interval."""


def brier(actual: Array, probabilities: Array) -> float:
    """Two classes: the mean of (p − y)², y = 1 for the second class. More: that of Σ over classes.

    ``actual`` class indexes [n], ``probabilities`` [n, classes] (Brier 1950).
    """
    hit = np.eye(probabilities.shape[1])[actual]
    squares = ((probabilities - hit) ** 2).sum(axis=1)
    return float(squares.mean()) / (2.0 if probabilities.shape[1] == 2 else 1.0)


def wilson(hits: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share, ``hits`` of ``count`` > 0 (Wilson 1927)."""
    share, spread = hits / count, Z * Z / count
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * share * (1 - share) + spread * spread / 4) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def reliability(happened: Array, told: Array) -> list[Json]:
    """The share that happened by the probability that was told, in bins of equal counts.

    ``happened`` bool [n], ``told`` [n]. Equal probabilities share a bin, so that there may be fewer bins.
    """
    if not len(told):
        return []
    bins = max(1, min(MOST_BINS, len(told) // ROWS_A_BIN))
    edges = np.quantile(told, np.linspace(0, 1, bins + 1))
    place = np.searchsorted(edges[1:-1], told)
    return [_bin(happened[place == i], told[place == i]) for i in np.unique(place)]


def _bin(happened: Array, told: Array) -> Json:
    hits, count = int(happened.sum()), len(happened)
    low, high = wilson(hits, count)
    mean = float(told.mean())
    return {"count": count, "predicted": mean, "observed": hits / count, "low": low, "high": high}


def calibration_error(bins: list[Json]) -> float | None:
    """Expected calibration error: Σ share of rows · |observed − predicted| over the bins (Naeini et al.
    2015)."""
    rows = sum(one["count"] for one in bins)
    if not rows:
        return None
    gaps = [float(one["count"]) * abs(one["observed"] - one["predicted"]) for one in bins]
    return float(sum(gaps) / rows)
