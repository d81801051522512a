"""The temperature of a classifier, fitted on the validation part, and whether it is worth applying."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradkeel_worker.data.decision import tempered
from gradkeel_worker.diagnosis.metrics import row_log_loss
from gradkeel_worker.diagnosis.sampling import sample

Array = np.ndarray[Any, Any]
Json = dict[str, Any]

FOLDS = 5
FEWEST_ROWS = 50
MOST_ROWS = 20_000
COLDEST, HOTTEST = 0.05, 20.0
_HALVINGS = 40
_TINY = 1e-300


def fit_temperature(actual: Array, probabilities: Array) -> float:
    """The temperature in [0.05, 20] with the least mean log loss.

    ``actual`` class indexes [n], ``probabilities`` [n, classes]. In 1/T the loss is convex, its derivative
    the mean of E_p[log p] − log p_actual; that is halved down to its zero.
    """
    logs = np.log(np.maximum(probabilities, _TINY))
    chosen = float(logs[np.arange(len(actual)), actual].mean())
    low, high = 1.0 / HOTTEST, 1.0 / COLDEST
    if _expected(logs, low) >= chosen:
        return HOTTEST
    if _expected(logs, high) <= chosen:
        return COLDEST
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if _expected(logs, middle) < chosen else (low, middle)
    return float((low * high) ** -0.5)


def _expected(logs: Array, power: float) -> float:
    """Mean over the rows of Σ p'·log p, p' ∝ p^power."""
    weights = np.exp(power * (logs - logs.max(axis=1, keepdims=True)))
    return float(((weights * logs).sum(axis=1) / weights.sum(axis=1)).mean())


def calibrate(actual: Array, probabilities: Array, seed: int) -> Json:
    """The temperature of all rows, and the log loss before and after by cross-fit.

    Each fold is judged at the temperature of the other folds, so that ``better`` is no gain by fitting. At
    most 20,000 rows, a seeded choice; fewer than 50 give no temperature.
    """
    chosen = sample(len(actual), MOST_ROWS, seed)
    actual, probabilities = actual[chosen], probabilities[chosen]
    found: Json = {"kind": "temperature", "rows": len(chosen), "temperature": None, "better": False}
    if len(actual) < FEWEST_ROWS or not np.isfinite(probabilities).all():
        return found | {"log_loss_before": None, "log_loss_after": None}
    fold = np.random.default_rng(seed).permutation(len(actual)) % FOLDS
    after = np.empty(len(actual))
    for k in range(FOLDS):
        held = fold == k
        temperature = fit_temperature(actual[~held], probabilities[~held])
        after[held] = row_log_loss(actual[held], tempered(probabilities[held], temperature))
    losses = float(row_log_loss(actual, probabilities).mean()), float(after.mean())
    return found | {
        "temperature": fit_temperature(actual, probabilities),
        "better": losses[1] < losses[0],
        "log_loss_before": losses[0],
        "log_loss_after": losses[1],
    }
