"""What a classifier does, class by class and threshold by threshold."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import metrics as sk

from gradkeel_worker.data.decision import Decision
from gradkeel_worker.diagnosis.metrics import binary_ranking
from gradkeel_worker.diagnosis.reliability import brier, calibration_error, reliability
from gradkeel_worker.diagnosis.sampling import sample
from gradkeel_worker.diagnosis.thresholds import HALF, THRESHOLDS, choose, metrics_at

Array = np.ndarray[Any, Any]
Json = dict[str, Any]

MOST_ROWS = 50_000
MOST_CLASSES = 50
MOST_IN_A_MATRIX = 20


def classification_details(
    actual: Array, told: Array, decision: Decision, classes: tuple[str, ...], seed: int
) -> Json | None:
    """Brier score, reliability, confusion matrix and a line for each class.

    ``actual`` class indexes [n], ``told`` probabilities [n, classes]. Of at most 50,000 rows, a seeded choice
    (``rows`` of ``rows_of``); the 50 most frequent classes. None without rows or finite probabilities.
    """
    if not len(actual) or not np.isfinite(told).all():
        return None
    chosen = sample(len(actual), MOST_ROWS, seed)
    whole = len(actual)
    actual, told = actual[chosen], told[chosen]
    named = decision.classes(told)
    bins = _curve(actual, told)
    return {
        "rows": len(actual),
        "rows_of": whole,
        "brier": brier(actual, told),
        "calibration_error": calibration_error(bins),
        "reliability": bins,
        "reliability_of": classes[1] if len(classes) == 2 else None,
        "confusion": _confusion(actual, named, classes),
        "classes": _by_class(actual, named, told, classes),
    }


def _curve(actual: Array, told: Array) -> list[Json]:
    """Of two classes the second's probability; of more the one given to the likeliest class."""
    if told.shape[1] == 2:
        return reliability(actual == 1, told[:, 1])
    return reliability(told.argmax(axis=1) == actual, told.max(axis=1))


def _confusion(actual: Array, named: Array, classes: tuple[str, ...]) -> Json | None:
    """counts[i][j]: rows of class i that were called j."""
    if len(classes) > MOST_IN_A_MATRIX:
        return None
    counts = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(counts, (actual, named), 1)
    return {"classes": list(classes), "counts": counts.tolist()}


def _by_class(actual: Array, named: Array, told: Array, classes: tuple[str, ...]) -> list[Json]:
    every = range(len(classes))
    precision, recall, f1, rows = sk.precision_recall_fscore_support(
        actual, named, labels=list(every), zero_division=0
    )
    frequent = np.sort(np.argsort(-rows, kind="stable")[:MOST_CLASSES]).tolist()
    return [
        {
            "class": classes[k],
            "rows": int(rows[k]),
            "precision": float(precision[k]),
            "recall": float(recall[k]),
            "f1": float(f1[k]),
            **binary_ranking((actual == k).astype(int), told[:, k]),
        }
        for k in frequent
    ]


def threshold_details(parts: dict[str, tuple[Array, Array]], asked: str, seed: int) -> Json | None:
    """Each way to choose the threshold: chosen on the validation part, judged on both parts.

    ``parts``: name → class indexes [n] and told probabilities [n, 2]. None where the validation part has not
    both classes.
    """
    parts = {name: _some(*part, seed) for name, part in parts.items()}
    actual, told = parts["validation"]
    if len(np.unique(actual)) < 2 or not np.isfinite(told).all():
        return None
    rows = []
    for kind, score in THRESHOLDS.items():
        threshold = HALF if score is None else choose(score, actual, told)
        judged = {
            name: metrics_at(y, p, threshold) if len(y) and np.isfinite(p).all() else None
            for name, (y, p) in parts.items()
        }
        rows.append({"kind": kind, "threshold": threshold, "applied": kind == asked, **judged})
    return {"applied": asked, "chosen_on": "validation", "choices": rows}


def _some(actual: Array, told: Array, seed: int) -> tuple[Array, Array]:
    chosen = sample(len(actual), MOST_ROWS, seed)
    return actual[chosen], told[chosen, 1]
