"""How far off a regression is: quantiles of the residuals, and errors that a few rows do not decide."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Json = dict[str, Any]

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def residual_details(actual: Array, predicted: Array) -> Json | None:
    """Of float64 arrays [n] in the target's units; a residual is prediction − actual.

    ``mape``: mean of |residual| / actual, null unless every actual value is positive. None without rows or
    where a prediction is not finite.
    """
    if not len(actual) or not np.isfinite(predicted).all():
        return None
    residual = predicted - actual
    size = np.abs(residual)
    return {
        "rows": len(actual),
        "quantiles": {
            f"{q:g}": float(value) for q, value in zip(QUANTILES, _quantiles(residual), strict=True)
        },
        "median_absolute_error": float(np.median(size)),
        "largest_absolute_error": float(size.max()),
        "mape": float(np.mean(size / actual)) if actual.min() > 0 else None,
    }


def _quantiles(residual: Array) -> Array:
    return np.asarray(np.quantile(residual, QUANTILES))
