"""What stands in for a missing number: one value per column, from the training part."""

from collections.abc import Callable
from typing import Any

import numpy as np

from gradkeel_worker.data.table import Floats


def _median(policy: Any, values: Floats) -> float:
    return float(np.median(values))


def _mean(policy: Any, values: Floats) -> float:
    return float(np.mean(values))


def _most_frequent(policy: Any, values: Floats) -> float:
    distinct, counts = np.unique(values, return_counts=True)
    return float(distinct[np.argmax(counts)])


def _constant(policy: Any, values: Floats) -> float:
    return float(policy.value)


MISSING_POLICIES: dict[str, Callable[[Any, Floats], float]] = {
    "median": _median,
    "mean": _mean,
    "most_frequent": _most_frequent,
    "constant": _constant,
    # no training row needs a filling under these three; a row to predict may
    "drop_rows": _median,
    "refuse": _median,
    "propagate": _median,
}
"""kind → function(policy block, observed training values) → the filling, in the column's own unit."""


def fill_value(policy: Any, values: Floats) -> float:
    """The filling of a column. ``values``: the finite training values, at least one."""
    return MISSING_POLICIES[policy.kind](policy, values)
