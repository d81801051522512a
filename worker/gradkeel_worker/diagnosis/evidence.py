"""What a diagnosis rests on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gradkeel.contract.config import TrainConfig
from gradkeel_worker.diagnosis.block import Answers
from gradkeel_worker.engine.readings import Readings

if TYPE_CHECKING:
    from gradkeel_worker.data import Prepared
    from gradkeel_worker.data.decision import Decision

Json = dict[str, Any]
Metrics = dict[str, Any]


@dataclass(frozen=True)
class Origin:
    """Where the first NaN or infinity came from.

    ``what`` is input, target, weight, activation, loss or gradient; ``producer`` is true where every value
    that
    went into the place was still finite, false where the place only passed on what it got.
    """

    what: str
    kind: str
    layer: str | None = None
    operation: str | None = None
    row: int | None = None
    line: int | None = None
    column: str | None = None
    producer: bool = True
    largest_input: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """How the returned model and the baselines do, per part, in target units.

    ``metrics``: ``{"validation": …, "test": …}``. ``baselines``: ``{"constant": …, "ridge": …}`` on the test
    part, else on the validation part. ``predictions`` are those of the test part: row, actual, prediction
    and, for classes, probabilities [n, classes]. ``errors`` holds per-row losses for the bootstrap: metric →
    name (model, constant, ridge) → array [n]; ``part`` says of which part.
    """

    metrics: dict[str, Metrics | None] = field(default_factory=dict)
    baselines: dict[str, Metrics] = field(default_factory=dict)
    predictions: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    errors: dict[str, dict[str, np.ndarray[Any, Any]]] = field(default_factory=dict)
    part: str = "test"
    intervals: Json | None = None
    """Prediction intervals: margins by level, and what they hold of the test part."""
    held_out: dict[str, dict[str, np.ndarray[Any, Any]]] = field(default_factory=dict)
    """``errors`` of validation and test part together: twice the rows, for what needs the power."""
    answers: Answers | None = None
    """Targets and predictions of validation and test part and a sample of training rows, in the order of the
    file."""
    seen: dict[str, dict[str, np.ndarray[Any, Any]]] = field(default_factory=dict)
    """``errors`` of the model on a sample of training rows, in eval mode: metric → model → array [n]."""
    residuals: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    """Regression: prediction − actual, [n] or [n, targets], of that sample (``train``) and of validation and
    test part together (``held_out``), in target units."""
    decision: Decision | None = None
    """What the validation part decided about a classifier's answers; everything above is by it."""
    details: Json = field(default_factory=dict)
    """More blocks of the report's ``fit``: classification, threshold, calibration, residuals, importance."""


@dataclass(frozen=True)
class Last:
    """The weights that a training ended with, not those it returns."""

    model: Any
    """An ``nn.Module`` of its own, on the CPU."""
    divisor: Any
    """What the optimizer divides each entry of the gradient by, a tensor [n] in ``parameters()`` order; None
    where it divides by nothing."""


@dataclass(frozen=True)
class Evidence:
    """Everything a report is made of. What is missing (None) leaves its part of the report empty."""

    config: TrainConfig
    """The resolved config."""
    submitted: Json
    """The config as it was submitted: patches are made against it."""
    readings: Readings
    status: str = "succeeded"
    """succeeded, diverged, cancelled, deadline or, for a child that died, an error code."""
    prepared: Prepared | None = None
    model: Any = None
    """The returned ``nn.Module`` on the CPU, in eval mode; None where there is no usable checkpoint."""
    initial_model: Callable[[], Any] | None = None
    """Makes a fresh module with the run's initial weights."""
    last: Last | None = None
    """Where curvature is asked for."""
    loss_fn: Any = None
    """The training loss, called as ``loss_fn(model(x, c), y)``; a scalar tensor comes back."""
    custom_loss: bool = False
    """True where the caller brought the loss: then the config's loss block says nothing about it."""
    batch: Any = None
    """Row positions in the training part of the batch of the first non-finite event, if any."""
    profile: Json | None = None
    evaluation: Evaluation | None = None
    error: Json | None = None
    seconds: float | None = None
    provenance: Json = field(default_factory=dict)
    """dataset_digest, config_digest, seed, versions, hardware … as far as the caller knows them."""
    counterfactual: Json | None = None
    """The same training without its stabilizers, as the report has it."""
    study_seconds: Json = field(default_factory=dict)
    """What further studies took, by study."""
    cross_validation: Json | None = None
    """Scores of the folds, mean, deviation and one by one."""
