"""Whether model, loss and gradients can fit a few rows at all: a model that cannot learn 32 rows by heart
will not learn what they have in common either."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, nn

from gradkeel.contract import config as contract
from gradkeel_worker.diagnosis.best_constant import best_constant_loss
from gradkeel_worker.engine.parameters import flatten
from gradkeel_worker.optimizers import OPTIMIZERS

Array = np.ndarray[Any, Any]
Json = dict[str, Any]

ROWS, STEPS = 32, 150
_RATE = 0.01
FITTED = 0.5
"""Share of the way from the best constant's loss to the lowest that must be covered."""
_WORK = 1e10
"""Multiply-adds at most: a second or so. Large models get fewer steps for it, and below ten none."""


def fit_one_batch(
    model: nn.Module,
    loss_fn: Any,
    batch: tuple[Tensor, Tensor, Tensor],
    loss: contract.Loss | None,
    classes: int = 2,
) -> Json | None:
    """Train a fresh model on one batch by Adam at 0.01, in eval mode: ends once half the way from the best
    constant's loss to the lowest possible is covered, or after 150 steps.

    ``model`` is used up. ``loss``: the config's block; None of a caller's own, which is then held against its
    first value and against 0. None where the model is too large for that.
    """
    x, c, y = batch
    parameters = flatten(model.eval())
    steps = min(STEPS, int(_WORK // (3 * len(y) * parameters.values.numel())))
    if steps < 10:
        return None
    optimizer = OPTIMIZERS["adam"](contract.Adam(lr=_RATE), parameters.values, parameters.gradient)
    constant, lowest = (None, 0.0) if loss is None else _bounds(loss, y, classes)
    first = best = float("inf")
    for step in range(steps + 1):
        parameters.zero_gradient()
        value = loss_fn(model(x, c), y)
        best = min(best, value.item()) if np.isfinite(value.item()) else best
        first = best if step == 0 else first
        reference = first if constant is None else constant
        if best <= reference - FITTED * (reference - lowest) or step == steps:
            break
        value.backward()
        optimizer.step(_RATE)
    covered = (reference - best) / (reference - lowest) if reference > lowest else None
    return {
        "rows": len(y),
        "steps": step,
        "initial_loss": first,
        "loss": best,
        "best_constant": constant,
        "lowest": lowest,
        "covered": covered,
        "status": _status(covered, steps),
    }


def _status(covered: float | None, allowed: int) -> str:
    """A model that was allowed fewer than all steps has not failed."""
    if covered is not None and covered >= FITTED:
        return "pass"
    return "fail" if covered is not None and allowed == STEPS else "unknown"


def _bounds(loss: contract.Loss, y: Tensor, classes: int) -> tuple[float | None, float]:
    """The loss of the best constant, and that of rows that are all told exactly."""
    held = y.numpy()
    held = held[:, 0] if held.ndim > 1 and held.shape[1] == 1 else held
    return best_constant_loss(loss, held, classes), lowest_loss(loss, held, classes)


def lowest_loss(loss: contract.Loss, y: Array, classes: int) -> float:
    """Mean loss where every row is predicted exactly: 0 but for poisson and smoothed labels."""
    if isinstance(loss, contract.Poisson):
        y = np.asarray(y, np.float64)
        return float(np.mean(y - y * np.log(np.where(y > 0, y, 1.0))))
    if isinstance(loss, contract.CrossEntropy) and loss.label_smoothing:
        aimed = np.full(classes, loss.label_smoothing / classes)
        aimed[0] += 1 - loss.label_smoothing
        return float(-np.sum(aimed * np.log(aimed)))
    return 0.0
