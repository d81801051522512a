"""``train``: prepare → build → fit → evaluate → diagnose, from a table and a config to a Result."""

from __future__ import annotations

import copy
import dataclasses
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gradkeel.contract.config import TrainConfig
from gradkeel.contract.presets import Shape
from gradkeel.contract.resolve import resolve, shape_of, to_json
from gradkeel_worker.data import Prepared, Table, prepare
from gradkeel_worker.diagnosis import Evaluation, Evidence, diagnose
from gradkeel_worker.diagnosis.evaluation import evaluate
from gradkeel_worker.diagnosis.provenance import first_bad_cell
from gradkeel_worker.engine.build import build, build_loss
from gradkeel_worker.engine.readings import Readings
from gradkeel_worker.engine.run import Emit, Hooks, Run, silent
from gradkeel_worker.engine.trainer import fit

Json = dict[str, Any]

SUCCEEDED, DIVERGED = "succeeded", "diverged"
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
    spool: Callable[[Readings], None] | None = None,
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
            training with that status.
        spool: given the readings so far at ends of epochs and at least every two seconds.
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
    """
    started = time.monotonic()
    hooks = Hooks(on_event or silent, should_stop, spool, deadline)
    hooks.emit("progress", _phase("prepare", 0.0))
    asked = config if isinstance(config, dict) else submitted
    shape = _shape(data, asked, profile)
    prepared = _prepare(data, config if asked is None else resolve(asked, shape))
    config = _decided(prepared, config, asked, shape)
    prepared = dataclasses.replace(prepared, config=config)
    hooks.emit("resolved", {"config": to_json(config)})
    with torch.random.fork_rng():
        run = build(prepared, config, loss=loss, model=model, hooks=hooks)
        initial = copy.deepcopy(run.model).cpu()
        ending = fit(run)
    best = _returned_model(run)
    status = _STATUS.get(ending, ending)
    status = DIVERGED if status == SUCCEEDED and best is None else status
    hooks.emit("progress", _phase("diagnose", 1.0, run))
    evaluation = evaluate(best, prepared, config.seed) if status in (SUCCEEDED, DIVERGED) else Evaluation()
    if status == SUCCEEDED and should_stop is not None:
        status = should_stop() or SUCCEEDED
    error = _error(status, run, prepared)
    finished = status in (SUCCEEDED, DIVERGED)
    origin = _provenance(run, config, ending) | (provenance or {})
    report = diagnose(
        Evidence(
            config=config,
            submitted=to_json(config) if asked is None else asked,
            readings=run.readings,
            status=status,
            prepared=prepared,
            model=best if finished else None,
            initial_model=lambda: copy.deepcopy(initial),
            loss_fn=build_loss(prepared, config, loss),
            custom_loss=loss is not None,
            batch=run.nonfinite_batch,
            profile=profile,
            evaluation=evaluation if finished else Evaluation(),
            error=error,
            seconds=time.monotonic() - started,
            provenance=origin,
        )
    )
    for finding in report["findings"]:
        hooks.emit("finding", {key: finding[key] for key in ("rule", "family", "severity", "where")})
    return Result(
        status=status,
        config=config,
        prepared=prepared,
        model=best,
        report=report,
        metrics={"validation": None, "test": None, **evaluation.metrics, "baselines": evaluation.baselines},
        predictions=evaluation.predictions,
        readings=run.readings,
        error=error,
        seconds=time.monotonic() - started,
        provenance=origin,
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


# ------------------------------------------------------------------------------------------------ outcome


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
    if event is None:
        message = "no epoch ended with a finite loss, so there is no model to return"
        return {"code": DIVERGED, "message": message, "where": where}
    where |= {name: event[name] for name in ("step", "epoch", "layer")}
    if (cell := first_bad_cell(prepared, event["rows"])) is not None:
        where |= {"row": cell.row, "line": cell.line, "column": cell.column}
    place = f"in the {event['what']} at step {event['step']}"
    message = f"training diverged: the first value that was not finite is {place}"
    return {"code": DIVERGED, "message": message, "where": where}


def _provenance(run: Run, config: TrainConfig, ending: str) -> Json:
    return {
        "seed": config.seed,
        "precision": config.precision,
        "device": run.device.type,
        "reproducible": ending != "max_seconds",
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
