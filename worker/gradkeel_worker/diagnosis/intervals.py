"""Prediction intervals from the validation part: split-conformal, and conformalised where quantiles are
predicted (Vovk et al. 2005; Lei et al. 2018, arXiv:1604.04173; Romano et al. 2019, arXiv:1905.03222).

If validation and future rows are exchangeable and the validation part had chosen nothing, an interval at a
level would hold at least that share of future targets, whatever the model. Row weights are not used.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gradkeel.local.intervals import bounds
from gradkeel_worker.diagnosis.pinball import MEDIAN
from gradkeel_worker.diagnosis.reliability import wilson

if TYPE_CHECKING:
    from gradkeel_worker.data import Prepared

Array = np.ndarray[Any, Any]
Json = dict[str, Any]

LEVELS = (0.8, 0.9, 0.95)
SPLIT, CONFORMALISED = "split_conformal", "conformalised_quantiles"
NOTE = (
    "The validation part also decided which epoch's weights were kept, so these intervals may be slightly "
    "too narrow: what they hold of the test part was measured."
)
_ROUNDING = 1e-9  # (n + 1) · level may come out a hair above a whole number


def conformal_quantile(scores: Array, level: float) -> float:
    """The ⌈(n + 1)·level⌉-th smallest of scores [n]; infinite where there are fewer."""
    place = math.ceil((len(scores) + 1) * level - _ROUNDING)
    return float(np.sort(scores)[place - 1]) if place <= len(scores) else math.inf


def intervals_of(prepared: Prepared, predicted: dict[str, Array]) -> Json | None:
    """What the bundle and the report hold: margins by level, and what they hold of the test part.

    ``predicted``: predictions of the validation and the test part in target units, [n] or [n, outputs]. None
    for classes, without validation rows, and for quantiles that lie on one side of the median.
    """
    part, answers = prepared.validation, predicted.get("validation")
    if prepared.classes is not None or answers is None or (prepared.levels and not _pairs(prepared.levels)):
        return None
    known = part.finite_rows() & np.isfinite(_wide(answers)).all(axis=1)
    if not known.any():
        return None
    levels = [_at(prepared, level, answers[known], part.y_raw[known]) for level in LEVELS]
    return {
        "kind": CONFORMALISED if prepared.levels else SPLIT,
        "rows": int(known.sum()),
        "note": NOTE,
        "targets": list(prepared.config.targets),
        "levels": [one | _tested(prepared, one, predicted["test"]) for one in levels],
    }


def _at(prepared: Prepared, level: float, predicted: Array, actual: Array) -> Json:
    between = _nearest(prepared.levels, level) if prepared.levels else None
    lower, upper = bounds(predicted, between, None)
    scores = _wide(np.maximum(lower - actual, actual - upper))
    margins = [conformal_quantile(column, level) for column in scores.T]
    return {
        "level": level,
        "between": None if between is None else list(between),
        "margins": [margin if math.isfinite(margin) else None for margin in margins],
    }


def _wide(values: Array) -> Array:
    """[n] as [n, 1]; [n, k] as it is."""
    return values[:, None] if values.ndim == 1 else values


def _pairs(levels: tuple[float, ...]) -> list[tuple[int, int]]:
    """Positions of quantiles that face one another on either side of the median, outermost first."""
    facing = [(i, len(levels) - 1 - i) for i in range(len(levels) // 2)]
    return [(i, j) for i, j in facing if levels[i] < MEDIAN < levels[j]]


def _nearest(levels: tuple[float, ...], level: float) -> tuple[int, int]:
    """The pair whose quantiles should hold about that share already."""
    return min(_pairs(levels), key=lambda pair: abs(levels[pair[1]] - levels[pair[0]] - level))


def _tested(prepared: Prepared, at: Json, predicted: Array) -> Json:
    """Share of the test part inside, with Wilson's interval, and the mean width; one entry a target."""
    part, margins = prepared.test, at["margins"]
    known = part.finite_rows() & np.isfinite(_wide(predicted)).all(axis=1)
    rows = int(known.sum())
    if not rows or None in margins:
        unknown = ("coverage", "coverage_low", "coverage_high", "width")
        return {"tested_on": rows} | dict.fromkeys(unknown)
    lower, upper = bounds(predicted[known], at["between"], np.array(margins))
    actual = part.y_raw[known]
    inside = ((lower <= actual) & (actual <= upper)).reshape(rows, -1)
    ranges = [wilson(int(hits), rows) for hits in inside.sum(axis=0)]
    return {
        "tested_on": rows,
        "coverage": inside.mean(axis=0).tolist(),
        "coverage_low": [low for low, _ in ranges],
        "coverage_high": [high for _, high in ranges],
        "width": (upper - lower).reshape(rows, -1).mean(axis=0).tolist(),
    }
