"""Plain statistics of what the model is fed, for the rules about scale and outliers. Training part only."""

from typing import Any

import numpy as np

from gradkeel_worker.data.preparation import Input
from gradkeel_worker.data.scalers import robust
from gradkeel_worker.data.table import Array, Floats, Integers

OUTLYING = 8.0
"""Robust z beyond which a value is an outlier."""
_LISTED_ROWS = 50


def input_stats(
    inputs: tuple[Input, ...], x: Array, rows: Integers, lines: Integers | None
) -> dict[str, Any]:
    """By input: mean, std, rms about zero, largest |robust z| with its place, outliers.

    ``x`` [n, d] as fed. Non-finite values are counted and otherwise skipped. 0/1 inputs have no outliers.
    """
    columns = np.asarray(x.T, dtype=np.float64, order="C")
    return {
        item.name: {"source": item.source, "role": item.role}
        | _stats(column, rows, lines, judged=item.role in ("value", "datetime"))
        for item, column in zip(inputs, columns, strict=True)
    }


def target_stats(y: Array, y_raw: Array, rows: Integers, lines: Integers | None) -> dict[str, Any]:
    """The same for a regression target as fed, and under "raw" for its own units."""
    return _stats(np.asarray(y, dtype=np.float64), rows, lines, judged=True) | {
        "raw": _stats(np.asarray(y_raw, dtype=np.float64), rows, lines, judged=True)
    }


def class_stats(y: Array, classes: tuple[str, ...]) -> dict[str, Any]:
    """Training rows of each class."""
    counts = np.bincount(np.asarray(y, dtype=np.int64), minlength=len(classes))
    return {"counts": dict(zip(classes, counts.tolist(), strict=True))}


def _stats(values: Floats, rows: Integers, lines: Integers | None, *, judged: bool) -> dict[str, Any]:
    finite = np.isfinite(values)
    kept = values[finite]
    if len(kept) == 0:
        return (
            {"count": 0, "nonfinite": len(values)}
            | dict.fromkeys(_KEYS)
            | {"outliers": 0, "outlier_rows": []}
        )
    mean, std = float(kept.mean()), float(kept.std())
    plain = {
        "count": len(kept),
        "nonfinite": len(values) - len(kept),
        "mean": mean,
        "std": std,
        "rms": float(np.sqrt(np.mean(np.square(kept)))),
        "skew": float(np.mean(((kept - mean) / std) ** 3)) if std > 0 else 0.0,
        "min": float(kept.min()),
        "max": float(kept.max()),
    }
    return plain | _outliers(values, finite, rows, lines, judged=judged)


_KEYS = ("mean", "std", "rms", "skew", "min", "max", "max_robust_z", "row", "line", "value")


def _outliers(
    values: Floats, finite: Array, rows: Integers, lines: Integers | None, *, judged: bool
) -> dict[str, Any]:
    if not judged:
        return dict.fromkeys(("max_robust_z", "row", "line", "value")) | {"outliers": 0, "outlier_rows": []}
    center, scale = robust(values[finite])
    z = np.abs(values - center) / (scale if scale > 0 else 1.0)
    z[~finite] = 0.0
    worst = int(np.argmax(z))
    outlying = np.flatnonzero(z > OUTLYING)
    listed = outlying[np.argsort(-z[outlying], kind="stable")][:_LISTED_ROWS]
    return {
        "max_robust_z": float(z[worst]),
        "row": int(rows[worst]),
        "line": None if lines is None else int(lines[worst]),
        "value": float(values[worst]),
        "outliers": len(outlying),
        "outlier_rows": rows[listed].tolist(),
    }
