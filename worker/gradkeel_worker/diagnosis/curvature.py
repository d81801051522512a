"""Curvature at the weights a training began and ended with, and the learning rates that it allows."""

from __future__ import annotations

import copy
import dataclasses
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gradkeel.contract import config as contract
from gradkeel.contract.curvature import told
from gradkeel_worker.curvature import (
    Density,
    Eigenvalue,
    Operator,
    Problem,
    density,
    gauss_newton,
    hessian,
    largest_eigenvalue,
    preconditioned,
    shifted,
    trace,
)
from gradkeel_worker.curvature.limits import local_stability_limit
from gradkeel_worker.diagnosis.course import Course, finite_median
from gradkeel_worker.diagnosis.evidence import Evidence
from gradkeel_worker.diagnosis.examination import SECOND_DERIVATIVE, batch_of, sound_rows
from gradkeel_worker.diagnosis.gradient_check import in_float64
from gradkeel_worker.diagnosis.measured import CurvatureStudy
from gradkeel_worker.losses import Loss

Json = dict[str, Any]

_MOST_ROWS, _FEWEST_ROWS = 512, 32
_WORK = 5e6
"""Rows × parameters of a product at most, where the fewest rows are not more: some 20 ms in float64."""
_MOST_PARAMETERS = 2_000_000
"""Of a model whose curvature is measured: Lanczos' vectors then take 640 MB at most."""
_PRODUCTS, _DENSITY_STEPS = 40, 20
_TRACE_DRAWS, _DENSITY_DRAWS = (4, 16), (1, 4)
"""Of a large model and of one whose products are within ``_WORK``."""
_BINS = 48
_STEPS_LOOKED_AT = 100
"""Whose clips say by how much a step is shortened."""

LOST = ("huber", "smooth_l1", "mae", "log_cosh", "quantile")
"""Losses under which rows far off carry little curvature or none."""
_DECAY_IN_GRADIENT = ("adam", "nadam", "radam", "rmsprop", "adagrad")
"""Optimizers that divide their weight decay too. sgd's and adamw's is a part of the limit's formula."""


@dataclasses.dataclass(frozen=True)
class _Place:
    """Weights to measure at, and the step that was or would be taken there."""

    name: str
    step: int
    model: nn.Module
    divisor: Tensor | None
    lr: float
    clip_coefficient: float


@dataclasses.dataclass(frozen=True)
class _Sample:
    """Training rows, in float64; ``rows_of``: how many the training part has."""

    x: Tensor
    c: Tensor
    y: Tensor
    weight: Tensor | None
    rows_of: int


def study(evidence: Evidence) -> CurvatureStudy:
    """What ``health.curvature`` asks for; empty where it does not, or where the training did not end by
    itself."""
    if not evidence.config.health.curvature:
        return CurvatureStudy()
    if evidence.status not in ("succeeded", "diverged"):
        return _none(f"the training did not come to its own end ({evidence.status})")
    started = time.monotonic()
    try:
        found = _studied(evidence)
    except (RuntimeError, TypeError, ValueError, np.linalg.LinAlgError) as error:
        # A caller's own module may refuse float64 or have a backward that cannot be differentiated.
        return _none(str(error))
    return dataclasses.replace(found, seconds=time.monotonic() - started)


def _none(reason: str) -> CurvatureStudy:
    return CurvatureStudy(notes=(f"curvature: not measured, {reason}",))


def _studied(evidence: Evidence) -> CurvatureStudy:
    if evidence.last is None or evidence.initial_model is None:
        return _none("the weights of the training are not at hand")
    size = sum(p.numel() for p in evidence.last.model.parameters() if p.requires_grad)
    if size > _MOST_PARAMETERS:
        return _none(f"the model has {size:,} parameters, and {_MOST_PARAMETERS:,} is the most")
    sample = _sampled(evidence, size)
    if len(sample.x) < 2:
        return _none("fewer than two training rows are free of non-finite values")
    end, start = (_at(place, sample, evidence) for place in _places(evidence))
    found = {**end, "start": start}
    found["summary"] = told(found)
    notes = [f"curvature {one['at']}: not measured, {one['no_limit']}" for one in (start, end) if _lacks(one)]
    return CurvatureStudy(report=found, notes=tuple(notes))


