"""``optimizer.lr: "auto"``: a learning rate from a range test (Smith 2017), confirmed by a dry run.

On copies of the model and on training rows, from the run's own seed: the run itself is as if nothing had
been tried. What it takes is counted in steps and not in seconds, so that a rerun finds the same; only where
the steps are so slow that they would take a part of ``max_seconds`` that is too large, they are fewer.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradkeel.contract.config import TrainConfig
from gradkeel_worker.engine.batches import Batch
from gradkeel_worker.engine.run import Run

Json = dict[str, Any]

LOWEST, HIGHEST = 1e-6, 10.0
"""Learning rates at the first and at the last step."""
BACK_OFF = 10.0
"""The rate at which the loss was lowest is over the edge soon: the choice is so many times smaller."""
_SMOOTHING = 15
_FEWEST, _MOST, _SHARE = 100, 300, 0.05
"""Steps of the range test: a share of the planned ones, within bounds; a dry run has half as many."""
_ATTEMPTS, _LOWER = 3, 3.0
"""Dry runs at most, each at a rate so many times lower than the one before."""
_SECONDS = 0.2
"""Part of max_seconds that all this may take."""


@dataclass
class Found:
    """The rate, and what was seen: ``record`` goes to the report, ``message`` to the log."""

    lr: float
    confirmed: bool
    record: Json = field(default_factory=dict)

    @property
    def message(self) -> str:
        seen = self.record["lowest_loss_at"]
        lowest = "the loss never fell" if seen is None else f"the loss was lowest at {seen:.2g}"
        blown = self.record["blown_up_at"]
        end = "" if blown is None else f" and blew up at {blown:.2g}"
        sure = "a dry run confirmed it" if self.confirmed else "no dry run confirmed it"
        return f"learning rate {self.lr:.3g}: in the range test {lowest}{end}; {sure}"


def find_lr(config: TrainConfig, build: Callable[[TrainConfig], Run], stopped: Callable[[], bool]) -> Found:
    """``build`` makes the run of a config, always alike; ``stopped`` says that there is no time for more.

    Where nothing can be told, the optimizer's default, not confirmed.
    """
    usual = type(config.optimizer)().lr
    until = time.monotonic() + _SECONDS * (config.budget.max_seconds or math.inf)

    def over() -> bool:
        return stopped() or time.monotonic() > until

    run = build(with_lr(config, usual))
    steps = min(_MOST, max(_FEWEST, int(_SHARE * run.planned_steps)))
    rates = np.geomspace(LOWEST, HIGHEST, steps).tolist()
    losses = steps_at(run, rates, over)
    lowest, blown = judge_range(losses, steps)

    def try_at(lr: float) -> Json:
        seen = steps_at(build(with_lr(config, lr)), [lr] * (steps // 2), over)
        return {"lr": lr, **judge_dry_run(seen, steps // 2)}

    tried = [] if lowest is None else _dry_runs(rates[lowest] / BACK_OFF, try_at)
    confirmed = any(one["confirmed"] for one in tried)
    record = {
        "steps": len(losses),
        "lowest_loss_at": None if lowest is None else rates[lowest],
        "blown_up_at": None if blown is None else rates[blown],
        "dry_runs": tried,
        "confirmed": confirmed,
        "cut_short": over(),
    }
    return Found(tried[-1]["lr"] if confirmed else usual, confirmed, record)


def _dry_runs(picked: float, try_at: Callable[[float], Json]) -> list[Json]:
    """Tries at lower and lower rates, up to the first that is confirmed."""
    tried: list[Json] = []
    for attempt in range(_ATTEMPTS):
        tried.append(try_at(rounded(picked / _LOWER**attempt)))
        if tried[-1]["confirmed"]:
            break
    return tried


def judge_range(losses: Sequence[float], steps: int) -> tuple[int | None, int | None]:
    """Indexes of the lowest smoothed loss before the blow-up, None where it never fell, and of the blow-up.

    The loss is smoothed by a moving average of decay 1 − 15 / steps, corrected for its start. It has blown up
    where it is not finite or has risen above its lowest by what it had fallen, and half the first loss.
    """
    decay = 1 - _SMOOTHING / steps
    average, smooth, lowest = 0.0, [], 0
    for index, loss in enumerate(losses):
        average = decay * average + (1 - decay) * loss
        smooth.append(average / (1 - decay ** (index + 1)))
        fallen = smooth[0] - smooth[lowest]
        if not smooth[-1] <= smooth[lowest] + max(fallen, 0.5 * abs(smooth[0])):
            return _fallen(smooth[:-1], lowest), index
        lowest = index if smooth[-1] < smooth[lowest] else lowest
    return _fallen(smooth, lowest), None


def _fallen(smooth: Sequence[float], lowest: int) -> int | None:
    """``lowest``, where the loss there is lower by 0.1 % than in all of the first quarter, in which the rates
    are too small to do much.
    """
    quarter = len(smooth) // 4
    early = min(smooth[len(smooth) // 20 : quarter], default=-math.inf)
    fallen = math.isfinite(early) and lowest >= quarter and smooth[lowest] < early - 1e-3 * abs(early)
    return lowest if fallen else None


def judge_dry_run(losses: Sequence[float], steps: int) -> Json:
    """Confirmed: every loss was finite, and the last quarter's mean is below the first tenth's."""
    whole = len(losses) == steps and bool(np.isfinite(losses).all())
    first = float(np.mean(losses[: max(1, steps // 10)])) if whole else None
    last = float(np.mean(losses[-max(1, steps // 4) :])) if whole else None
    confirmed = first is not None and last is not None and last < first
    return {"first_loss": first, "last_loss": last, "confirmed": confirmed}


def with_lr(config: TrainConfig, lr: float) -> TrainConfig:
    """The config at a learning rate."""
    return dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, lr=lr))


def rounded(value: float) -> float:
    """To two digits: the test tells no more."""
    return float(f"{value:.1e}")


def steps_at(
    run: Run,
    rates: Sequence[float],
    over: Callable[[], bool] = lambda: False,
    *,
    first: int = 0,
    after: Callable[[], None] = lambda: None,
) -> list[float]:
    """Losses of plain steps at these rates: backward, clips, optimizer. Ends at one that is not finite.

    ``first``: how many batches were used before. ``after`` is called after each step.
    """
    losses: list[float] = []
    run.model.train()
    with np.errstate(all="ignore"):
        for lr, batch in zip(rates, _endless(run, first), strict=False):
            if over():
                break
            run.parameters.zero_gradient()
            loss = run.objective(batch)
            run.precision.backward(loss, run.parameters)
            losses.append(run.parameters.measure(loss))
            if not math.isfinite(losses[-1] + run.parameters.norm()):
                losses[-1] = math.nan
                break
            for clip in run.clips:
                clip(run.parameters)
            run.optimizer.step(lr)
            after()
    return losses


def _endless(run: Run, first: int) -> Iterator[Batch]:
    epoch, done = divmod(first, len(run.batches))
    later = itertools.chain.from_iterable(run.batches.epoch(one) for one in itertools.count(epoch + 1))
    return itertools.chain(run.batches.epoch(epoch, done), later)
