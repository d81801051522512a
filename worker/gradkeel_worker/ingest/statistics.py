"""Exact statistics of a column from its distinct values and how often each occurs."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
OUTLIER_ROBUST_Z = 8.0

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

NO_NUMBERS: dict[str, Any] = {
    **dict.fromkeys(("min", "max", "mean", "std", "skew")),
    "quantiles": None,
    "outliers": None,
    "nonfinite": 0,
}


def describe(values: Floats, counts: Counts) -> dict[str, Any]:
    """Moments (population), quantiles (linear between neighbours), outliers and infinities.

    values: distinct, any order.    counts: how often each occurs.
    """
    finite = np.isfinite(values)
    nonfinite = int(counts[~finite].sum())
    order = np.argsort(values[finite])
    v, n = values[finite][order], counts[finite][order]
    if not len(v):
        return NO_NUMBERS | {"nonfinite": nonfinite}
    mean, std, skew = _moments(v, n)
    quantiles = {str(q): weighted_quantile(v, n, q) for q in QUANTILES}
    return {
        "min": float(v[0]),
        "max": float(v[-1]),
        "mean": mean,
        "std": std,
        "skew": skew,
        "quantiles": quantiles,
        "outliers": outliers(v, n),
        "nonfinite": nonfinite,
    }


def _moments(v: Floats, n: Counts) -> tuple[float | None, float | None, float | None]:
    """Mean, standard deviation and skewness; None where the numbers are too large for a double."""
    scale = float(np.abs(v).max()) or 1.0
    u = v / scale
    weight = n / n.sum()
    mean = float(weight @ u)
    variance = float(weight @ (u - mean) ** 2)
    std = float(np.sqrt(variance)) if v[0] != v[-1] else 0.0
    z = (u - mean) / (std or 1.0)
    skew = float(weight @ (z * z * z)) if std > 0 else None
    return _finite(mean * scale), _finite(std * scale), skew


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def weighted_quantile(v: Floats, n: Counts, q: float) -> float:
    """The quantile of the sorted values `v` repeated `n` times, as numpy.quantile gives it."""
    ends = np.cumsum(n)
    position = q * (int(ends[-1]) - 1)
    low = int(np.floor(position))
    below, above = (float(v[np.searchsorted(ends, rank, side="right")]) for rank in (low, _next(low, ends)))
    share = position - low
    return below * (1 - share) + above * share


def _next(rank: int, ends: Counts) -> int:
    return min(rank + 1, int(ends[-1]) - 1)


def outliers(v: Floats, n: Counts) -> int:
    """Cells whose distance from the median is more than 8 robust standard deviations.

    The scale is 1.4826 times the median absolute deviation, then the interquartile range / 1.349, then the
    standard deviation, whichever is the first that is not zero.
    """
    with np.errstate(over="ignore"):
        distance = np.abs(v - weighted_quantile(v, n, 0.5))
    order = np.argsort(distance)
    mad = weighted_quantile(distance[order], n[order], 0.5)
    spread = weighted_quantile(v, n, 0.75) - weighted_quantile(v, n, 0.25)
    scale = 1.4826 * mad or spread / 1.349 or _moments(v, n)[1] or 0.0
    return int(n[distance > OUTLIER_ROBUST_Z * scale].sum()) if scale > 0 else 0
