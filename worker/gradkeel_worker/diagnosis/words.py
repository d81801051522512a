"""Small pieces of the report's English."""

from __future__ import annotations

import math
from collections.abc import Sequence

METRICS = {
    "rmse": "RMSE",
    "mae": "mean absolute error",
    "r2": "R²",
    "scaled_rmse": "RMSE in standard deviations of each target",
    "scaled_mae": "mean absolute error in standard deviations of each target",
    "pinball": "pinball loss",
    "log_loss": "log loss",
    "auc": "AUC",
    "average_precision": "average precision",
    "f1": "F1",
    "mase": "mean absolute scaled error",
}
"""Metrics as people write them, inside a sentence."""


def number(value: float | None) -> str:
    """Up to three significant digits, readable: 0.0042, 12.3, 4,560, 1.2e+09."""
    if value is None or not math.isfinite(value):
        return "not finite"
    if value == 0:
        return "0"
    if 1e-4 <= abs(value) < 1e6:
        digits = max(0, 2 - math.floor(math.log10(abs(value))))
        text = f"{value:,.{digits}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.2g}"


def times(value: float) -> str:
    return f"{number(value)} times"


def percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 or share == 0 else f"{100 * share:.1f} %"


def listed(names: Sequence[str], most: int = 4) -> str:
    """'a, b, c and 5 more', names in quotes."""
    shown = [f"“{name}”" for name in names[:most]]
    if len(names) > most:
        return f"{', '.join(shown)} and {len(names) - most} more"
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}" if shown else "none"


def plural(count: int, one: str, many: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def finite(value: float | None) -> float | None:
    """The number for JSON: None where it is not finite."""
    return float(value) if value is not None and math.isfinite(value) else None
