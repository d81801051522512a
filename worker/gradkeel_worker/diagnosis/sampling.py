"""Some of many rows, the same ones for the same seed."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def sample(n: int, most: int, seed: int) -> Array:
    """Positions of all rows, or of a seeded random choice of ``most``, in order."""
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, most, replace=False))