def _lacks(place: Json) -> bool:
    return place["lambda_max"] is None


def _sampled(evidence: Evidence, size: int) -> _Sample:
    assert evidence.prepared is not None
    part = evidence.prepared.train
    count = int(min(_MOST_ROWS, max(_FEWEST_ROWS, _WORK // size)))
    positions = sound_rows(part, count)
    x, c, y = batch_of(part, positions)
    weight = None if part.weight is None else torch.from_numpy(np.asarray(part.weight[positions], np.float64))
    return _Sample(x.double(), c, y.double() if y.is_floating_point() else y, weight, len(part.rows))


def _places(evidence: Evidence) -> tuple[_Place, _Place]:
    """The end and the start. The step at the start is the first one after warm-up, whose learning rate is
    the full one."""
    assert evidence.last is not None and evidence.initial_model is not None
    readings = evidence.readings
    first = min(Course(readings, evidence.config.schedule.warmup_steps, None).settled, len(readings.lr) - 1)
    steps = int(readings.steps[-1]) + 1 if len(readings.steps) else 0
    last, clips = evidence.last, readings.clip_coefficient
    return (
        _Place("end", steps, last.model, last.divisor, _lr(evidence, -1), _kept(clips[-_STEPS_LOOKED_AT:])),
        _Place(
            "start",
            0,
            evidence.initial_model(),
            None,
            _lr(evidence, first),
            _kept(clips[max(first, 0) :][:_STEPS_LOOKED_AT]),
        ),
    )


def _lr(evidence: Evidence, index: int) -> float:
    used = evidence.readings.lr
    return float(used[index]) if len(used) else evidence.config.optimizer.lr


def _kept(coefficients: np.ndarray[Any, Any]) -> float:
    """The share of a typical gradient that clips leave."""
    found = finite_median(coefficients)
    return 1.0 if found is None else found


# ------------------------------------------------------------------------------------------------ one place


def _at(place: _Place, sample: _Sample, evidence: Evidence) -> Json:
    model = copy.deepcopy(place.model).double()
    found = _heads(place, sample, model)
    if not all(bool(torch.isfinite(p).all()) for p in model.parameters()):
        return found | {"no_limit": "the weights are not finite"}
    seed, optimizer = evidence.config.seed, evidence.config.optimizer
    problem = Problem(model, in_float64(evidence.loss_fn), sample.x, sample.c, sample.y, sample.weight)
    matrix = hessian(problem)
    largest = _largest(matrix, seed)
    if not np.isfinite(largest.value):
        return found | {"no_limit": "the curvature is not finite"}
    summed = trace(matrix, seed, _draws(problem, _TRACE_DRAWS))
    found |= {
        "lambda_max": _eigenvalue(largest),
        "gauss_newton_lambda_max": _eigenvalue(_largest(gauss_newton(problem), seed)),
        "trace": dict(zip(("value", "error"), summed, strict=True)),
        "density": _density(density(matrix, seed, _draws(problem, _DENSITY_DRAWS), _DENSITY_STEPS)),
    }
    return found | _limits(place, optimizer, problem, matrix, largest, evidence)


def _heads(place: _Place, sample: _Sample, model: nn.Module) -> Json:
    """What is known before anything is measured, and every other key as null."""
    empty = dict.fromkeys(
        (
            *("lambda_max", "gauss_newton_lambda_max", "preconditioned_lambda_max", "trace", "density"),
            *("local_stability_limit", "lr_over_limit", "no_limit", "squared_loss"),
        )
    )
    return {
        **empty,
        "at": place.name,
        "step": place.step,
        "rows": len(sample.x),
        "rows_of": sample.rows_of,
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "lr": {
            "scheduled": place.lr,
            "clip_coefficient": place.clip_coefficient,
            "effective": place.lr * place.clip_coefficient,
        },
    }


def _draws(problem: Problem, most: tuple[int, int]) -> int:
    """Random vectors that are used: the fewer, the more a product takes."""
    least, whole = most
    return max(least, min(whole, int(whole * _WORK / (len(problem.x) * problem.size))))


def _largest(operator: Operator, seed: int) -> Eigenvalue:
    return largest_eigenvalue(operator, seed, _PRODUCTS)


def _eigenvalue(found: Eigenvalue) -> Json:
    return {"value": found.value, "error": found.error, "converged": found.converged}


def _density(found: Density) -> Json:
    low, high = float(found.values.min()), float(found.values.max())
    room = 0.01 * (high - low) or 0.01 * abs(high) or 0.01
    edges = np.linspace(low - room, high + room, _BINS + 1)
    return {"edges": edges.tolist(), "shares": found.binned(edges).tolist(), "draws": len(found.values)}


# ----------------------------------------------------------------------------------- what steps may be taken


def _limits(
    place: _Place,
    optimizer: contract.Optimizer,
    problem: Problem,
    matrix: Operator,
    largest: Eigenvalue,
    evidence: Evidence,
) -> Json:
    """The limit of the job's own loss, and that of its squared part where rows far off carry no curvature."""
    seed = evidence.config.seed
    if not isinstance(optimizer, contract.SGD) and place.divisor is None:
        reason = f"{optimizer.kind} divides by moments of the gradient, and there are none yet"
        return {"no_limit": f"no limit is known, for {reason}"}
    used = _as_stepped(matrix, optimizer, place.divisor)
    steepest = largest if used is matrix else _largest(used, seed)
    limit = local_stability_limit(optimizer, steepest.value)
    found: Json = _against(place, limit) | {
        "preconditioned_lambda_max": None if used is matrix else _eigenvalue(steepest),
        "no_limit": None if limit is not None else "no direction bends upwards, so there is no local bound",
    }
    if evidence.custom_loss or evidence.config.loss.kind not in LOST:
        return found
    squared = gauss_newton(_squared(problem, evidence.config.loss))
    own = _largest(squared, seed)
    stepped = _as_stepped(squared, optimizer, place.divisor)
    bound = own if stepped is squared else _largest(stepped, seed)
    safe = local_stability_limit(optimizer, bound.value)
    return found | {
        "squared_loss": {"gauss_newton_lambda_max": _eigenvalue(own), **_against(place, safe)},
    }


def _as_stepped(matrix: Operator, optimizer: contract.Optimizer, divisor: Tensor | None) -> Operator:
    """The matrix as the optimizer's steps meet it: divided by what it divides the gradient by."""
    if divisor is None:
        return matrix
    decay = optimizer.weight_decay if optimizer.kind in _DECAY_IN_GRADIENT else 0.0
    return preconditioned(shifted(matrix, decay), divisor.double())


def _against(place: _Place, limit: float | None) -> Json:
    over = None if limit is None else place.lr * place.clip_coefficient / limit
    return {"local_stability_limit": limit, "lr_over_limit": over}


def _squared(problem: Problem, loss: contract.Loss) -> Problem:
    """The problem with the loss's squared part for all residuals: what it is near zero, or of the absolute
    error the squared loss that is as steep at a residual of 1."""
    second = 1 / loss.beta if isinstance(loss, contract.SmoothL1) else SECOND_DERIVATIVE[loss.kind]
    # The Gauss–Newton matrix of a squared loss is the same for every target.
    target = torch.zeros(len(problem.x), problem.outputs.shape[-1], dtype=problem.outputs.dtype)
    quadratic = Loss(_half_square, second=second)
    return Problem(problem.model, quadratic, problem.x, problem.c, target, problem.weight)


def _half_square(prediction: Tensor, target: Tensor, second: float, reduction: str = "mean") -> Tensor:
    losses = second / 2 * (prediction - target) ** 2
    return losses if reduction == "none" else losses.mean()
