"""The bodies of training and report children: a table and a config in, a model and a report out.

Everything is left as files in the work folder; ``outcome.py`` names them.
"""

import json
import os
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from gradkeel.contract.config import TrainConfig
from gradkeel.contract.errors import ConfigError
from gradkeel.contract.resolve import check_data, parameter_count, resolve, shape_of, to_json
from gradkeel.contract.states import Phase
from gradkeel_store.page import render_report
from gradkeel_worker import outcome
from gradkeel_worker.child import Channel
from gradkeel_worker.data import Table
from gradkeel_worker.data.kept import Kept
from gradkeel_worker.data.read import bytes_in_memory, read_table
from gradkeel_worker.data.storage import MEMORY, MIB, Scratch, Storage, check_room
from gradkeel_worker.diagnosis import partial_report
from gradkeel_worker.diagnosis.evaluation import evaluate
from gradkeel_worker.engine import Result
from gradkeel_worker.engine import train as run_engine
from gradkeel_worker.engine.checkpoint import Checkpoint
from gradkeel_worker.engine.readings import Readings
from gradkeel_worker.engine.training import metrics_of, with_folds
from gradkeel_worker.export import write_bundle
from gradkeel_worker.export.earlier import read_earlier
from gradkeel_worker.failures import NeedsMemory
from gradkeel_worker.interrupts import Interrupted, Released
from gradkeel_worker.kept import STOPPED, with_model_told
from gradkeel_worker.outcome import Outcome
from gradkeel_worker.series import write_predictions, write_series

Json = dict[str, Any]

FLOPS_PER_WEIGHT = 6
"""Forward and backward, for each weight and row."""

SMALL_STEP = 5e7
"""Floating-point operations of a step that one thread does in about a millisecond."""

EMBEDDED = 8
"""Inputs that a categorical column makes, roughly."""


MEMORY_SHARE = 0.25
"""Part of the job's memory that its table may take; preparing and training need the rest."""

LEAST_BYTES, BYTES_A_ROW = 160 * MIB, 96
"""What a job takes whose columns are in files, as measured: libraries at work, positions of rows, the target,
a column at a time."""


def train(work: Path, channel: Channel) -> Outcome:
    """Train the job that `job.json` describes on `table.parquet`.

    Raises:
        ConfigError, DataError: the data cannot be used as the config asks.
    """
    job = json.loads((work / outcome.JOB).read_text(encoding="utf-8"))
    config = decided_config(job["submitted"], job["profile"], job["max_parameters"])
    torch.set_num_threads(_threads(config, job["profile"], job["threads"]))
    try:
        with channel.interruptible():
            table = table_of(work, job, config)
        result = run_engine(
            table,
            config,
            on_event=channel.event,
            should_stop=channel.should_stop,
            interruptible=channel.interruptible,
            spool=lambda readings: outcome.write_bytes(work / outcome.READINGS, readings.to_bytes()),
            on_checkpoint=_writer(work, channel),
            checkpoint_seconds=job["checkpoint_seconds"],
            resume=_checkpoint(work),
            profile=job["profile"],
            submitted=job["submitted"],
            provenance=job["provenance"],
            earlier=_earlier(work),
        )
    except Released:
        return Outcome("released")
    except Interrupted as stop:
        return _leave_word(Readings(), job | {"status": str(stop), "error": None}, work)
    last = result.readings.epochs[-1]["epoch"] if result.readings.epochs else 0
    taken = int(result.readings.steps[-1]) + 1 if len(result.readings.steps) else 0
    channel.event("progress", _progress(Phase.EXPORT, result.config, epoch=last, step=taken, fraction=1.0))
    return _leave_in_time(result, job, work) if result.status in STOPPED else _leave(result, job, work)


def decided_config(submitted: Json, profile: Json, max_parameters: int) -> TrainConfig:
    """The config decided on the data, which may not have been read yet when the job was submitted."""
    rough = resolve(submitted)
    config = resolve(submitted, shape_of(rough, profile))
    faults = check_data(config, profile, max_parameters)
    if faults:
        raise ConfigError(faults)
    return config


def table_of(work: Path, job: Json, config: TrainConfig) -> Table:
    """The job's table, in memory or, where it is too large for that, in files that end with this process."""
    return read_table(work / outcome.TABLE, job["profile"], config, _storage(work, job, config))


