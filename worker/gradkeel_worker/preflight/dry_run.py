"""Some real steps at a learning rate: whether the loss falls and stays finite, and how far the model gets."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from gradkeel.contract.config import TrainConfig
from gradkeel_worker.data import Part, Prepared
from gradkeel_worker.diagnosis.examination import sound_rows
from gradkeel_worker.diagnosis.pinball import pinball_losses
from gradkeel_worker.diagnosis.rules.learning_rate import TOO_HIGH
from gradkeel_worker.engine.batches import Tensors
from gradkeel_worker.engine.build import build
from gradkeel_worker.engine.range_test import rounded, steps_at, with_lr
from gradkeel_worker.engine.run import Run

Json = dict[str, Any]

ATTEMPTS, LOWER = 6, 3.0
"""Dry runs at most, each at a rate so many times lower than the one before."""
_RISE, _UNSEEN = 0.1, 1e-5
"""The loss on the fixed rows may stand by so much of its size above where it began; and a change that float32
does not show with certainty."""
_EARLY, _SHARE = 20, 0.3
"""Steps by whose size they are judged, for later ones are smaller; and how much of what the rule of the
diagnosis calls too high a step may be."""
_LOOKED_AT = 1024
"""Rows that the loss is looked at on."""


@dataclass(frozen=True)
class DryRun:
    """One try. ``error`` is told on rows that the run did not see, as far as there are such."""

    lr: float
    stable: bool
    falls: bool
    steps: int
    loss_before: float | None
    loss_after: float | None
    error: float | None
    error_of: str

    def to_json(self, tried: list[Json]) -> Json:
        return {**vars(self), "tried": tried}


def confirm(
    prepared: Prepared, config: TrainConfig, lr: float, steps: int, stopped: Callable[[], bool]
) -> tuple[DryRun, list[Json]]:
    """The first stable one of several tries at lower and lower rates, else the last; and what was tried."""
    tried: list[Json] = []
    for attempt in range(ATTEMPTS):
        found = dry_run(prepared, config, rounded(lr / LOWER**attempt), steps)
        tried.append({"lr": found.lr, "stable": found.stable})
        if found.stable or stopped():
            break
    return found, tried


def dry_run(prepared: Prepared, config: TrainConfig, lr: float, steps: int) -> DryRun:
    """Stable: every loss was finite; on fixed training rows it never stood a tenth above where it began, and
    did not end higher; and the layers did not change by more of their size a step than the rules of the
    diagnosis bear. Where the steps are too small for the loss to show them in float32, the run is stable, but
    does not fall."""
    run = build(prepared, with_lr(config, lr), probes=())
    rows = Tensors.of(prepared.train, run.device).take(_spread(run, sound_rows(prepared.train, _LOOKED_AT)))
    course, done = [_loss(run, rows)], 0
    ratios: list[list[float]] = []
    updates = run.parameters.track_updates()
    for pause in _pauses(steps):
        losses = steps_at(
            run, [lr] * (pause - done), first=done, after=lambda: ratios.append(_ratios(run, updates()))
        )
        course.append(_loss(run, rows) if np.isfinite(losses).all() else math.nan)
        done = pause
        if not _bounded(course[0], course[-1]) or (done >= _EARLY and not _gentle(ratios)):
            break
    finite = bool(np.isfinite(course).all())
    stable = done == steps and _bounded(course[0], max(course)) and _gentle(ratios)
    stable = stable and course[-1] <= course[0] + _UNSEEN * abs(course[0])
    error, name = _error(run, prepared) if finite else (None, "")
    falls = stable and course[0] - course[-1] > _UNSEEN * abs(course[0])
    return DryRun(lr, stable, falls, done, _known(course[0]), _known(course[-1]), error, name)


def _pauses(steps: int) -> list[int]:
    """Steps after which the loss is looked at: 1, 2, 4 … and the last."""
    found = [1]
    while found[-1] * 2 < steps:
        found.append(found[-1] * 2)
    return [*found, steps] if steps > 1 else found


def _bounded(first: float, loss: float) -> bool:
    """Whether a loss is a number near the first one, which may be negative, or below it."""
    return loss <= first + _RISE * abs(first)


def _ratios(run: Run, changes: Any) -> list[float]:
    """Each layer's change in the last step over its size; NaN where it has none yet."""
    pairs = zip(changes, run.parameters.weight_norms(), strict=True)
    return [float(change) / float(size) if float(size) > 0 else math.nan for change, size in pairs]


def _gentle(ratios: list[list[float]]) -> bool:
    """Whether the layers change by so little of their size in a typical early step that no rule would mind,
    however short the training is."""
    known = np.array(ratios[:_EARLY])
    typical = float(np.median(known[np.isfinite(known)])) if np.isfinite(known).any() else 0.0
    return typical <= _SHARE * TOO_HIGH


def _loss(run: Run, rows: Any) -> float:
    with _as_judged(run.model), np.errstate(all="ignore"):
        return run.objective.mean(rows)[0]


@contextlib.contextmanager
def _as_judged(model: nn.Module) -> Iterator[None]:
    """In eval mode but for batch normalisation, whose running moments mean nothing after a few steps: it
    takes those of the rows at hand and leaves its own as they are."""
    model.eval()
    norms = [part for part in model.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    kept = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 0.0
    yield
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum
    model.eval()


def _spread(run: Run, positions: Any) -> torch.Tensor:
    return torch.from_numpy(positions).to(run.device)


def _error(run: Run, prepared: Prepared) -> tuple[float | None, str]:
    """How wrong the model is on the validation part, else on the training part, and the name of that.

    Of numbers in target units over what the best constant has, so that it can be compared between scalings
    of the target; of classes the loss itself.
    """
    part, which = (
        (prepared.validation, "held-out rows")
        if len(prepared.validation) and len(sound_rows(prepared.validation, 1))
        else (prepared.train, "training rows")
    )
    rows = sound_rows(part, _LOOKED_AT)
    with _as_judged(run.model), np.errstate(all="ignore"):
        loss, outputs = run.objective.mean(Tensors.of(part, run.device).take(_spread(run, rows)))
        if prepared.classes is not None:
            return _known(loss), f"loss, {which}"
        kind = ERRORS.get(prepared.config.loss.kind, "mae")
        return _known(
            _relative(kind, prepared, part, rows, outputs)
        ), f"{kind} over the best constant's, {which}"


ERRORS = {"mse": "rmse", "poisson": "rmse", "quantile": "pinball loss"}
"""Loss → the error that suits it; the mean absolute one for the others."""


def _relative(kind: str, prepared: Prepared, part: Part, rows: Any, outputs: Any) -> float:
    actual = part.y_raw[rows]
    known = prepared.train.y_raw
    predicted = prepared.in_target_units(outputs)
    if kind == "pinball loss":
        levels = prepared.levels
        constant = np.tile(np.quantile(known, levels), (len(actual), 1))
        return float(
            pinball_losses(actual, predicted, levels).mean() / pinball_losses(actual, constant, levels).mean()
        )
    center, power = (known.mean(axis=0), 2) if kind == "rmse" else (np.median(known, axis=0), 1)
    ratio = _mean_power(predicted - actual, power) / _mean_power(center - actual, power)
    return float(np.mean(ratio))


def _mean_power(errors: Any, power: int) -> Any:
    return np.mean(np.abs(errors) ** power, axis=0) ** (1 / power)


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
