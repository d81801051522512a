"""Full tier, at a few steps: how sharply the loss bends at the weights, on the side batch, in eval mode.

Each call makes some products with vectors and asks the device for numbers on the way. At the side batch's
rows that are finite; in the precision of the weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from gradkeel_worker.curvature import (
    Operator,
    Problem,
    density,
    gauss_newton,
    hessian,
    largest_eigenvalue,
    preconditioned,
    trace,
)
from gradkeel_worker.probes.activity import Series
from gradkeel_worker.probes.quiet import still
from gradkeel_worker.probes.work import Due, Work

if TYPE_CHECKING:
    from gradkeel_worker.engine.view import StepView

MOST_PRODUCTS = 24
TRACE_DRAWS = 6
DENSITY_DRAWS, DENSITY_PRODUCTS = 2, 12
EIGENVALUE = ("value", "error", "converged", "products")
_PRODUCT = 3.0
"""Forward and backward passes that one product is worth, of either matrix."""
_BASIS = 4
"""Passes over a vector for each earlier one that a new one is made orthogonal to, twice."""
_MOST_ENTRIES = 2_000_000
"""Of the weights: the vectors of one call take 200 MB at most."""
_SHARE, _ONCE = 0.02, 0.04

DECADES = tuple(10.0**power for power in range(-6, 7))
_LARGEST = np.finfo(np.float64).max
EDGES = (-_LARGEST, *(-edge for edge in reversed(DECADES)), *DECADES, _LARGEST)
"""Of the density's bins: the same for every step and run."""
DENSITY_BINS = (
    f"<-{DECADES[-1]:g}",
    *(f"-{edge:g}" for edge in reversed(DECADES[1:])),
    "0",
    *(f"{edge:g}" for edge in DECADES[:-1]),
    f">={DECADES[-1]:g}",
)
"""Bins by their end that is farther from 0 where negative and nearer to it where positive; "0" holds what is
smaller than the first decade."""


def _due(work: Work, products: int, *, settled: bool = False) -> Due | None:
    if work.entries > _MOST_ENTRIES:
        return None
    each = _PRODUCT * work.backward(work.side) + _BASIS * products * work.entries
    return work.affords(products * each, _SHARE, once=_ONCE, settled=settled)


def due_eigenvalue(work: Work) -> Due | None:
    return _due(work, MOST_PRODUCTS)


def due_preconditioned(work: Work) -> Due | None:
    return _due(work, MOST_PRODUCTS, settled=True)


def due_trace(work: Work) -> Due | None:
    return _due(work, TRACE_DRAWS)


def due_density(work: Work) -> Due | None:
    return _due(work, DENSITY_DRAWS * DENSITY_PRODUCTS)


def lambda_max(view: StepView) -> Series:
    """The Hessian's largest eigenvalue, with its sign, error bar and whether Lanczos converged (1 or 0)."""
    problem = _problem(view)
    return {} if problem is None else {"lambda_max": _largest(view, hessian(problem))}


def gauss_newton_lambda_max(view: StepView) -> Series:
    """The same of the Gauss–Newton matrix."""
    problem = _problem(view)
    return {} if problem is None else {"gauss_newton_lambda_max": _largest(view, gauss_newton(problem))}


def preconditioned_lambda_max(view: StepView) -> Series:
    """The same of the Hessian divided by what the optimizer divides the gradient by; nothing for an optimizer
    that divides by nothing, nor before it has taken a step."""
    divisor = None if view.optimizer is None else view.optimizer.divisor()
    problem = None if divisor is None else _problem(view)
    if divisor is None or problem is None:
        return {}
    operator = preconditioned(hessian(problem), view.parameters.as_in(view.model, divisor))
    return {"preconditioned_lambda_max": _largest(view, operator)}


def hessian_trace(view: StepView) -> Series:
    """The sum of the Hessian's eigenvalues, with one standard error of it."""
    problem = _problem(view)
    if problem is None:
        return {}
    with still(view.model):
        found = trace(hessian(problem), view.seed, TRACE_DRAWS)
    return {"hessian_trace": (("value", "error"), torch.tensor(found, dtype=torch.float64))}


def hessian_density(view: StepView) -> Series:
    """The share of the Hessian's eigenvalues in each of DENSITY_BINS; NaN where a product is not finite."""
    problem = _problem(view)
    if problem is None:
        return {}
    with still(view.model):
        try:
            found = density(hessian(problem), view.seed, DENSITY_DRAWS, DENSITY_PRODUCTS)
            shares = found.binned(np.array(EDGES))
        except ValueError:
            shares = np.full(len(DENSITY_BINS), np.nan)
    return {"hessian_density": (DENSITY_BINS, torch.from_numpy(shares))}


def _problem(view: StepView) -> Problem | None:
    """The loss of the side batch's finite rows; None of fewer than two."""
    side, objective = view.side, view.objective
    if side is None or objective is None:
        return None
    sound = torch.isfinite(side.x).flatten(1).all(1) & torch.isfinite(side.y.reshape(len(side.y), -1)).all(1)
    if int(sound.sum()) < 2:
        return None
    weight = None if side.weight is None else side.weight[sound]
    return Problem(view.model, objective.loss, side.x[sound], side.c[sound], side.y[sound], weight)


def _largest(view: StepView, operator: Operator) -> tuple[tuple[str, ...], Tensor]:
    with still(view.model):
        found = largest_eigenvalue(operator, view.seed, MOST_PRODUCTS)
    numbers = [getattr(found, name) for name in EIGENVALUE]
    return EIGENVALUE, torch.tensor(numbers, dtype=torch.float64)
