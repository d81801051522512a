"""``train``: prepare → build → fit → evaluate → diagnose, from a table and a config to a Result."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import platform
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gradkeel.contract.config import TrainConfig
from gradkeel.contract.resolve import fold_count, to_json
from gradkeel_worker.data import Prepared, Table
from gradkeel_worker.data.kept import Kept
from gradkeel_worker.diagnosis import Evaluation, Evidence, diagnose
from gradkeel_worker.diagnosis.evaluation import evaluate
from gradkeel_worker.diagnosis.evidence import Last
from gradkeel_worker.diagnosis.provenance import first_bad_cell
from gradkeel_worker.engine.actions import StopDiverged
from gradkeel_worker.engine.build import build_loss
from gradkeel_worker.engine.checkpoint import Checkpoint, UnusableCheckpoint
from gradkeel_worker.engine.checkpoint import resume as restore
from gradkeel_worker.engine.counterfactual import counterfactual
from gradkeel_worker.engine.cross_validation import cross_validate, progress_of, returned_model
from gradkeel_worker.engine.folds import Folds
from gradkeel_worker.engine.order import Order, Ready
from gradkeel_worker.engine.range_test import Found
from gradkeel_worker.engine.readings import Readings
from gradkeel_worker.engine.repair import StaleCheckpoint, Trained, begun, ended, is_critical, repaired
from gradkeel_worker.engine.repairs import Repairs
from gradkeel_worker.engine.run import Emit, Hooks, Run, silent
from gradkeel_worker.engine.trainer import fit
from gradkeel_worker.interrupts import Interrupted, Released

Json = dict[str, Any]

SUCCEEDED, DIVERGED, RELEASED = "succeeded", "diverged", "released"
_FINISHED = (SUCCEEDED, DIVERGED)
_STOPPED = ("cancelled", "deadline")
_PROMPT = 250_000
"""Parameters of a model that is examined at its first weights even though somebody waits for a cancel."""
_STATUS = dict.fromkeys(("epochs", "patience", "max_seconds", "critical"), SUCCEEDED)
"""Status by what ended the fit; the other endings are their own status."""


@dataclass(frozen=True)
class Result:
    """What became of a training.

    ``status``: succeeded, diverged, cancelled or deadline. ``model`` on the CPU in eval mode with the best
    weights, called as ``model(x, c) -> [n, outputs]``; None where no epoch ended with finite numbers.
    ``metrics``: {"validation", "test", "baselines": {"constant", "ridge"}} in target units.
    ``predictions``: arrays of the test part, and of every row that was held out in one of ``folds``.
    ``error``: None, or code, message and where.
    """

    status: str
    config: TrainConfig
    prepared: Prepared
    model: nn.Module | None
    report: Json
    metrics: Json
    predictions: dict[str, NDArray[Any]]
    readings: Readings
    error: Json | None = None
    seconds: float = 0.0
    provenance: Json = field(default_factory=dict)
    folds: Folds | None = None
    intervals: Json | None = None
    """Prediction intervals, as ``diagnosis/intervals.py`` makes them."""


def train(
    data: Table | Prepared,
    config: TrainConfig | Json,
    *,
    loss: Callable[..., Tensor] | None = None,
    model: nn.Module | None = None,
    on_event: Emit | None = None,
    should_stop: Callable[[], str | None] | None = None,
    interruptible: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    spool: Callable[[Readings], None] | None = None,
    on_checkpoint: Callable[[Checkpoint], None] | None = None,
    checkpoint_seconds: float = 30.0,
    resume: bytes | bytearray | None = None,
    profile: Json | None = None,
    submitted: Json | None = None,
    deadline: float | None = None,
    provenance: Json | None = None,
    earlier: Kept | None = None,
) -> Result:
    """Train on a table, or on data that is already prepared.

    Args:
        config: a resolved config, or the JSON as submitted, which is resolved for this data.
        loss: your own ``loss(prediction, target) -> scalar`` in place of the config's; prediction [n,
            outputs], target
            of the same shape in prepared units, or class indexes int64 [n].
        model: your own module in place of the config's, ``forward(x)`` or ``forward(x, c)`` → [n, outputs].
            It is
            copied, never changed.
        on_event: called with the name and data of each event.
        should_stop: asked before every step and before the diagnosis; "cancelled" or "deadline" ends the
            training with that status. "released" makes a checkpoint and raises ``Released``.
        interruptible: makes a context within which ``Interrupted`` may be raised in this thread, as a signal
            handler does: while the data is prepared, where it passes through, and while the model is
            evaluated and diagnosed, where the training then ends with the reason as its status.
        spool: given the readings so far at ends of epochs and at least every two seconds.
        on_checkpoint: given a checkpoint every ``checkpoint_seconds``, and at ends of epochs ten times as
            often. Write it or copy it before you return.
        resume: the bytes of a checkpoint of this training, which then ends as if it had never stopped: on the
            same kind of CPU bit for bit. One that does not fit is told in a log event, and the training
            begins anew.
        profile: the data set's profile, for the report.
        submitted: the config as submitted, when ``config`` is resolved: patches in the report are made
            against it,
            and what its preset sizes by data is decided anew for this data.
        deadline: time.monotonic() value after which the status is "deadline".
        provenance: what the caller knows of the data's and the config's origin, for the report.
        earlier: an earlier model's preparation and weights, which the training begins with.

    Raises:
        ConfigError: the config cannot be accepted, or not for this data or machine.
        DataError: the data cannot be used; with row, line and column.
        ValueError: your own model or loss does not suit the data.
        Released: ``should_stop`` said so, and a checkpoint was made.
    """
    started = time.monotonic()
    hooks = Hooks(on_event or silent, should_stop, spool, deadline, on_checkpoint, checkpoint_seconds)
    hooks.emit("progress", _phase("prepare", 0.0))
    asked = config if isinstance(config, dict) else submitted
    order = Order(data, config, asked, profile, loss, model, interruptible, earlier)
    result = repaired(order, hooks, resume, functools.partial(_trained, started, provenance or {}))
    for finding in result.report["findings"]:
        hooks.emit("finding", {key: finding[key] for key in ("rule", "family", "severity", "where")})
    return dataclasses.replace(result, predictions=with_folds(result.predictions, result))


def _trained(
    started: float,
    provenance: Json,
    order: Order,
    hooks: Hooks,
    resume: bytes | bytearray | None,
    repairs: Repairs | None,
    status: str | None = None,
) -> Trained:
    """Train once. ``status`` asks for a training that is through already, told anew from its last checkpoint:
    as that status or, where that is empty, as it ended and with the studies that are asked for."""
    asked, profile, loss = order.asked, order.profile, order.loss
    ready = order.ready(hooks, resume)
    prepared, config, found = ready.prepared, ready.config, ready.found
    order = dataclasses.replace(order, chosen=ready.chosen)
    hooks.emit("resolved", {"config": to_json(config)})
    folds = Folds(fold_count(config.split)) if fold_count(config.split) else None
    with torch.random.fork_rng():
        resume = _cross_validated(folds, order, hooks, resume)
        run = _run(order, ready, hooks, folds, repairs)
        initial = copy.deepcopy(run.model).cpu()
        if resume is not None and not _resumed(run, resume):
            if repairs is not None:
                raise StaleCheckpoint
            _cross_validated(folds, order, hooks, None)
            run = _run(order, ready, hooks, folds, repairs)
        if status is not None:
            run.resumed_at.pop()  # it was only looked at again
        if repairs is not None:
            run.watch = _watch(order, ready, initial)
        ending = fit(run)
        if ending == RELEASED:
            raise Released(run.step)
        left = None if repairs is None else ended(run, ending)
        trained = time.monotonic()
        studied = repairs is None or status == ""  # a training that is yet to be repaired is not studied
        without = _counterfactual(order, ready, run, initial, hooks, ending) if studied else None
    last = _last(run) if config.health.curvature and studied else None
    best = returned_model(run)
    hooks.emit("progress", _phase("diagnose", 1.0, run))
    evidence = Evidence(
        config=config,
        submitted=to_json(config) if asked is None else asked,
        readings=run.readings,
        status=status or _status(ending, best),
        prepared=prepared,
        initial_model=lambda: copy.deepcopy(initial),
        last=last,
        loss_fn=build_loss(prepared, config, loss),
        custom_loss=loss is not None,
        batch=run.nonfinite_batch,
        profile=profile,
        evaluation=Evaluation(),
        seconds=time.monotonic() - started + _seconds_before(run),
        provenance=_provenance(run, config, ending, found) | {"neighbors": prepared.neighbors} | provenance,
        cross_validation=_scores(folds, config),
        counterfactual=without,
        study_seconds={} if without is None else {"counterfactual": time.monotonic() - trained},
    )
    try:
        with order.interruptible():
            evidence, report = _examined(evidence, best, run)
    except Interrupted as stop:
        evidence, report = _told(dataclasses.replace(evidence, status=str(stop)), run)
    evaluation = evidence.evaluation or Evaluation()
    result = Result(
        status=evidence.status,
        config=config,
        prepared=_deciding(prepared, evaluation),
        model=best,
        report=report,
        metrics=metrics_of(evaluation, evidence.cross_validation),
        predictions=evaluation.predictions,
        readings=run.readings,
        error=evidence.error,
        seconds=time.monotonic() - started + _seconds_before(run),
        provenance=evidence.provenance,
        folds=folds,
        intervals=evaluation.intervals,
    )
    return Trained(result, evidence, left, ready.chosen)


def _watch(order: Order, ready: Ready, initial: nn.Module) -> Callable[[Run], bool]:
    """What a run asks at ends of epochs where it may be repaired."""

    def watch(run: Run) -> bool:
        evidence = Evidence(
            config=ready.config,
            submitted=to_json(ready.config) if order.asked is None else order.asked,
            readings=run.readings,
            prepared=ready.prepared,
            initial_model=lambda: copy.deepcopy(initial),
            loss_fn=build_loss(ready.prepared, ready.config, order.loss),
            custom_loss=order.loss is not None,
            batch=run.nonfinite_batch,
            profile=order.profile,
        )
        return is_critical(run, evidence, ready.config.health.repair_allow, order)

    return watch


# -------------------------------------------------------------------------------------------------- folds


def _cross_validated(
    folds: Folds | None, order: Order, hooks: Hooks, resume: bytes | bytearray | None
) -> bytes | bytearray | None:
    """Judge the folds, if there are any; the checkpoint, where it is one of the training after them."""
    return resume if folds is None else cross_validate(folds, order, hooks, resume, _resumed)


def _run(order: Order, ready: Ready, hooks: Hooks, folds: Folds | None, repairs: Repairs | None) -> Run:
    """The run that makes the job's own model."""
    if repairs is not None:
        return begun(order, ready, hooks, repairs)
    if folds is None:
        return order.run(ready, hooks)
    told = progress_of(hooks.emit, folds.count, folds.count + 1)
    run = order.run(ready, dataclasses.replace(hooks, emit=told))
    run.folds, run.allowance = folds, folds.share_of(ready.config.budget.max_seconds)
    return run


