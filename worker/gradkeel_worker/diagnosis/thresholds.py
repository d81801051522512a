"""From which probability on the second of two classes is named, and what each choice gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Json = dict[str, Any]
Score = Callable[[Array, Array, Array, Array], Array]

HALF = 0.5


def _share(part: Array, whole: Array) -> Array:
    """part / whole, 0 where there is nothing."""
    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=np.asarray(whole) > 0)


def f1(tp: Array, fp: Array, fn: Array, tn: Array) -> Array:
    """2·tp / (2·tp + fp + fn)."""
    return _share(2.0 * tp, 2.0 * tp + fp + fn)


def balanced_accuracy(tp: Array, fp: Array, fn: Array, tn: Array) -> Array:
    """Mean recall of the two classes; Youden's J is twice this less 1, so both choose the same threshold."""
    return (_share(1.0 * tp, tp + fn) + _share(1.0 * tn, tn + fp)) / 2


THRESHOLDS: dict[str, Score | None] = {"half": None, "f1": f1, "balanced_accuracy": balanced_accuracy}
"""Kind of output.threshold → what the threshold makes largest on the validation part, by the counts of true
and false positives and negatives; None: one half."""


def choose(score: Score, actual: Array, told: Array) -> float:
    """The threshold in [0, 1) with the largest score; of equal ones the nearest to one half.

    ``actual`` 0 or 1 [n], ``told`` probabilities of 1 [n]. It lies midway between two probabilities that
    occur, so that a last digit decides nothing; one half is among those that are tried.
    """
    distinct = np.unique(told)
    tried = np.unique([HALF, distinct[0] / 2, *((distinct[1:] + distinct[:-1]) / 2)])
    reached = score(*counts(actual, told, tried))
    best = tried[reached >= reached.max() - 1e-12]
    return float(best[np.argmin(np.abs(best - HALF))])


def counts(actual: Array, told: Array, thresholds: Array) -> tuple[Array, Array, Array, Array]:
    """True positives, false positives, false negatives, true negatives at each threshold (told > t)."""
    ones, zeros = np.sort(told[actual == 1]), np.sort(told[actual == 0])
    tp = len(ones) - np.searchsorted(ones, thresholds, side="right")
    fp = len(zeros) - np.searchsorted(zeros, thresholds, side="right")
    return tp, fp, len(ones) - tp, len(zeros) - fp


def metrics_at(actual: Array, told: Array, threshold: float) -> Json:
    """What a threshold gives on these rows: counts, accuracy, precision, recall, specificity, f1, balanced
    accuracy; 0 where nothing was named."""
    tp, fp, fn, tn = counts(actual, told, np.array([threshold]))
    shares = {
        "accuracy": _share(1.0 * (tp + tn), tp + fp + fn + tn),
        "precision": _share(1.0 * tp, tp + fp),
        "recall": _share(1.0 * tp, tp + fn),
        "specificity": _share(1.0 * tn, tn + fp),
        "f1": f1(tp, fp, fn, tn),
        "balanced_accuracy": balanced_accuracy(tp, fp, fn, tn),
    }
    confusion = [[int(tn[0]), int(fp[0])], [int(fn[0]), int(tp[0])]]
    return {"confusion": confusion} | {name: float(value[0]) for name, value in shares.items()}
