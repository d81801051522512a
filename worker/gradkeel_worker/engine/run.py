"""Run: the objects of one training, and the callbacks into whoever started it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gradkeel.contract.config import Budget
from gradkeel_worker.engine.batches import Batches, Tensors
from gradkeel_worker.engine.checkpoint import Keeper
from gradkeel_worker.engine.monitor import Monitor
from gradkeel_worker.engine.objective import Objective
from gradkeel_worker.engine.parameters import Parameters
from gradkeel_worker.engine.readings import Readings
from gradkeel_worker.engine.view import StepView
from gradkeel_worker.optimizers import Optimizer
from gradkeel_worker.schedules import Schedule
from gradkeel_worker.stabilizers import Clip, Guard

Emit = Callable[[str, dict[str, Any]], None]


def silent(name: str, data: dict[str, Any]) -> None:
    """Takes an event and does nothing."""


@dataclass
class Hooks:
    """Callbacks. ``should_stop`` answers None, "cancelled" or "deadline"; ``deadline`` is a time.monotonic()
    value; ``spool`` is given what was measured so far, at ends of epochs and at least every two seconds."""

    emit: Emit = silent
    should_stop: Callable[[], str | None] | None = None
    spool: Callable[[Readings], None] | None = None
    deadline: float | None = None


@dataclass
class Run:
    """Everything the loop needs, built by ``build`` and driven by ``trainer.fit``."""

    model: nn.Module
    objective: Objective
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
    budget: Budget
    device: torch.device
    hooks: Hooks = field(default_factory=Hooks)
    readings: Readings = field(default_factory=Readings)
    started: float = field(default_factory=time.monotonic)
    step: int = 0
    nonfinite_event: dict[str, Any] | None = None
    nonfinite_batch: NDArray[np.int64] | None = None
    """Positions in the training part of the rows of the first non-finite batch."""
    epochs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def planned_steps(self) -> int:
        """Steps of the whole budget."""
        return self.budget.epochs * len(self.batches)

    @property
    def ends_at(self) -> float:
        """time.monotonic() value at which ``budget.max_seconds`` are over."""
        return self.started + (self.budget.max_seconds or math.inf)
