"""Metrics of predictions, in target units, under the names of the API; null where one is not defined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn import metrics as sk

from gradkeel_worker.data.decision import Decision
from gradkeel_worker.diagnosis.pinball import MEDIAN, pinball_losses

Array = np.ndarray[Any, Any]
Metrics = dict[str, Any]
"""Numbers by name, null where one is not defined; ``targets`` and ``levels`` hold further ones by name."""

LIKELIEST = Decision()
REGRESSION = ("rmse", "mae", "r2")
CLASSIFICATION = ("accuracy", "log_loss", "auc", "average_precision", "f1")

_SMALLEST_PROBABILITY = 1e-15
"""Probabilities are kept this far from 0 and 1 in the log loss, as scikit-learn once did; float32 rounds to
0.
"""


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def regression_metrics(actual: Array, predicted: Array) -> Metrics:
    """rmse, mae and r2 of float64 arrays [n], in the target's units. All null where n = 0 or a prediction is
    not finite.
    """
    actual, predicted = np.asarray(actual, np.float64), np.asarray(predicted, np.float64)
    if len(actual) == 0 or not np.isfinite(predicted).all():
        return dict.fromkeys(REGRESSION, None)
    # Errors are scaled before squaring: predictions of 1e200 must not overflow on the way.
    error = predicted - actual
    largest = float(np.abs(error).max()) or 1.0
    rmse = largest * float(np.sqrt(np.mean((error / largest) ** 2)))
    reach = float(np.abs(actual).max()) or 1.0
    spread = reach * float(np.std(actual / reach))
    r2 = 1.0 - (rmse / spread) ** 2 if spread > 0 else np.nan
    return {"rmse": _number(rmse), "mae": _number(float(np.mean(np.abs(error)))), "r2": _number(r2)}


def targets_metrics(actual: Array, predicted: Array, names: Sequence[str], scale: Array) -> Metrics:
    """Metrics of several targets [n, targets]: of each under ``targets``, and their means.

    ``scaled_rmse`` and ``scaled_mae`` are over all rows and targets, each in units of its ``scale``
    [targets]: the largest target has most of the say in the means of rmse and mae.
    """
    each = {name: regression_metrics(actual[:, i], predicted[:, i]) for i, name in enumerate(names)}
    means: Metrics = {metric: _mean([one[metric] for one in each.values()]) for metric in REGRESSION}
    scaled = regression_metrics((actual / scale).ravel(), (predicted / scale).ravel())
    return means | {"scaled_rmse": scaled["rmse"], "scaled_mae": scaled["mae"], "targets": each}


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


def quantile_metrics(actual: Array, predicted: Array, levels: Sequence[float]) -> Metrics:
    """Metrics of quantiles: actual [n], predicted [n, levels] in target units, levels ascending.

    ``pinball`` is the mean over levels; ``levels`` holds each one's, and its ``coverage``: the share of rows
    that are at most the prediction. ``interval_*`` are of the outermost levels where they lie on both sides
    of 0.5; ``mae`` and ``rmse`` are the median's where it is among the levels.
    """
    if len(actual) == 0 or not np.isfinite(predicted).all():
        return {"pinball": None}
    losses = pinball_losses(actual, predicted, levels).mean(axis=0)
    below = (actual[:, None] <= predicted).mean(axis=0)
    found: Metrics = {"pinball": float(losses.mean())}
    if levels[0] < MEDIAN < levels[-1]:
        inside = (predicted[:, 0] <= actual) & (actual <= predicted[:, -1])
        found["interval_coverage"] = float(inside.mean())
        found["interval_width"] = float(np.mean(predicted[:, -1] - predicted[:, 0]))
    if MEDIAN in levels:
        middle = regression_metrics(actual, predicted[:, list(levels).index(MEDIAN)])
        found |= {"mae": middle["mae"], "rmse": middle["rmse"]}
    found["levels"] = {
        f"{level:.12g}": {"pinball": float(loss), "coverage": float(share)}
        for level, loss, share in zip(levels, losses, below, strict=True)
    }
    return found


def row_log_loss(actual: Array, probabilities: Array) -> Array:
    """−log of the probability given to each row's class; ``actual`` class indexes [n], ``probabilities`` [n,
    classes].
    """
    chosen = np.asarray(probabilities, np.float64)[np.arange(len(actual)), actual]
    return -np.log(np.clip(chosen, _SMALLEST_PROBABILITY, 1.0))


def binary_ranking(actual: Array, score: Array) -> Metrics:
    """auc and average_precision of a score [n] for 0 or 1 [n]; null where there is one class only."""
    if len(np.unique(actual)) < 2:
        return {"auc": None, "average_precision": None}
    return {
        "auc": _number(sk.roc_auc_score(actual, score)),
        "average_precision": _number(sk.average_precision_score(actual, score)),
    }


def _multiclass_ranking(actual: Array, probabilities: Array) -> Metrics:
    """One-vs-rest means over the classes that have rows and are not all of them."""
    counts = np.bincount(actual, minlength=probabilities.shape[1])
    present = [k for k in range(probabilities.shape[1]) if 0 < counts[k] < len(actual)]
    if not present:
        return {"auc": None, "average_precision": None}
    each = [binary_ranking((actual == k).astype(int), probabilities[:, k]) for k in present]
    return {
        name: _number(float(np.mean([one[name] or 0.0 for one in each])))
        for name in ("auc", "average_precision")
    }


def classification_metrics(actual: Array, probabilities: Array, decision: Decision = LIKELIEST) -> Metrics:
    """accuracy, log_loss, auc, average_precision, f1.

    ``actual`` are class indexes [n], ``probabilities`` [n, classes]. With two classes the second is the
    positive
    one; with more, auc and average precision are one-vs-rest means and f1 is the macro mean. ``decision``
    says which class is named.
    """
    probabilities = np.asarray(probabilities, np.float64)
    if len(actual) == 0 or not np.isfinite(probabilities).all():
        return dict.fromkeys(CLASSIFICATION, None)
    predicted = decision.classes(probabilities)
    binary = probabilities.shape[1] == 2
    ranking = (
        binary_ranking(actual, probabilities[:, 1]) if binary else _multiclass_ranking(actual, probabilities)
    )
    f1 = sk.f1_score(actual, predicted, average="binary" if binary else "macro", zero_division=0)
    return {
        "accuracy": float(np.mean(predicted == actual)),
        "log_loss": _number(float(np.mean(row_log_loss(actual, probabilities)))),
        **ranking,
        "f1": _number(f1),
    }
