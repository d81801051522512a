"""The loss of predicted quantiles, in numpy alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

MEDIAN = 0.5


def pinball_losses(actual: Array, predicted: Array, levels: Sequence[float]) -> Array:
    """τ·r⁺ + (1 − τ)·r⁻ of the residuals r = actual − predicted: [n] and [n, levels] → [n, levels]."""
    residual = np.asarray(actual, np.float64)[:, None] - np.asarray(predicted, np.float64)
    tau = np.asarray(levels)
    return np.asarray(np.maximum(tau * residual, (tau - 1) * residual))
