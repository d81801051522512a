"""Measurements on the model itself: gradient check, curvature at the start, gradients of single rows."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from gradkeel.contract import config as contract
from gradkeel_worker.curvature import Problem, gauss_newton, largest_eigenvalue
from gradkeel_worker.diagnosis.evidence import Evidence, Origin
from gradkeel_worker.diagnosis.feed import OutlyingRows, moments, outlying_rows
from gradkeel_worker.diagnosis.gradient_check import check_gradients, in_float64
from gradkeel_worker.diagnosis.measured import Measured, OutlierShare, Start
from gradkeel_worker.diagnosis.one_batch import ROWS, fit_one_batch
from gradkeel_worker.diagnosis.provenance import first_bad_cell
from gradkeel_worker.models.ensemble import members_apart

if TYPE_CHECKING:
    from gradkeel_worker.data import Part, Prepared

Array = np.ndarray[Any, Any]

_START_ROWS = 64
_SEED, _MOST_PRODUCTS, _PRECISE = 0, 100, 1e-9
"""For the curvature at the start: the seed of its random vector, and when an eigenvalue is near enough."""
_SINGLE_ROWS = 64
"""Rows of each kind whose own gradient is taken: outlying and ordinary ones."""
_CHECKED_ROWS = 64
_LOSS_ROWS = 1024

SECOND_DERIVATIVE = {
    "mse": 2.0,
    "huber": 1.0,
    "smooth_l1": 1.0,
    "mae": 1.0,
    "log_cosh": 1.0,
    "quantile": 1.0,
    "poisson": 1.0,
    "bce": 0.25,
    "cross_entropy": 0.5,
    "focal": 0.5,
}
"""Largest second derivative of the loss in the output (bce 1/4, cross-entropy at most 1/2). smooth_l1's is
1/beta; the
absolute error and the pinball loss have none: 1 stands for the squared loss that is as steep at a residual
of 1. poisson's is the prediction itself, which is 1, the mean, where nothing is learnt yet; focal's grows
with gamma: 0.25 at 0,
0.5 at 2, 1.1 at 20, for two classes."""


def examine(evidence: Evidence, *, look_at_start: bool) -> Measured:
    """Measure what the rules ask of the model. ``look_at_start`` asks for the curvature at the initial
    weights.
    """
    prepared = evidence.prepared
    if prepared is None or len(prepared.train.rows) == 0:
        return Measured()
    notes: list[str] = []
    model = evidence.model or (evidence.initial_model() if evidence.initial_model else None)
    return Measured(
        gradient_check=_checked(evidence, model, notes),
        origin=find_origin(evidence),
        start=_start(evidence, notes) if look_at_start else None,
        outliers=_outlier_share(evidence, model),
        weight_norm=_weight_norm(evidence.initial_model()) if evidence.initial_model else None,
        initial_loss=_initial_loss(evidence, notes),
        one_batch=_one_batch(evidence, notes)
        if look_at_start or evidence.config.health.tier == "full"
        else None,
        notes=tuple(notes),
    )


def batch_of(part: Part, positions: Array) -> tuple[Tensor, Tensor, Tensor]:
    """x, c, y of some rows, shaped as the losses take them: y float [n, 1] or [n, targets], or int64 [n]
    for classes."""
    y = torch.from_numpy(np.ascontiguousarray(part.y[positions]))
    x, c = map(torch.from_numpy, part.fed(positions))
    return x, c, y.reshape(len(y), -1) if y.is_floating_point() else y


def sound_rows(part: Part, count: int) -> Array:
    """Positions of up to ``count`` rows, evenly spread, without a non-finite value."""
    known = np.isfinite(part.y.reshape(len(part.rows), -1)).all(axis=1)
    sound = np.flatnonzero(part.finite_rows() & known)
    if len(sound) <= count:
        return sound
    return np.asarray(sound[np.linspace(0, len(sound) - 1, count).astype(np.int64)])


# ------------------------------------------------------------------------------------------- gradient check


def _checked(evidence: Evidence, model: nn.Module | None, notes: list[str]) -> dict[str, Any] | None:
    if model is None or evidence.loss_fn is None or not evidence.config.health.gradient_check:
        return None
    assert evidence.prepared is not None
    positions = sound_rows(evidence.prepared.train, _CHECKED_ROWS)
    if not len(positions):
        notes.append("gradient check: no training row is free of non-finite values")
        return None
    place = "at the returned weights" if evidence.model is not None else "at the initial weights"
    try:
        return check_gradients(
            model, evidence.loss_fn, *batch_of(evidence.prepared.train, positions), place=place
        )
    except (ValueError, RuntimeError, TypeError) as error:
        # A caller's own module may refuse float64 or be random: then there is no check, and the
        # report says why.
        notes.append(f"gradient check: not done, {error}")
        return None


# ------------------------------------------------------------------------------------------------ origin


def find_origin(evidence: Evidence) -> Origin | None:
    """Where the first non-finite value came from, by the trainer's event and the prepared data."""
    event, prepared = evidence.readings.nonfinite_event, evidence.prepared
    if event is None:
        return None
    if prepared is not None and (cell := first_bad_cell(prepared, event.get("rows") or None)) is not None:
        return cell
    return Origin(
        what=str(event.get("what") or "gradient"),
        kind=str(event.get("kind") or "nan"),
        layer=event.get("layer"),
        operation=event.get("operation"),
        producer=bool(event.get("producer", True)),
        largest_input=event.get("largest_input"),
    )