def _storage(work: Path, job: Json, config: TrainConfig) -> Storage:
    """Memory for small tables. A larger one's preparation is the same to the bit, wherever it is kept."""
    needed, allowed = bytes_in_memory(job["profile"], config), job["memory_mb"] * MIB
    if needed <= min(job["in_memory_mb"] * MIB, MEMORY_SHARE * allowed):
        return MEMORY
    rows = job["profile"]["rows"]
    if (least := LEAST_BYTES + rows * BYTES_A_ROW) > allowed:
        raise NeedsMemory(
            f"a table of {rows:,} rows needs about {least // MIB:,} MiB even where its columns are kept in "
            f"files, and the job may use {job['memory_mb']:,}: raise budget.max_memory_mb or the worker's "
            "GRADKEEL_JOB_MEMORY_MB, or upload fewer rows"
        )
    check_room(work, needed)
    return Scratch(work)


def _threads(config: TrainConfig, profile: Json, available: int) -> int:
    """One thread for small steps: sharing those out costs more than it saves."""
    shape = shape_of(config, profile)
    parameters = parameter_count(config.model, shape.numeric + EMBEDDED * shape.categorical, 1)
    multiplications = FLOPS_PER_WEIGHT * parameters * config.budget.batch_size
    return available if multiplications > SMALL_STEP else 1


def _checkpoint(work: Path) -> bytearray | None:
    """The bytes to go on from, if there are any."""
    try:
        with (work / outcome.CHECKPOINT).open("rb") as file:
            data = bytearray(os.fstat(file.fileno()).st_size)
            file.readinto(data)
            return data
    except FileNotFoundError:
        return None


def _earlier(work: Path) -> Kept | None:
    """The model to begin with, if there is one."""
    path = work / outcome.EARLIER
    return read_earlier(path) if path.exists() else None


def _writer(work: Path, channel: Channel) -> Callable[[Checkpoint], None]:
    """Leaves checkpoints in the work folder; the object store makes them outlast a loss of power."""

    def write(checkpoint: Checkpoint) -> None:
        try:
            with outcome.whole(work / outcome.CHECKPOINT) as partial, partial.open("wb") as file:
                file.writelines(checkpoint.chunks())
        except OSError:
            traceback.print_exc()  # the training itself needs no disk; the next one may fit
        else:
            channel.event("checkpoint", {"step": checkpoint.step, "epoch": checkpoint.epoch})

    return write


def _progress(
    phase: Phase, config: TrainConfig, *, epoch: int = 0, step: int = 0, fraction: float = 0.0
) -> Json:
    return {
        "phase": phase,
        "epoch": epoch,
        "epochs": config.budget.epochs,
        "step": step,
        "fraction": fraction,
        "eta_seconds": None,
    }


def _leave(result: Result, job: Json, work: Path) -> Outcome:
    outcome.write_json(work / outcome.REPORT, result.report)
    _write_series(result.readings, work)
    _write_predictions(result, work)
    return _outcome(result, _write_model(result, job, work) if result.model else None)


def _leave_in_time(result: Result, job: Json, work: Path) -> Outcome:
    """What a stopped job leaves: first what is at hand, then its last good model, if the time allows.

    The supervisor kills this process soon. Then the outcome that was written first stands; as it does where
    the model cannot be exported.
    """
    outcome.write_json(work / outcome.REPORT, result.report)
    _write_series(result.readings, work)
    without_model = _outcome(result, None)
    without_model.write(work)
    if result.model is None:
        return without_model
    try:
        return _leave_model(_evaluated(result), job, work)
    except Exception:
        traceback.print_exc()
        return without_model


def _leave_model(result: Result, job: Json, work: Path) -> Outcome:
    stopped = result.status in STOPPED
    report = with_model_told(result.report, result.status, kept=True) if stopped else result.report
    model = _write_model(replace(result, report=report), job, work)
    _write_predictions(result, work)
    outcome.write_json(work / outcome.REPORT, result.report)
    return _outcome(result, model)


