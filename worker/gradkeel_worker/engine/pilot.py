"""A short fit before the training proper, from whose residuals the Huber loss gets its delta."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gradkeel.contract.config import ConstantSchedule, Health, Huber, TrainConfig
from gradkeel.contract.resolve import because
from gradkeel_worker.data import Prepared
from gradkeel_worker.data.scalers import NORMAL_MAD
from gradkeel_worker.engine.batches import Tensors
from gradkeel_worker.engine.build import build, usable_rows
from gradkeel_worker.engine.run import Hooks, Run
from gradkeel_worker.engine.trainer import fit

EFFICIENT = 1.345
"""Robust standard deviations of the residuals: 95 % of the mean's efficiency on normal ones (Huber 1964;
Holland & Welsch 1977)."""
FALLBACK = 1.0
"""Delta where the pilot has no spread to tell: it diverged, was stopped, or fits every second row exactly."""
PILOT_STEPS = 200
_MAX_EPOCHS = 5
_MAX_ROWS = 10_000
_DIGITS = 6
"""So many digits are kept: the last bits, which depend on the kind of CPU, are no part of a config."""


def with_delta(
    prepared: Prepared,
    config: TrainConfig,
    *,
    model: nn.Module | None = None,
    should_stop: Callable[[], str | None] | None = None,
    deadline: float | None = None,
) -> TrainConfig:
    """The config with the number that huber's delta "auto" stands for; other configs as they are.

    The pilot is the config's own model and optimizer under huber(1.0), for PILOT_STEPS steps at most or five
    epochs, at a constant learning rate, on the training part alone. torch's generator is left as it was.
    """
    if not _undecided(config) or prepared.classes is not None:
        return config
    pilot = _pilot_config(config, len(prepared.train))
    alone = _pilot_data(prepared, config)
    with torch.random.fork_rng():
        run = build(alone, pilot, model=model, hooks=Hooks(should_stop=should_stop, deadline=deadline))
        ending = fit(run)
        delta = _delta(residuals(run, prepared)) if ending == "epochs" else FALLBACK
    decided = dataclasses.replace(config, loss=Huber(delta=delta))
    return because(decided, "/loss/delta", "auto: 1.345 × the spread of a short pilot's residuals")


def provisional(config: TrainConfig) -> TrainConfig:
    """The config with a delta that can be trained with, where its own is not known yet."""
    return dataclasses.replace(config, loss=Huber(delta=FALLBACK)) if _undecided(config) else config


def _undecided(config: TrainConfig) -> bool:
    return isinstance(config.loss, Huber) and config.loss.delta == "auto"


def residuals(run: Run, prepared: Prepared) -> NDArray[np.float64]:
    """Outputs minus targets of up to 10,000 evenly spread training rows, in prepared target units, [n]:
    of several targets those of all."""
    rows = np.unique(np.linspace(0, len(prepared.train) - 1, _MAX_ROWS).astype(np.int64))
    chosen = Tensors.of(prepared.train, run.device).take(torch.from_numpy(rows).to(run.device))
    run.model.eval()
    _, outputs = run.objective.mean(chosen)
    found: NDArray[np.float64] = outputs - prepared.train.y[rows].astype(np.float64).reshape(len(rows), -1)
    usable = usable_rows(prepared.train)
    return (found if usable is None else found[usable[rows]]).ravel()


def _pilot_config(config: TrainConfig, rows: int) -> TrainConfig:
    steps_an_epoch = math.ceil(rows / config.budget.batch_size)
    epochs = max(1, min(_MAX_EPOCHS, config.budget.epochs, PILOT_STEPS // steps_an_epoch))
    return dataclasses.replace(
        config,
        loss=Huber(delta=FALLBACK),
        schedule=ConstantSchedule(),
        budget=dataclasses.replace(config.budget, epochs=epochs, patience=0, max_seconds=None, ema=None),
        health=Health(tier="economy"),
    )


def _pilot_data(prepared: Prepared, config: TrainConfig) -> Prepared:
    """No validation part, and of a training part that is longer than the pilot a sample."""
    train, most = prepared.train, PILOT_STEPS * config.budget.batch_size
    drawn = np.random.default_rng((config.seed, PILOT_STEPS)).permutation(len(train))[:most]
    sample = train if len(train) <= most else train.take(np.sort(drawn))
    return dataclasses.replace(prepared, train=sample, validation=train.take(drawn[:0]))


def _delta(errors: NDArray[np.float64]) -> float:
    if not len(errors) or not np.isfinite(errors).all():
        return FALLBACK
    delta = EFFICIENT * NORMAL_MAD * float(np.median(np.abs(errors - np.median(errors))))
    return float(f"{delta:.{_DIGITS}g}") if 0 < delta <= 1e9 else FALLBACK
