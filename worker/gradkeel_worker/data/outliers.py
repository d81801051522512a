"""Limits that outlying training values are moved to, and training rows that outlying values leave out."""

from collections.abc import Callable
from typing import Any

import numpy as np

from gradkeel_worker.data.scalers import robust
from gradkeel_worker.data.table import Floats, Mask

NO_LIMITS = (-np.inf, np.inf)


def _keep(policy: Any, values: Floats) -> tuple[float, float]:
    return NO_LIMITS


def _winsorize(policy: Any, values: Floats) -> tuple[float, float]:
    low, high = np.quantile(values, [policy.lower, policy.upper])
    return float(low), float(high)


OUTLIERS: dict[str, Callable[[Any, Floats], tuple[float, float]]] = {
    "keep": _keep,
    "winsorize": _winsorize,
    # the rows that are beyond are gone before anything is fitted
    "drop": _keep,
}
"""kind → function(policy block, finite training values) → lower and upper limit."""


def fit_limits(policy: Any, values: Floats) -> tuple[float, float]:
    """Lower and upper limit of a column."""
    return OUTLIERS[policy.kind](policy, values)


def outlying(values: Floats, robust_z: float) -> Mask:
    """Which values lie farther than ``robust_z`` robust standard deviations from the median, [n]; none of
    those that are not finite, and none where the finite ones are all alike."""
    finite = values[np.isfinite(values)]
    if len(finite) == 0 or np.ptp(finite) == 0:
        return np.zeros(len(values), dtype=bool)
    center, scale = robust(finite)
    # a difference of two numbers of float64's full size overflows to inf, which is far out
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(np.isfinite(values) & (np.abs(values - center) / scale > robust_z))
