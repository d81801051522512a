"""The largest learning rate at which an optimizer still settles on a quadratic of a given curvature.

Each formula is where a root of the step's linear recursion leaves the unit circle through −1: beyond it the
weights swing to and fro along the steepest direction, farther each time. Plain gradient descent: 2/λ; heavy
ball and Nesterov's form after Goh 2017 (distill.pub/2017/momentum); optimizers of Adam's kind after Cohen et
al. 2022 (arXiv:2207.14484), on the Hessian divided by what they divide the gradient by.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradkeel.contract import config as contract


def local_stability_limit(optimizer: contract.Optimizer, eigenvalue: float) -> float | None:
    """The limit on ``lr`` at a largest eigenvalue; None where nothing bounds it locally.

    ``eigenvalue``: that of the loss's Hessian for sgd, of the preconditioned one (its steepness per unit of
    what the optimizer divides by) for the others. Weight decay of sgd and adamw is added here.
    """
    steepness, room = STEPS[optimizer.kind](optimizer, eigenvalue)
    return room / steepness if steepness > 0 else None


def _sgd(optimizer: contract.SGD, eigenvalue: float) -> tuple[float, float]:
    beta, steepness = optimizer.momentum, eigenvalue + optimizer.weight_decay
    if optimizer.nesterov:
        return (1 + 2 * beta) * steepness, 2 * (1 + beta)
    # Without momentum there is no average that dampening could keep the gradient out of.
    return (1 - optimizer.dampening * (beta > 0)) * steepness, 2 * (1 + beta)


def _averaged(optimizer: contract.Adam | contract.RAdam, eigenvalue: float) -> tuple[float, float]:
    beta = optimizer.betas[0]
    return (1 - beta) * eigenvalue, 2 + 2 * beta


def _decoupled(optimizer: contract.AdamW, eigenvalue: float) -> tuple[float, float]:
    """Decay shortens the weights beside the averaged step: (1 + β) of it add to (1 − β) of the curvature."""
    steepness, room = _averaged(optimizer, eigenvalue)  # type: ignore[arg-type]
    return steepness + (1 + optimizer.betas[0]) * optimizer.weight_decay, room


def _looking_ahead(optimizer: contract.NAdam, eigenvalue: float) -> tuple[float, float]:
    """Nesterov's form of ``_averaged``, once the momentum has grown to betas[0]."""
    beta = optimizer.betas[0]
    return (1 + 2 * beta) * (1 - beta) * eigenvalue, 2 * (1 + beta)


def _rmsprop(optimizer: contract.RMSprop, eigenvalue: float) -> tuple[float, float]:
    return eigenvalue, 2 * (1 + optimizer.momentum)


def _adagrad(optimizer: contract.Adagrad, eigenvalue: float) -> tuple[float, float]:
    return eigenvalue, 2.0


STEPS: dict[str, Callable[[Any, float], tuple[float, float]]] = {
    "sgd": _sgd,
    "adam": _averaged,
    "adamw": _decoupled,
    "nadam": _looking_ahead,
    "radam": _averaged,
    "rmsprop": _rmsprop,
    "adagrad": _adagrad,
}
"""Kind → function(config block, λ) → (steepness, room): the limit is their quotient, room / steepness."""
