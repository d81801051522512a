"""How much better the model is than a baseline on the same rows, with a bootstrap interval."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

DRAWS = 500
LEVEL = 0.95
BASELINES = ("constant", "ridge", "naive", "seasonal_naive")
ROOTED = ("rmse", "scaled_rmse")
"""Metrics that are the root of a mean over rows."""
_GROUPS = 2_000
"""Above this many rows, random groups of rows are resampled instead of rows: same interval, bounded cost."""


@dataclass(frozen=True)
class Gain:
    """Baseline's metric minus the model's (positive: the model is better), its interval, and both metrics."""

    value: float
    low: float
    high: float
    model: float
    baseline: float
    rows: int

    @property
    def relative(self) -> float:
        """Gain as a share of the baseline's metric."""
        return self.value / self.baseline if self.baseline > 0 else 0.0

    @property
    def certain(self) -> bool:
        """Whether the model is better beyond chance."""
        return self.low > 0

    def to_json(self) -> dict[str, float | int]:
        return {"value": self.value, "low": self.low, "high": self.high, "rows": self.rows}


def gains(errors: dict[str, dict[str, Array]], seed: int = 0) -> dict[str, dict[str, Gain]]:
    """Gain over each baseline: baseline → metric → Gain, from per-row errors (metric → name → [n]).

    For rmse and scaled_rmse the per-row error is the square; the others are plain means. Accuracy's is the
    0/1 error.
    """
    found: dict[str, dict[str, Gain]] = {}
    for metric, each in errors.items():
        if "model" not in each or len(each["model"]) < 2:
            continue
        for name in (name for name in BASELINES if name in each):
            gain = paired_gain(each["model"], each[name], root=metric in ROOTED, seed=seed)
            if gain is not None:
                found.setdefault(name, {})[metric] = gain
    return found


def paired_gain(model: Array, baseline: Array, *, root: bool, seed: int = 0) -> Gain | None:
    """Bootstrap over rows, both resampled together. None where a number is not finite."""
    largest = float(max(model.max(), baseline.max())) or 1.0
    both = np.stack([model, baseline]) / largest
    if not np.isfinite(both).all():
        return None
    drawn = _resampled(_grouped(both, np.random.default_rng(seed)), seed) * largest
    whole = both.mean(axis=1) * largest
    if root:
        drawn, whole = np.sqrt(drawn), np.sqrt(whole)
    low, high = np.quantile(drawn[:, 1] - drawn[:, 0], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Gain(
        float(whole[1] - whole[0]), float(low), float(high), float(whole[0]), float(whole[1]), len(model)
    )


def _resampled(means: Array, seed: int) -> Array:
    """Means of DRAWS resamples with replacement, [DRAWS, 2]."""
    return np.asarray(_counts(means.shape[1], seed) @ means.T / means.shape[1])


@lru_cache(maxsize=2)
def _counts(n: int, seed: int) -> Array:
    """How often each row is drawn in each resample, [DRAWS, n]; the same for every metric of the same
    rows.
    """
    drawn = np.random.default_rng(seed).integers(n, size=(DRAWS, n)) + n * np.arange(DRAWS)[:, None]
    return np.bincount(drawn.ravel(), minlength=DRAWS * n).reshape(DRAWS, n).astype(np.float64)


def _grouped(values: Array, rng: np.random.Generator) -> Array:
    """[2, n] → [2, groups]: means of equal random groups; the few rows that fill no group are left out."""
    n = values.shape[1]
    if n <= _GROUPS:
        return values
    size = n // _GROUPS
    order = rng.permutation(n)[: size * _GROUPS]
    return np.asarray(values[:, order].reshape(2, _GROUPS, size).mean(axis=2))