def _evaluated(result: Result) -> Result:
    """The result with the metrics and predictions of its model. Findings do not rest on them: a training that
    was cut short is not judged by how far it came."""
    found = evaluate(result.model, result.prepared, result.config.seed, detailed=False)
    told = {"metrics": found.metrics, "part": found.part, "intervals": found.intervals}
    fit = (result.report["fit"] or {}) | told | found.details
    return replace(
        result,
        prepared=replace(result.prepared, decision=found.decision or result.prepared.decision),
        report=result.report | {"fit": fit},
        metrics=metrics_of(found, fit.get("cross_validation")),
        predictions=with_folds(found.predictions, result),
        intervals=found.intervals,
    )


def _write_series(readings: Readings, work: Path) -> None:
    with outcome.whole(work / outcome.SERIES) as partial:
        write_series(readings, partial)


def _write_predictions(result: Result, work: Path) -> None:
    if len(result.predictions.get("row", ())):
        with outcome.whole(work / outcome.PREDICTIONS) as partial:
            write_predictions(result.predictions, result.prepared, partial)


def _outcome(result: Result, model: Json | None) -> Outcome:
    return Outcome(
        result.status,
        error=result.error,
        verdict=result.report["verdict"],
        metrics=result.metrics,
        model=model,
    )


def _write_model(result: Result, job: Json, work: Path) -> Json:
    page = render_report(result.report, title=f"{job['title']}: {result.config.target_text}")
    write_bundle(
        result,
        work / outcome.BUNDLE,
        dataset=job["dataset"],
        job_id=job["job_id"],
        created_at=job["created_at"],
        report_html=page,
        onnx=work / outcome.ONNX,
        safetensors=work / outcome.SAFETENSORS,
    )
    prepared = result.prepared
    features = [
        {"name": s.name, "type": s.type, "required": s.required} for s in prepared.preparation.sources
    ]
    roles = [
        {"name": s.name, "type": s.type, "required": True, "role": role}
        for role, s in prepared.series.items()
    ]
    return {
        "target": result.config.target_text,
        "task": result.config.task,
        "columns": features + roles,
        "classes": list(result.prepared.classes) if result.prepared.classes else None,
        "config": to_json(result.config),
    }


def report_from_readings(work: Path) -> Outcome:
    """The report of a job whose child did not get to write one, from the readings that it kept."""
    job = json.loads((work / outcome.JOB).read_text(encoding="utf-8"))
    readings = _kept_readings(work)
    known = _leave_word(readings, job, work)
    known.write(work)  # it stands should the time not allow for more
    try:
        return _leave_last_good_model(readings, job, work) or known
    except Exception:
        traceback.print_exc()
        return known


def _leave_word(readings: Readings, job: Json, work: Path) -> Outcome:
    """The report on readings alone, of a job that ended as its ``status`` says."""
    rough = resolve(job["submitted"])
    report = partial_report(
        readings,
        resolve(job["submitted"], shape_of(rough, job["profile"])),
        job["submitted"],
        job["status"],
        job["error"],
        profile=job["profile"],
        provenance=job["provenance"],
    )
    outcome.write_json(work / outcome.REPORT, report)
    if len(readings.steps):
        _write_series(readings, work)
    return Outcome(job["status"], verdict=report["verdict"])


def _leave_last_good_model(readings: Readings, job: Json, work: Path) -> Outcome | None:
    """The best model of the last checkpoint, if any: the training goes on from there and stops at once."""
    data = _checkpoint(work)
    if data is None:
        return None
    config = decided_config(job["submitted"], job["profile"], job["max_parameters"])
    result = run_engine(
        table_of(work, job, config),
        config,
        should_stop=lambda: job["status"],
        resume=data,
        profile=job["profile"],
        submitted=job["submitted"],
        earlier=_earlier(work),
    )
    if result.model is None:
        return None
    if len(readings.steps) < len(result.readings.steps):
        readings = result.readings
        _leave_word(readings, job, work)
    report = json.loads((work / outcome.REPORT).read_text(encoding="utf-8"))
    report["fit"] = (report["fit"] or {}) | {"best_epoch": result.readings.best_epoch}
    return _leave_model(_evaluated(replace(result, status=job["status"], report=report)), job, work)


def _kept_readings(work: Path) -> Readings:
    """Nothing kept, or nothing that can be read, makes a report without steps."""
    try:
        return Readings.from_bytes((work / outcome.READINGS).read_bytes())
    except (FileNotFoundError, ValueError, KeyError):
        return Readings()