def _scores(folds: Folds | None, config: TrainConfig) -> Json | None:
    """What the report says of the folds that are through."""
    if folds is None or not folds.done:
        return None
    return folds.report(config.split.kind, getattr(config.split, "repeats", 1))


def _counterfactual(
    order: Order, ready: Ready, run: Run, initial: nn.Module, hooks: Hooks, ending: str
) -> Json | None:
    """The arms of a training that is through, where they are asked for."""
    if not ready.config.health.counterfactual or ending not in (*_STATUS, DIVERGED):
        return None
    run.ending = ending  # from here on a checkpoint goes on with the arms
    return counterfactual(order, ready, run, initial, hooks)


def metrics_of(evaluation: Evaluation, cross_validation: Json | None) -> Json:
    """The metrics of a job, by part, beside its baselines'; means and deviations over folds if it had any."""
    metrics = {"validation": None, "test": None, **evaluation.metrics, "baselines": evaluation.baselines}
    if cross_validation is None:
        return metrics
    names = ("folds", "repeats", "failed", "metrics", "baselines")
    return metrics | {"cross_validation": {name: cross_validation[name] for name in names}}


def with_folds(predictions: dict[str, NDArray[Any]], result: Result) -> dict[str, NDArray[Any]]:
    """Predictions of the test part, with those of the rows held out in folds, if the job had any."""
    if result.folds is None:
        return predictions
    return result.folds.predictions(predictions, result.prepared.classes)


