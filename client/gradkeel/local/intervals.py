"""Prediction intervals of a bundle: the margins that its validation part left around predictions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gradkeel.local.errors import NoInterval

Floats = npt.NDArray[np.float64]


def bounds(predicted: Floats, between: Sequence[int] | None, margins: Floats | None) -> tuple[Floats, Floats]:
    """Lower and upper bounds of intervals, [n] or [n, targets].

    ``predicted`` [n], or [n, targets], or [n, levels] of quantiles, where ``between`` holds the positions of
    two of them. ``margins`` [targets] widen, or narrow where below 0, down to the middle; None: none.
    """
    if between is None:
        lower = upper = predicted
    else:
        lower, upper = predicted[:, between[0]], predicted[:, between[1]]
    if margins is None:
        return lower, upper
    margin = margins if np.ndim(lower) > 1 else margins[0]
    middle = (lower + upper) / 2
    return np.minimum(lower - margin, middle), np.maximum(upper + margin, middle)


@dataclass(frozen=True)
class Interval:
    """Intervals at one level. ``between`` and ``margins`` as ``bounds`` takes them."""

    level: float
    between: tuple[int, int] | None
    margins: Floats

    def around(self, predicted: Floats) -> tuple[Floats, Floats]:
        """Lower and upper bounds around predictions of the model."""
        return bounds(predicted, self.between, self.margins)


def interval_at(manifest: dict[str, Any], level: float) -> Interval:
    """The intervals at a level. Raises NoInterval where the model has none there."""
    held = manifest.get("intervals")
    if held is None:
        why = "it predicts classes" if manifest["target"]["classes"] else "it was made without them"
        raise NoInterval(f"this model has no prediction intervals: {why}")
    found = next((one for one in held["levels"] if one["level"] == level), None)
    if found is None:
        known = ", ".join(f"{one['level']:g}" for one in held["levels"])
        raise NoInterval(f"this model has prediction intervals at {known}; not at {level:g}")
    if None in found["margins"]:
        detail = (
            f"{held['rows']} validation rows are too few for intervals at {level:g}; ask for a lower level"
        )
        raise NoInterval(detail)
    between = found["between"]
    return Interval(level, None if between is None else (between[0], between[1]), np.array(found["margins"]))
