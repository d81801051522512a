"""Limits that outlying training values are moved to."""

from collections.abc import Callable
from typing import Any

import numpy as np

from gradkeel_worker.data.table import Floats

NO_LIMITS = (-np.inf, np.inf)


def _keep(policy: Any, values: Floats) -> tuple[float, float]:
    return NO_LIMITS


def _winsorize(policy: Any, values: Floats) -> tuple[float, float]:
    low, high = np.quantile(values, [policy.lower, policy.upper])
    return float(low), float(high)


OUTLIERS: dict[str, Callable[[Any, Floats], tuple[float, float]]] = {"keep": _keep, "winsorize": _winsorize}
"""kind → function(policy block, finite training values) → lower and upper limit."""


def fit_limits(policy: Any, values: Floats) -> tuple[float, float]:
    """Lower and upper limit of a column."""
    return OUTLIERS[policy.kind](policy, values)
