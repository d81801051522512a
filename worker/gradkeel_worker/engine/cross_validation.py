"""Cross-validation: the config trained anew on the other rows of each fold, judged on the rows held out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from torch import nn

from gradkeel.contract.errors import ConfigError, FieldError
from gradkeel_worker.data import DataError
from gradkeel_worker.diagnosis.evaluation import evaluate
from gradkeel_worker.engine.checkpoint import folds_through
from gradkeel_worker.engine.folds import Folds
from gradkeel_worker.engine.order import Order, Ready
from gradkeel_worker.engine.run import Emit, Hooks, Run
from gradkeel_worker.engine.trainer import fit
from gradkeel_worker.interrupts import Interrupted, Released

Json = dict[str, Any]
Resume = Callable[[Run, bytes | bytearray], bool]

_ENDED = ("epochs", "patience", "max_seconds", "diverged")
_TOLD = ("log", "resumed")
"""Events of a fold's training that are passed on beside its progress: curves are the job's own model's."""


def cross_validate(
    folds: Folds, order: Order, hooks: Hooks, resume: bytes | bytearray | None, resumed: Resume
) -> bytes | bytearray | None:
    """Train and judge every fold that is not through, until somebody wants the job to end.

    Returns the checkpoint where it belongs to the training that comes after the folds. ``resumed`` has a run
    go on from a checkpoint, and says whether it could.

    Raises:
        Released: a checkpoint was made.
        DataError, ConfigError: the rows of a fold cannot be used; it is named.
    """
    if resume is None:
        folds.forget()
    begin = 0 if resume is None else folds_through(resume)
    if begin >= folds.count:
        return resume
    while (index := max(begin, len(folds.done))) < folds.count:
        within = _hooks_of(hooks, index, folds.count)
        ready = _ready(order, within, index)
        run = _run(order, ready, within, folds)
        if resume is not None and not resumed(run, resume):
            folds.forget()
            begin, resume = 0, None
            continue
        resume = None
        ending = fit(run)
        if ending == "released":
            raise Released(run.step)
        if ending not in _ENDED or not _judged(order, ready, run, ending, folds):
            break
        within.emit("log", _told(folds))
    return None


def progress_of(emit: Emit, index: int, count: int) -> Emit:
    """Events of the ``index``-th of so many trainings of a job, the progress told of the whole job."""

    def told(name: str, data: Json) -> None:
        emit(name, _of_all(data, index, count) if name == "progress" else data)

    return told


def _of_all(data: Json, index: int, count: int) -> Json:
    fraction = data["fraction"] or 0.0
    left = data.get("eta_seconds")
    if left is not None and fraction < 1:
        left += (count - 1 - index) * left / (1 - fraction)
    return data | {"fraction": (index + fraction) / count, "eta_seconds": left}


def _hooks_of(hooks: Hooks, index: int, count: int) -> Hooks:
    whole = progress_of(hooks.emit, index, count + 1)
    place = {"fold": index + 1, "folds": count}

    def told(name: str, data: Json) -> None:
        if name == "progress" or name in _TOLD:
            whole(name, data | place)

    return dataclasses.replace(hooks, emit=told, spool=None)


def _ready(order: Order, hooks: Hooks, index: int) -> Ready:
    try:
        return order.ready(hooks, fold=index)
    except (DataError, ConfigError) as error:
        faults = [_placed(fault, index) for fault in error.errors]
        raise type(error)(faults) from error


def _placed(fault: FieldError, index: int) -> FieldError:
    return dataclasses.replace(fault, detail=f"in fold {index + 1}: {fault.detail}")


def _run(order: Order, ready: Ready, hooks: Hooks, folds: Folds) -> Run:
    run = order.run(ready, hooks)
    run.folds, run.allowance = folds, folds.share_of(ready.config.budget.max_seconds)
    return run


def _judged(order: Order, ready: Ready, run: Run, ending: str, folds: Folds) -> bool:
    """Whether the fold is through, its scores taken in; not where the job is to end meanwhile."""
    seconds, prepared = run.seconds, ready.prepared
    model = returned_model(run) if ending != "diverged" else None
    try:
        with order.interruptible():
            found = None if model is None else evaluate(model, prepared, ready.config.seed, detailed=False)
    except Interrupted:
        return False
    readings = run.readings
    parts = {"train": prepared.train, "validation": prepared.validation, "held_out": prepared.test}
    entry = {
        "status": "diverged" if found is None else "succeeded",
        "stopped_by": ending,
        "rows": {name: len(part) for name, part in parts.items()},
        "epochs": len(readings.epochs),
        "best_epoch": readings.best_epoch,
        "metrics": None if found is None else found.metrics["test"],
        "baselines": None if found is None else found.baselines,
    }
    folds.add(entry, {} if found is None else found.predictions, prepared.classes, seconds)
    return True


def returned_model(run: Run) -> nn.Module | None:
    """The model with the best weights, in memory of its own, on the CPU, in eval mode."""
    best = run.keeper.restore()
    run.parameters.release()
    return None if best is None else run.model.cpu().eval()


def _told(folds: Folds) -> Json:
    entry = folds.done[-1]
    message = f"fold {entry['fold']} of {folds.count} {'is through' if entry['metrics'] else 'diverged'}"
    return {"message": message, "step": 0, "metrics": entry["metrics"]}
