"""Gradient and curvature at the first weights, and the learning rates that they bear."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradkeel.contract.config import MSE
from gradkeel_worker.curvature import Problem, gauss_newton, hessian, largest_eigenvalue, preconditioned
from gradkeel_worker.curvature.limits import local_stability_limit
from gradkeel_worker.curvature.operators import Operator
from gradkeel_worker.diagnosis.examination import batch_of, sound_rows
from gradkeel_worker.engine.build import build_loss
from gradkeel_worker.engine.run import Run
from gradkeel_worker.preflight.arms import Arm

Json = dict[str, Any]

TOLERANCE = 0.02
"""Error of an eigenvalue, as a share of it, that is good enough for a limit that is not used up anyway."""
MOMENT_BATCHES = 8
"""Batches whose gradients make the second moments; the weights do not move meanwhile."""

PRECONDITIONERS: dict[str, Callable[[Tensor, int, float], Tensor]] = {
    **dict.fromkeys(
        ("adam", "adamw", "nadam", "radam", "rmsprop"),
        lambda square, count, eps: square.sqrt() + eps,
    ),
    "adagrad": lambda square, count, eps: (square * count).sqrt() + eps,
}
"""Kind → function(mean square of the gradients [n], batches, eps) → what the optimizer divides by [n]."""


@dataclass(frozen=True)
class Sharpness:
    """What was measured for one loss; not finite numbers are None. Limits: see ``curvature.limits``."""

    loss: str
    rows: int
    gradient_norm: float | None
    lambda_max: float | None
    lambda_max_error: float | None
    converged: bool | None
    preconditioned_lambda_max: float | None
    gauss_newton_lambda_max: float | None
    local_stability_limit: float | None
    gauss_newton_limit: float | None

    @property
    def limit(self) -> float | None:
        """The smaller limit; None where nothing bounds the rate here."""
        known = [limit for limit in (self.local_stability_limit, self.gauss_newton_limit) if limit]
        return min(known, default=None)


def measure(arm: Arm, run: Run, rows: int, products: int) -> list[Sharpness]:
    """The config's loss, and for numbers the squared one, on some training rows. The run is used up."""
    config, prepared = arm.config, arm.prepared
    positions = sound_rows(prepared.train, rows)
    x, c, y = batch_of(prepared.train, positions)
    losses = {config.loss.kind: build_loss(prepared, config)}
    if prepared.task in ("regression", "forecast") and config.loss.kind not in ("mse", "poisson"):
        losses["mse"] = build_loss(prepared, _squared(config))
    problems = {
        kind: Problem(run.model, loss, x.to(run.device), c.to(run.device), y.to(run.device))
        for kind, loss in losses.items()
    }
    scale = _scale(run, config.optimizer)
    # Of the squared error, whatever the loss: the same for residuals of any size.
    squared = None if prepared.classes is not None else 2.0 / prepared.outputs
    known: dict[str, float | None] = {}
    found = []
    for kind, problem in problems.items():
        if not known or squared is None:
            known = _eigenvalues(gauss_newton(problem, squared), scale, config.seed, products)
        found.append(_sharpness(kind, problem, known, scale, config, products, len(positions)))
    return found


def _squared(config: Any) -> Any:
    return type(config)(**{**vars(config), "loss": MSE()})


def _sharpness(
    kind: str,
    problem: Problem,
    gauss: dict[str, float | None],
    scale: Tensor | None,
    config: Any,
    products: int,
    rows: int,
) -> Sharpness:
    own = _eigenvalues(hessian(problem), scale, config.seed, products)
    optimizer = config.optimizer
    return Sharpness(
        loss=kind,
        rows=rows,
        gradient_norm=_finite(float(torch.linalg.vector_norm(problem.gradient().double()))),
        lambda_max=own["value"],
        lambda_max_error=own["error"],
        converged=bool(own["converged"]),
        preconditioned_lambda_max=own["steep"] if scale is not None else None,
        gauss_newton_lambda_max=gauss["value"],
        local_stability_limit=_limit(optimizer, own["steep"]),
        gauss_newton_limit=_limit(optimizer, gauss["steep"]),
    )


def _eigenvalues(operator: Operator, scale: Tensor | None, seed: int, products: int) -> dict[str, Any]:
    """The largest eigenvalue, and ``steep``: the one that the optimizer's steps go by."""
    plain = largest_eigenvalue(operator, seed, products, TOLERANCE)
    steep = plain
    if scale is not None:
        steep = largest_eigenvalue(preconditioned(operator, scale), seed, products, TOLERANCE)
    return {
        "value": _finite(plain.value),
        "error": _finite(plain.error),
        "converged": plain.converged,
        "steep": _finite(steep.value + max(steep.error, 0.0) * (not steep.converged)),
    }


def _limit(optimizer: Any, eigenvalue: float | None) -> float | None:
    return None if eigenvalue is None else local_stability_limit(optimizer, eigenvalue)


def _scale(run: Run, optimizer: Any) -> Tensor | None:
    """What the optimizer would divide the gradient by, [n] in the order of ``parameters()``; None for sgd."""
    precondition = PRECONDITIONERS.get(optimizer.kind)
    if precondition is None:
        return None
    square, batches = mean_square(run)
    return precondition(square, batches, optimizer.eps)


def mean_square(run: Run) -> tuple[Tensor, int]:
    """Mean square of the gradients of some batches at the first weights, [n], and how many they are."""
    parameters = [p for p in run.model.parameters() if p.requires_grad]
    total = torch.zeros(sum(p.numel() for p in parameters), device=run.device)
    run.model.train()
    count = 0
    with np.errstate(all="ignore"):
        for batch in itertools.islice(run.batches.epoch(0), MOMENT_BATCHES):
            found = torch.autograd.grad(run.objective(batch), parameters, allow_unused=True)
            pieces = [
                (torch.zeros_like(p) if g is None else g).flatten()
                for p, g in zip(parameters, found, strict=True)
            ]
            total += torch.cat(pieces).square()
            count += 1
    return total / count, count


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
