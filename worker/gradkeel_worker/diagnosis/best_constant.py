"""The training loss that the best constant prediction would have: what a run must get below to have learnt
anything.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradkeel.contract import config as contract
from gradkeel_worker.diagnosis.pinball import pinball_losses

Array = np.ndarray[Any, Any]
_SAMPLE = 4_000
_ROUNDS = 80
_FAR_LOGIT, _LOGITS = 30.0, 8001


def best_constant_loss(loss: contract.Loss, y: Array, classes: int = 2) -> float | None:
    """Mean loss of the best constant. ``y`` [n] in prepared units, 0/1, or class indexes, or [n, targets],
    each with a constant of its own; None for an empty part.
    """
    y = np.asarray(y, np.float64)
    if y.ndim > 1:
        each = [best_constant_loss(loss, column) for column in y.T]
        return None if None in each else float(np.mean(each))  # type: ignore[arg-type]
    y = y[np.isfinite(y)]
    if not len(y):
        return None
    if isinstance(loss, contract.QuantileLoss):
        return float(pinball_losses(y, _repeated(y, loss.levels), loss.levels).mean())
    if isinstance(loss, contract.CrossEntropy):
        return _cross_entropy(loss, y.astype(np.int64), classes)
    if isinstance(loss, contract.BCE):
        return _bce(loss, float(y.mean()))
    if isinstance(loss, contract.Focal):
        return _focal(loss.gamma, np.bincount(y.astype(np.int64), minlength=classes) / len(y))
    if isinstance(loss, contract.Poisson):
        return _poisson(float(y.mean()))
    sample = np.sort(y)[np.linspace(0, len(y) - 1, min(_SAMPLE, len(y))).astype(int)]
    return _lowest(loss, sample)


def _repeated(y: Array, levels: tuple[float, ...]) -> Array:
    """The quantiles of y for every row, [n, levels]."""
    return np.tile(np.quantile(y, levels), (len(y), 1))


def row_loss(loss: contract.Loss, residual: Array) -> Array:
    """Loss of each residual, regression losses only."""
    size = np.abs(residual)
    if isinstance(loss, contract.MSE):
        return residual**2
    if isinstance(loss, contract.MAE):
        return size
    if isinstance(loss, contract.LogCosh):
        return np.asarray(size + np.log1p(np.exp(-2 * size)) - np.log(2))
    knee = float(loss.delta) if isinstance(loss, contract.Huber) else loss.beta  # type: ignore[union-attr]
    scale = 1.0 if isinstance(loss, contract.Huber) else 1.0 / knee
    return np.where(size <= knee, 0.5 * residual**2, knee * (size - 0.5 * knee)) * scale


def _lowest(loss: contract.Loss, y: Array) -> float:
    """Golden-section search: these losses are convex in the constant."""
    low, high = float(y[0]), float(y[-1])
    shrink = (np.sqrt(5) - 1) / 2
    for _ in range(_ROUNDS):
        a, b = high - shrink * (high - low), low + shrink * (high - low)
        if row_loss(loss, y - a).mean() <= row_loss(loss, y - b).mean():
            high = b
        else:
            low = a
    return float(row_loss(loss, y - (low + high) / 2).mean())


def _bce(loss: contract.BCE, positive: float) -> float:
    """−(w·p·log q + (1−p)·log(1−q)) at its best q = w·p / (w·p + 1 − p)."""
    weight = loss.pos_weight or 1.0
    q = weight * positive / (weight * positive + 1 - positive)
    if q in (0.0, 1.0):
        return 0.0
    return float(-(weight * positive * np.log(q) + (1 - positive) * np.log(1 - q)))


def _cross_entropy(loss: contract.CrossEntropy, y: Array, classes: int) -> float:
    shares = np.bincount(y, minlength=classes) / len(y)
    if loss.class_weights == "balanced":
        shares = (shares > 0) / max(int((shares > 0).sum()), 1)
    aimed = (1 - loss.label_smoothing) * shares + loss.label_smoothing / len(shares)
    return float(-np.sum(aimed[aimed > 0] * np.log(aimed[aimed > 0])))


def _poisson(mean: float) -> float:
    """exp(z) − mean · z at its best z = log(mean)."""
    return mean - mean * float(np.log(mean)) if mean > 0 else 0.0


def _focal(gamma: float, shares: Array) -> float:
    """Σ share · (1 − q)^gamma · (−log q) at the best probabilities q of the classes that have rows.

    There share · slope of the loss in q is the same for all classes; the common value by bisection.
    """
    shares = shares[shares > 0]
    if len(shares) < 2:
        return 0.0
    logits = np.linspace(_FAR_LOGIT, -_FAR_LOGIT, _LOGITS)
    q, rest = 1 / (1 + np.exp(-logits)), 1 / (1 + np.exp(logits))
    steepness = np.log(rest**gamma / q - gamma * rest ** (gamma - 1) * np.log(q))
    low, high = float(steepness[0]) - _FAR_LOGIT, float(steepness[-1])
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        chosen = 1 / (1 + np.exp(-np.interp(middle - np.log(shares), steepness, logits)))
        low, high = (middle, high) if chosen.sum() > 1 else (low, middle)
    chosen /= chosen.sum()
    return float(-np.sum(shares * (1 - chosen) ** gamma * np.log(chosen)))