def _seconds_before(run: Run) -> float:
    """Seconds of training of earlier attempts."""
    others = (each.seconds_before for each in (run.folds, run.repairs) if each is not None)
    return run.seconds_before + sum(others)


# ------------------------------------------------------------------------------------------------ outcome


def _resumed(run: Run, data: bytes | bytearray) -> bool:
    """Have the run go on from a checkpoint. False: it cannot, and the run is of no more use."""
    try:
        restore(run, data)
    except UnusableCheckpoint as error:
        message = f"the checkpoint is set aside and the training begins anew: {error}"
        run.hooks.emit("log", {"message": message, "step": 0})
        return False
    epoch, _ = run.position
    run.hooks.emit("resumed", {"step": run.step, "epoch": epoch, "seconds": _seconds_before(run)})
    return True


def _status(ending: str, best: nn.Module | None) -> str:
    status = _STATUS.get(ending, ending)
    return DIVERGED if status == SUCCEEDED and best is None else status


def _examined(evidence: Evidence, best: nn.Module | None, run: Run) -> tuple[Evidence, Json]:
    """The evidence with everything that takes its time, and the report on it."""
    if evidence.status not in _FINISHED or evidence.prepared is None:
        return _told(evidence, run)
    evaluation = evaluate(best, evidence.prepared, evidence.config.seed)
    asked = run.hooks.should_stop() if run.hooks.should_stop is not None else None
    if evidence.status == SUCCEEDED and asked in _STOPPED:
        return _told(dataclasses.replace(evidence, status=asked), run)
    return _told(dataclasses.replace(evidence, model=best, evaluation=evaluation), run)