# ------------------------------------------------------------------------------------- the model at its start


def _start(evidence: Evidence, notes: list[str]) -> Start | None:
    if evidence.initial_model is None or evidence.loss_fn is None or evidence.prepared is None:
        return None
    positions = sound_rows(evidence.prepared.train, _START_ROWS)
    if len(positions) < 2:
        return None
    try:
        return _measure_start(evidence, evidence.prepared, positions)
    except (RuntimeError, TypeError, ValueError) as error:
        notes.append(f"curvature at the start: not measured, {error}")
        return None


def _one_batch(evidence: Evidence, notes: list[str]) -> dict[str, Any] | None:
    """Whether the model fits a batch of a few rows."""
    if evidence.initial_model is None or evidence.loss_fn is None or evidence.prepared is None:
        return None
    positions = sound_rows(evidence.prepared.train, ROWS)
    if len(positions) < 2:
        return None
    try:
        return fit_one_batch(
            members_apart(evidence.initial_model()),
            evidence.loss_fn,
            batch_of(evidence.prepared.train, positions),
            None if evidence.custom_loss else evidence.config.loss,
            len(evidence.prepared.classes or (0, 1)),
        )
    except (RuntimeError, TypeError, ValueError) as error:
        notes.append(f"fit of one batch: not tried, {error}")
        return None


def _initial_loss(evidence: Evidence, notes: list[str]) -> float | None:
    """Loss of the initial weights, in eval mode."""
    if evidence.initial_model is None or evidence.loss_fn is None or evidence.prepared is None:
        return None
    positions = sound_rows(evidence.prepared.train, _LOSS_ROWS)
    if not len(positions):
        return None
    x, c, y = batch_of(evidence.prepared.train, positions)
    try:
        with torch.no_grad():
            return float(evidence.loss_fn(members_apart(evidence.initial_model().eval())(x, c), y))
    except (RuntimeError, TypeError, ValueError) as error:
        notes.append(f"loss at the start: not measured, {error}")
        return None


def _measure_start(evidence: Evidence, prepared: Prepared, positions: Array) -> Start:
    assert evidence.initial_model is not None
    model = members_apart(evidence.initial_model().double().eval())
    loss_fn = in_float64(evidence.loss_fn)
    x, c, y = batch_of(prepared.train, positions)
    x, y = x.double(), y.double() if y.is_floating_point() else y
    scaled_x, scaled_y = _standardised_inputs(prepared, x), _standardised_target(prepared, y)
    # Losses of numbers are means over a row's outputs too.
    outputs = 1 if prepared.classes is not None else prepared.outputs
    second = _second_derivative(evidence.config.loss) / outputs
    norms = [_gradient_norm(model, loss_fn, a, c, b) for b in (y, scaled_y) for a in (x, scaled_x)]
    return Start(
        rows=len(positions),
        weight_norm=_weight_norm(model),
        curvature_as_fed=steepest(model, loss_fn, x, c, y, second),
        curvature_scaled_inputs=steepest(model, loss_fn, scaled_x, c, y, second),
        gradient_as_fed=norms[0],
        gradient_scaled_inputs=norms[1],
        gradient_scaled_target=norms[2],
        gradient_scaled_both=norms[3],
    )


def _weight_norm(model: nn.Module) -> float:
    return float(np.sqrt(sum(float((p.detach().double() ** 2).sum()) for p in model.parameters())))


def _second_derivative(loss: contract.Loss) -> float:
    if isinstance(loss, contract.SmoothL1):
        return 1.0 / loss.beta
    return SECOND_DERIVATIVE.get(loss.kind, 1.0)


