"""Run: the objects of one training, and the callbacks into whoever started it."""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gradkeel.contract.config import Budget
from gradkeel_worker.engine.batches import Batches, Tensors
from gradkeel_worker.engine.checkpoint import Checkpoint
from gradkeel_worker.engine.folds import Folds
from gradkeel_worker.engine.keeper import Keeper
from gradkeel_worker.engine.last_good import LastGood
from gradkeel_worker.engine.monitor import Monitor
from gradkeel_worker.engine.objective import Objective
from gradkeel_worker.engine.parameters import Parameters
from gradkeel_worker.engine.precision import Float32
from gradkeel_worker.engine.readings import Readings
from gradkeel_worker.engine.repairs import Repairs
from gradkeel_worker.engine.view import StepView
from gradkeel_worker.optimizers import Optimizer
from gradkeel_worker.schedules import Schedule
from gradkeel_worker.stabilizers import Clip, Guard

Emit = Callable[[str, dict[str, Any]], None]


def silent(name: str, data: dict[str, Any]) -> None:
    """Takes an event and does nothing."""


@dataclass
class Hooks:
    """Callbacks. ``should_stop`` answers None, "cancelled", "deadline" or "released"; ``deadline`` is a
    time.monotonic() value; ``spool`` is given what was measured so far, at ends of epochs and at least every
    two seconds; ``checkpoint`` is given what a run goes on from, every ``checkpoint_seconds``, and at ends of
    epochs ten times as often."""

    emit: Emit = silent
    should_stop: Callable[[], str | None] | None = None
    spool: Callable[[Readings], None] | None = None
    deadline: float | None = None
    checkpoint: Callable[[Checkpoint], None] | None = None
    checkpoint_seconds: float = 30.0


@dataclass
class Run:
    """Everything the loop needs, built by ``build`` and driven by ``trainer.fit``."""

    model: nn.Module
    objective: Objective
    precision: Float32
    parameters: Parameters
    optimizer: Optimizer
    schedule: Schedule
    lr: float
    clips: Sequence[Clip]
    guards: Sequence[Guard]
    monitor: Monitor
    view: StepView
    batches: Batches
    validation: Tensors | None
    usable: NDArray[np.bool_] | None
    """Validation rows without a NaN among their inputs; None where all are."""
    rows: NDArray[np.int64]
    """Record index in the file of each training row."""
    input_names: Sequence[str]
    score: Callable[[NDArray[np.float64]], dict[str, float]]
    """Metric name → value from the validation part's outputs."""
    keeper: Keeper
    last_good: LastGood | None
    """Where a rollback leads; None where no guard asks for one."""
    budget: Budget
    device: torch.device
    belongs: Callable[[], str]
    """Works out ``bond``."""
    judged_weights: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
    """Within it the model has the weights that are validated and kept."""
    chosen_precision: dict[str, Any] | None = None
    """What was measured where the precision was left to be chosen; checkpoints keep it."""
    hooks: Hooks = field(default_factory=Hooks)
    readings: Readings = field(default_factory=Readings)
    started: float = field(default_factory=lambda: time.monotonic())
    step: int = 0
    loss_sum: float = 0.0
    losses: int = 0
    """Sum and number of the finite losses of the epoch so far."""
    ending: str | None = None
    """Why the run ended, set at the end of an epoch or once it is through; None before."""
    seconds_before: float = 0.0
    """Of earlier attempts, up to the checkpoint that this one went on from."""
    allowance: float | None = None
    """Seconds in place of ``budget.max_seconds``, where several runs share those."""
    folds: Folds | None = None
    """Of the cross-validation that this run is a part of, or that came before it."""
    arms: list[dict[str, Any]] = field(default_factory=list)
    """Of the counterfactual: those that are through, as the report has them."""
    repairs: Repairs | None = None
    """Of the job that this run is an attempt of, where it may be repaired."""
    watch: Callable[[Run], bool] | None = None
    """Asked at ends of epochs whether something critical is to end the run for a repair."""
    resumed_at: list[int] = field(default_factory=list)
    """Steps at which an interrupted run went on."""
    nonfinite_event: dict[str, Any] | None = None
    nonfinite_batch: NDArray[np.int64] | None = None
    """Positions in the training part of the rows of the first non-finite batch."""
    epochs: list[dict[str, Any]] = field(default_factory=list)

    @functools.cached_property
    def bond(self) -> str:
        """What this run's checkpoints belong to; worked out when the first one is made or read."""
        return self.belongs()

    @property
    def planned_steps(self) -> int:
        """Steps of the whole budget."""
        return self.budget.epochs * len(self.batches)

    @property
    def ends_at(self) -> float:
        """time.monotonic() value at which ``budget.max_seconds`` are over, those of earlier attempts too."""
        seconds = self.budget.max_seconds if self.allowance is None else self.allowance
        return self.started - self.seconds_before + (math.inf if seconds is None else seconds)

    @property
    def seconds(self) -> float:
        """Seconds of training so far, those of earlier attempts too."""
        return time.monotonic() - self.started + self.seconds_before

    @property
    def position(self) -> tuple[int, int]:
        """(epoch, batches of it that are done) before the next step."""
        return divmod(self.step, len(self.batches))