def _last(run: Run) -> Last:
    """The weights as the optimizer left them, and what it divides by there."""
    divisor = run.optimizer.divisor()
    ordered = None if divisor is None else run.parameters.as_in(run.model, divisor).cpu()
    return Last(copy.deepcopy(run.model).cpu(), ordered)


def _told(evidence: Evidence, run: Run) -> tuple[Evidence, Json]:
    """The evidence with its error, and the report on it."""
    assert evidence.prepared is not None
    evidence = dataclasses.replace(evidence, error=_error(evidence.status, run, evidence.prepared))
    if evidence.status == "cancelled" and run.parameters.values.numel() > _PROMPT:
        evidence = dataclasses.replace(evidence, initial_model=None)
    return evidence, diagnose(evidence)


def _deciding(prepared: Prepared, evaluation: Evaluation) -> Prepared:
    """With what the validation part decided, where a model was judged."""
    return dataclasses.replace(prepared, decision=evaluation.decision or prepared.decision)


def _error(status: str, run: Run, prepared: Prepared) -> Json | None:
    if status == SUCCEEDED:
        return None
    where: Json = {"phase": "train", "step": run.step, "epoch": run.view.epoch}
    if status != DIVERGED:
        message = {"cancelled": "the job was cancelled", "deadline": "the job's time was over"}.get(
            status, status
        )
        return {"code": status, "message": f"{message} at step {run.step}", "where": where}
    event = run.nonfinite_event
    stops = [one["reason"] for one in run.readings.interventions if one["action"] == StopDiverged.name]
    if event is None and stops:
        return {"code": DIVERGED, "message": f"a guard ended the training: {stops[0]}", "where": where}
    if event is None:
        message = "no epoch ended with a finite loss, so there is no model to return"
        return {"code": DIVERGED, "message": message, "where": where}
    where |= {name: event[name] for name in ("step", "epoch", "layer")}
    if (cell := first_bad_cell(prepared, event["rows"])) is not None:
        where |= {"row": cell.row, "line": cell.line, "column": cell.column}
    place = f"in the {event['what']} at step {event['step']}"
    message = f"training diverged: the first value that was not finite is {place}"
    return {"code": DIVERGED, "message": message, "where": where}


def _provenance(run: Run, config: TrainConfig, ending: str, found: Found | None) -> Json:
    cut_short = found is not None and found.record["cut_short"]
    cut_short |= run.folds is not None and run.folds.cut_short
    cut_short |= any(arm["cut_short"] for arm in run.arms)
    unsure = run.chosen_precision is not None and not run.chosen_precision["sure"]
    return {
        "seed": config.seed,
        "precision": config.precision,
        "precision_choice": run.chosen_precision,
        "device": run.device.type,
        "reproducible": ending != "max_seconds" and not cut_short and not unsure,
        "lr_range_test": None if found is None else found.record,
        "resumed_at": run.resumed_at,
        "hardware": {
            "machine": platform.machine(),
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
            "accelerator": torch.cuda.get_device_name() if run.device.type == "cuda" else None,
        },
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    }


def _phase(name: str, fraction: float, run: Run | None = None) -> Json:
    return {
        "phase": name,
        "epoch": run.view.epoch if run else 0,
        "epochs": run.budget.epochs if run else None,
        "step": run.step if run else 0,
        "steps": run.planned_steps if run else None,
        "fraction": fraction,
        "eta_seconds": None,
    }