def _standardised_inputs(prepared: Prepared, x: Tensor) -> Tensor:
    """x with every numeric column at mean 0 and standard deviation 1 over the training part."""
    center, scale = torch.zeros(x.shape[1], dtype=x.dtype), torch.ones(x.shape[1], dtype=x.dtype)
    for j, one in enumerate(prepared.inputs):
        if one.role in ("value", "datetime"):
            mean, std, _ = moments(prepared.train.x[:, j])
            center[j], scale[j] = mean, std if std > 0 else 1.0
    return (x - center) / scale


def _standardised_target(prepared: Prepared, y: Tensor) -> Tensor:
    if prepared.classes is not None or prepared.reference is not None:
        return y  # the changes that a forecast predicts have a scale of their own
    held = np.asarray(prepared.train.y, np.float64).reshape(len(prepared.train.rows), -1)
    held = held[np.isfinite(held).all(axis=1)]
    scale = held.std(axis=0)
    return (y - torch.from_numpy(held.mean(axis=0))) / torch.from_numpy(np.where(scale > 0, scale, 1.0))


def _gradient_norm(model: nn.Module, loss_fn: Any, x: Tensor, c: Tensor, y: Tensor) -> float | None:
    parameters = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad(loss_fn(model(x, c), y), parameters, allow_unused=True)
    norm = float(np.sqrt(sum(float((g**2).sum()) for g in found if g is not None)))
    return norm if np.isfinite(norm) else None


def steepest(
    model: nn.Module, loss_fn: Any, x: Tensor, c: Tensor, y: Tensor, second_derivative: float
) -> float | None:
    """Largest eigenvalue of the Gauss–Newton matrix of the rows with ``second_derivative`` for the loss's
    own; None where it is not finite."""
    found = largest_eigenvalue(
        gauss_newton(Problem(model, loss_fn, x, c, y), second_derivative), _SEED, _MOST_PRODUCTS, _PRECISE
    )
    return found.value if np.isfinite(found.value) else None


# ------------------------------------------------------------------------------ gradients of single rows


def _outlier_share(evidence: Evidence, model: nn.Module | None) -> OutlierShare | None:
    assert evidence.prepared is not None
    if model is None or evidence.loss_fn is None:
        return None
    outlying = outlying_rows(evidence.prepared)
    if not len(outlying.positions):
        return None
    return _share(evidence.prepared, model, evidence.loss_fn, outlying)


def _share(prepared: Prepared, model: nn.Module, loss_fn: Any, outlying: OutlyingRows) -> OutlierShare | None:
    part = prepared.train
    ordinary = np.setdiff1d(sound_rows(part, len(part.rows)), outlying.positions, assume_unique=True)
    if not len(ordinary):
        return None
    far = np.argsort(-outlying.z, kind="stable")[: 4 * _SINGLE_ROWS]
    far = np.sort(far[np.linspace(0, len(far) - 1, min(_SINGLE_ROWS, len(far))).astype(np.int64)])
    near = ordinary[np.linspace(0, len(ordinary) - 1, min(_SINGLE_ROWS, len(ordinary))).astype(np.int64)]
    outer = row_gradient_norms(model, loss_fn, part, outlying.positions[far])
    inner = row_gradient_norms(model, loss_fn, part, near)
    total_outer = float(np.nanmean(outer)) * len(outlying.positions)
    total = total_outer + float(np.nanmean(inner)) * len(ordinary)
    if not np.isfinite(total) or total <= 0:
        return None
    worst = int(far[int(np.nanargmax(outer))])
    return OutlierShare(
        share=total_outer / total,
        share_of_rows=len(outlying.positions) / (len(outlying.positions) + len(ordinary)),
        largest_share=float(np.unique(outlying.column, return_counts=True)[1].max() / len(part.rows)),
        rows=len(outlying.positions),
        position=int(outlying.positions[worst]),
        column=int(outlying.column[worst]),
        z=float(outlying.z[worst]),
        in_target=float(np.mean(outlying.column < 0)),
    )


def row_gradient_norms(model: nn.Module, loss_fn: Any, part: Part, positions: Array) -> Array:
    """‖gradient of one row's loss‖ for each row, in eval mode, NaN where it is not finite; the model is
    untouched.
    """
    twin = members_apart(copy.deepcopy(model).eval())
    parameters = [p for p in twin.parameters() if p.requires_grad]
    x, c, y = batch_of(part, positions)
    norms = np.full(len(positions), np.nan)
    for i in range(len(positions)):
        loss = loss_fn(twin(x[i : i + 1], c[i : i + 1]), y[i : i + 1])
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        squares = [float((g.double() ** 2).sum()) for g in found if g is not None]
        norms[i] = float(np.sqrt(sum(squares)))
    return np.where(np.isfinite(norms), norms, np.nan)
