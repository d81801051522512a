"""``precision: "auto"``: the faster of float32 and bf16, by the time of real steps on a run of its own.

The choice rests on a clock and could differ in a rerun. It therefore goes into the resolved config, which
trains the same bits when it is submitted, and into checkpoints, so that a run that goes on does not choose
again. It is ``sure`` where the times were so far apart that another run on such a machine chooses the same;
where the device or the size of the steps decides, nothing is timed.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from gradkeel.contract.config import TrainConfig
from gradkeel_worker.engine.batches import Batch
from gradkeel_worker.engine.precision import PRECISIONS, native
from gradkeel_worker.engine.run import Run

Json = dict[str, Any]

FASTER = 0.8
"""bf16 is chosen where a step takes less than this part of float32's time."""
_SURE = (0.65, 1.0)
"""A ratio outside these bounds comes out on the same side of FASTER on a loaded machine too."""
_SMALLEST = 1e7
"""Floating-point operations of a step below which converting costs more than bf16 saves: a tenth of a
millisecond of one thread."""
_FLOPS_PER_WEIGHT = 6
_WARM, _STEPS, _SECONDS = 2, 9, 1.0
"""Steps in each format that are not timed; steps that are; and after so many seconds no more than three."""


def with_precision(config: TrainConfig, precision: str) -> TrainConfig:
    """The config in a number format."""
    value: Any = precision
    return dataclasses.replace(config, precision=value)


def choose_precision(run: Run, stopped: Callable[[], bool]) -> Json:
    """What to train in, as ``chosen``, and why: ``step_seconds`` by format, ``sure`` and a ``message``.

    ``run``: of the config in float32, of no more use afterwards. ``stopped``: there is no time for more.
    """
    weights, rows = run.parameters.values.numel(), run.batches.sizes[0]
    if not native("bf16", run.device):
        return _choice("float32", f"this {run.device.type} does not compute in bf16 by itself")
    if _FLOPS_PER_WEIGHT * weights * rows < _SMALLEST:
        return _choice("float32", "the steps are too small for bf16 to save time")
    seconds = _step_seconds(run, stopped)
    if not all(seconds.values()):
        return _choice("float32", "the training was stopped before a step was measured")
    shown = ", ".join(f"{1000 * each:.2f} ms in {name}" for name, each in seconds.items())
    chosen, sure = judge_ratio(seconds["bf16"] / seconds["float32"])
    return _choice(chosen, f"a step took {shown}", seconds, sure=sure)


def judge_ratio(ratio: float) -> tuple[str, bool]:
    """The format by the time of a step in bf16 over that in float32, and whether it is sure."""
    lowest, highest = _SURE
    return "bf16" if ratio < FASTER else "float32", not lowest <= ratio <= highest


def _choice(chosen: str, reason: str, seconds: dict[str, float] | None = None, *, sure: bool = True) -> Json:
    return {
        "chosen": chosen,
        "step_seconds": seconds or {},
        "sure": sure,
        "message": f"precision {chosen}: {reason}",
    }


def _step_seconds(run: Run, stopped: Callable[[], bool]) -> dict[str, float]:
    """Median time of plain steps in each format, taken in turns; 0 where there is none."""
    formats = {name: PRECISIONS[name](run.device) for name in ("float32", "bf16")}
    times: dict[str, list[float]] = {name: [] for name in formats}
    batches = itertools.cycle(itertools.islice(run.batches.epoch(0), _STEPS))
    run.model.train()
    begun = time.perf_counter()
    for turn, batch in enumerate(itertools.islice(batches, _WARM + _STEPS)):
        if stopped() or (turn >= _WARM + 3 and time.perf_counter() - begun > _SECONDS):
            break
        for name, precision in formats.items():
            run.precision, run.objective.forward = precision, precision.forward
            taken = _timed_step(run, batch)
            times[name] += [taken] if turn >= _WARM else []
    return {name: float(np.median(each)) if each else 0.0 for name, each in times.items()}


def _timed_step(run: Run, batch: Batch) -> float:
    begun = time.perf_counter()
    run.parameters.zero_gradient()
    loss = run.objective(batch)
    run.precision.backward(loss, run.parameters)
    run.parameters.measure(loss)  # waits for the device
    run.optimizer.step(0.0)
    return time.perf_counter() - begun
