"""``train``: prepare → build → fit → evaluate → diagnose, from a table and a config to a Result."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
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
from gradkeel.contract.presets import Shape
from gradkeel.contract.resolve import because, resolve, shape_of, to_json
from gradkeel_worker.data import Prepared, Table, prepare
from gradkeel_worker.data.scalers import AUTO_REASONS
from gradkeel_worker.diagnosis import Evaluation, Evidence, diagnose
from gradkeel_worker.diagnosis.evaluation import evaluate
from gradkeel_worker.diagnosis.provenance import first_bad_cell
from gradkeel_worker.engine.actions import StopDiverged
from gradkeel_worker.engine.build import build, build_loss, choose_device
from gradkeel_worker.engine.checkpoint import Checkpoint, UnusableCheckpoint, chosen_precision
from gradkeel_worker.engine.checkpoint import resume as restore
from gradkeel_worker.engine.pilot import provisional, with_delta
from gradkeel_worker.engine.precision import native
from gradkeel_worker.engine.precision_choice import choose_precision, with_precision
from gradkeel_worker.engine.range_test import Found, find_lr, with_lr
from gradkeel_worker.engine.readings import Readings
from gradkeel_worker.engine.run import Emit, Hooks, Run, silent
from gradkeel_worker.engine.trainer import fit
from gradkeel_worker.interrupts import Interrupted, Released

Json = dict[str, Any]

SUCCEEDED, DIVERGED, RELEASED = "succeeded", "diverged", "released"
_FINISHED = (SUCCEEDED, DIVERGED)
_STOPPED = ("cancelled", "deadline")
_PROMPT = 250_000
"""Parameters of a model that is examined at its first weights even though somebody waits for a cancel."""
_STATUS = {"epochs": SUCCEEDED, "patience": SUCCEEDED, "max_seconds": SUCCEEDED}
"""Status by what ended the fit; the other endings are their own status."""


@dataclass(frozen=True)
class Result:
    """What became of a training.

    ``status``: succeeded, diverged, cancelled or deadline. ``model`` on the CPU in eval mode with the best
    weights, called as ``model(x, c) -> [n, outputs]``; None where no epoch ended with finite numbers.
    ``metrics``: {"validation", "test", "baselines": {"constant", "ridge"}} in target units.
    ``predictions``: arrays of the test part. ``error``: None, or code, message and where.
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
    shape = _shape(data, asked, profile)
    with interruptible():
        prepared = _prepare(data, config if asked is None else resolve(asked, shape))
    config = _decided(prepared, config, asked, shape)
    chosen = _chosen_precision(prepared, config, loss, model, hooks, resume)
    if chosen is not None:
        config = because(with_precision(config, chosen["chosen"]), "/precision", chosen["message"])
    with torch.random.fork_rng():
        found = _found_lr(prepared, config, loss, model, hooks)
    if found is not None:
        config = because(with_lr(config, found.lr), "/optimizer/lr", found.message)
    if loss is None:
        config = with_delta(prepared, config, model=model, should_stop=should_stop, deadline=deadline)
    prepared = dataclasses.replace(prepared, config=config)
    hooks.emit("resolved", {"config": to_json(config)})
    with torch.random.fork_rng():
        run = build(prepared, config, loss=loss, model=model, hooks=hooks)
        initial = copy.deepcopy(run.model).cpu()
        if resume is not None and not _resumed(run, resume):
            run = build(prepared, config, loss=loss, model=model, hooks=hooks)
        run.chosen_precision = chosen
        ending = fit(run)
    if ending == RELEASED:
        raise Released(run.step)
    best = _returned_model(run)
    hooks.emit("progress", _phase("diagnose", 1.0, run))
    evidence = Evidence(
        config=config,
        submitted=to_json(config) if asked is None else asked,
        readings=run.readings,
        status=_status(ending, best),
        prepared=prepared,
        initial_model=lambda: copy.deepcopy(initial),
        loss_fn=build_loss(prepared, config, loss),
        custom_loss=loss is not None,
        batch=run.nonfinite_batch,
        profile=profile,
        evaluation=Evaluation(),
        seconds=time.monotonic() - started + run.seconds_before,
        provenance=_provenance(run, config, ending, found) | (provenance or {}),
    )
    try:
        with interruptible():
            evidence, report = _examined(evidence, best, run)
    except Interrupted as stop:
        evidence, report = _told(dataclasses.replace(evidence, status=str(stop)), run)
    for finding in report["findings"]:
        hooks.emit("finding", {key: finding[key] for key in ("rule", "family", "severity", "where")})
    evaluation = evidence.evaluation or Evaluation()
    return Result(
        status=evidence.status,
        config=config,
        prepared=prepared,
        model=best,
        report=report,
        metrics={"validation": None, "test": None, **evaluation.metrics, "baselines": evaluation.baselines},
        predictions=evaluation.predictions,
        readings=run.readings,
        error=evidence.error,
        seconds=time.monotonic() - started + run.seconds_before,
        provenance=evidence.provenance,
    )


# ---------------------------------------------------------------------------------------- config and data


def _prepare(data: Table | Prepared, config: TrainConfig | Json) -> Prepared:
    if isinstance(data, Prepared):
        return data
    assert isinstance(config, TrainConfig)
    return prepare(data, config)


def _decided(prepared: Prepared, config: TrainConfig | Json, asked: Json | None, shape: Shape) -> TrainConfig:
    """The config with what depends on the data decided: task, target scaling, sizes by preset."""
    if asked is not None:
        config = resolve(asked, dataclasses.replace(shape, task=prepared.task))
    assert isinstance(config, TrainConfig)
    scaling = dataclasses.replace(config.prepare, target=prepared.config.prepare.target)
    if config.prepare.target.kind == "auto":
        config = because(config, "/prepare/target", AUTO_REASONS[scaling.target.kind])
    task: Any = prepared.task
    return dataclasses.replace(config, task=task, prepare=scaling)


def _shape(data: Table | Prepared, asked: Json | None, profile: Json | None) -> Shape:
    """Size of the data for the presets, from the profile where there is one, as the service saw it."""
    if profile is not None and asked is not None:
        return shape_of(resolve(asked), profile)
    if isinstance(data, Prepared):
        rows = sum(len(part) for part in (data.train, data.validation, data.test))
        return Shape(rows=rows, numeric=len(data.inputs), categorical=len(data.categories), task=data.task)
    numeric = sum(column.type == "numeric" for column in data.columns.values())
    return Shape(rows=len(data), numeric=numeric, categorical=len(data.columns) - numeric)


def _chosen_precision(
    prepared: Prepared,
    config: TrainConfig,
    loss: Any,
    model: Any,
    hooks: Hooks,
    resume: bytes | bytearray | None,
) -> Json | None:
    """What "auto" stands for, told in a log event; None where the precision is given. A training that goes on
    keeps to what it had chosen."""
    if config.precision != "auto":
        _warn_if_emulated(config, hooks)
        return None
    chosen = None if resume is None else chosen_precision(resume)
    if chosen is None:
        trial = provisional(with_lr(with_precision(config, "float32"), 0.0))
        with torch.random.fork_rng():
            run = build(prepared, trial, loss=loss, model=model, probes=())
            chosen = choose_precision(run, lambda: _stopped(hooks))
    hooks.emit("log", {"message": chosen["message"], "step": 0, "precision": chosen["chosen"]})
    return chosen


def _warn_if_emulated(config: TrainConfig, hooks: Hooks) -> None:
    device = choose_device(config.device)
    if not native(config.precision, device):
        message = f"this {device.type} emulates {config.precision}: steps take longer than in float32"
        hooks.emit("log", {"message": message, "step": 0, "precision": config.precision})


def _stopped(hooks: Hooks) -> bool:
    """Whether the training is to end before it has begun."""
    asked = None if hooks.should_stop is None else hooks.should_stop()
    return asked is not None or (hooks.deadline is not None and time.monotonic() >= hooks.deadline)


def _found_lr(prepared: Prepared, config: TrainConfig, loss: Any, model: Any, hooks: Hooks) -> Found | None:
    """The learning rate that "auto" stands for, told in a log event; None where it is a number already."""
    if config.optimizer.lr != "auto":  # type: ignore[comparison-overlap]
        return None

    def built(tried: TrainConfig) -> Run:
        return build(prepared, provisional(tried), loss=loss, model=model, probes=())

    found = find_lr(config, built, lambda: _stopped(hooks))
    hooks.emit("log", {"message": found.message, "step": 0, "lr": found.lr, "lr_range_test": found.record})
    return found


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
    run.hooks.emit("resumed", {"step": run.step, "epoch": epoch, "seconds": run.seconds_before})
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


def _told(evidence: Evidence, run: Run) -> tuple[Evidence, Json]:
    """The evidence with its error, and the report on it."""
    assert evidence.prepared is not None
    evidence = dataclasses.replace(evidence, error=_error(evidence.status, run, evidence.prepared))
    if evidence.status == "cancelled" and run.parameters.values.numel() > _PROMPT:
        evidence = dataclasses.replace(evidence, initial_model=None)
    return evidence, diagnose(evidence)


def _returned_model(run: Run) -> nn.Module | None:
    """The model with the best weights, in memory of its own, on the CPU, in eval mode."""
    best = run.keeper.restore()
    run.parameters.release()
    return None if best is None else run.model.cpu().eval()


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
