"""Jobs from claim to end, each with a real child."""

import io
import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from gradkeel.local import load
from gradkeel_store.events import Event
from gradkeel_store.queue import make_celery
from gradkeel_store.records import JobRow
from gradkeel_store.settings import Settings
from gradkeel_worker import watch
from gradkeel_worker.signals import Stop
from gradkeel_worker.worker import Worker
from processes import wait_for_exit

from .conftest import ENDLESS, Desk, numbers, training_processes

Start = Callable[[Settings], Worker]
US = os.getpid()
MANY = 60_000
SLOW_EXPORT: dict[str, Any] = {
    "model": {"kind": "mlp", "widths": [1500, 1500]},
    "budget": {"epochs": 1, "batch_size": 64},
}


def kill_training() -> None:
    """kill -9 of the one child that trains."""
    (child,) = training_processes(US)
    os.kill(child, signal.SIGKILL)


def halt_training() -> int:
    """kill -STOP of the one child that trains: its pid."""
    (child,) = training_processes(US)
    os.kill(child, signal.SIGSTOP)
    return child


def in_phase(phase: str) -> Callable[[Event], bool]:
    return lambda event: event.name == "progress" and event.data["phase"] == phase


def assert_model_kept(desk: Desk, ended: JobRow) -> None:
    """A stopped job's model is a whole one, and the report says which it is."""
    assert ended.model_id is not None and ended.predictions_digest is not None
    model = desk.records.get_model(desk.project, ended.model_id)
    loaded = load(desk.objects.read(model.digests["bundle"].removeprefix("sha256:")))
    assert np.isfinite(loaded.predict({"a": [0.5], "b": [1.0]}).values).all()
    report = desk.report(ended)
    assert f"that of epoch {report['fit']['best_epoch'] + 1}, was kept." in report["summary"]
    assert max(report["series"]["steps"]) > 0
    assert report["fit"]["metrics"]["test"]["rmse"] == model.metrics["test"]["rmse"]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that was told to stop has as long as it needs, however busy the machine is."""
    monkeypatch.setattr(watch, "GRACE_SECONDS", dict.fromkeys(Stop, 60.0))


def test_a_job_runs_without_any_broker(lonely: Settings, start_worker: Start) -> None:
    desk = Desk(lonely)
    dataset = desk.upload(numbers())
    job = desk.submit(dataset, budget={"epochs": 5})
    start_worker(lonely)
    ended = desk.end(job)
    assert (ended.state, ended.error, ended.attempt, ended.interruptions) == ("succeeded", None, 1, 0)
    assert desk.report(ended)["verdict"] == ended.verdict
    assert ended.model_id is not None and ended.metrics is not None
    model = desk.records.get_model(desk.project, ended.model_id)
    assert (model.target, model.task) == ("y", "regression")
    assert {form: desk.objects.exists(digest) for form, digest in model.digests.items()} == {
        "bundle": True,
        "onnx": True,
        "safetensors": True,
    }
    assert [c["name"] for c in model.columns] == ["a", "b"]
    desk.records.close()


def test_what_a_job_leaves(desk: Desk, worker: Worker) -> None:
    job = desk.submit(desk.upload(numbers()), budget={"epochs": 3, "batch_size": 32})
    ended = desk.end(job)
    assert ended.series_digest is not None and ended.predictions_digest is not None
    series = pq.read_table(io.BytesIO(desk.objects.read(ended.series_digest)))
    assert series.column("step").to_pylist() == list(range(series.num_rows))
    assert {"loss", "global_norm", "clipped_norm", "lr"} <= set(series.column_names)
    lines = desk.objects.read(ended.predictions_digest).decode().splitlines()
    assert lines[0] == "row,actual,prediction"
    assert len(lines) - 1 == 30
    messages = [json.loads(line)["message"] for line in desk.logs(ended).splitlines()]
    assert messages[0] == "the job was claimed"
    assert ended.config["task"] == "regression"
    events = list(desk.follow(job))
    assert events[0].name == "state" and events[-1].name == "end"
    epochs = [event.data["epoch"] for event in events if event.name == "epoch"]
    assert (epochs[0], epochs[-1]) == (0, 2)  # those that follow fast on one another are not all told


def test_a_job_waits_for_its_data(desk: Desk, connected: Settings, start_worker: Start) -> None:
    dataset = desk.upload(numbers())
    job = desk.submit(dataset, budget={"epochs": 1})
    assert (dataset.state, job.state) == ("ingesting", "queued")
    start_worker(connected)
    assert desk.end(job).state == "succeeded"
    ready = desk.records.get_dataset(desk.project, dataset.id)
    assert (ready.state, ready.rows) == ("ready", 200)
    assert ready.columns == [{"name": n, "type": "numeric", "missing": 0} for n in "aby"]


def test_rejected_data_fails_the_job_that_waits_for_it(desk: Desk, worker: Worker) -> None:
    dataset = desk.upload("a,b,y\n1,2,3\n4,5\n")
    job = desk.submit(dataset)
    ended = desk.end(job)
    assert (ended.state, (ended.error or {})["code"]) == ("failed", "bad_data")
    rejected = desk.records.get_dataset(desk.project, dataset.id)
    assert rejected.error is not None
    assert rejected.error["errors"][0] == {
        "code": "ragged_row",
        "detail": "line 3 has 2 fields where 3 are expected",
        "row": 1,
        "line": 3,
    }


@pytest.mark.parametrize(
    ("rows", "config", "where"),
    [
        (["1,2,3"] * 30, {}, "one value"),
        ([f"{i},{i},{i}" for i in range(30)], {"columns": {"include": ["nowhere"]}}, "nowhere"),
        (
            [*(f"{i},{i},{i}" for i in range(30)), "oops,1,2"],
            {"columns": {"types": {"a": "numeric"}}},
            "oops",
        ),
    ],
)
def test_data_that_does_not_suit_the_config(
    desk: Desk, worker: Worker, rows: list[str], config: dict[str, Any], where: str
) -> None:
    job = desk.submit(desk.upload("\n".join(["a,b,y", *rows])), **config)
    ended = desk.end(job)
    assert ended.error is not None
    assert (ended.state, ended.error["code"]) == ("failed", "bad_data")
    assert where in ended.error["message"]
    assert desk.report(ended)["series"]["steps"] == []


def test_cancel_mid_training_keeps_the_last_good_model(desk: Desk, worker: Worker, patient: None) -> None:
    job = desk.submit(desk.upload(numbers()), budget=ENDLESS)
    seen = desk.mid_training(job)
    assert desk.records.request_cancel(desk.project, job.id).cancel_requested
    ended = desk.end(job)
    assert (ended.state, ended.error, ended.fence) == ("cancelled", None, seen.data["fence"])
    assert not training_processes(US)
    assert_model_kept(desk, ended)


def test_cancel_before_the_first_good_model(desk: Desk, worker: Worker, patient: None) -> None:
    job = desk.submit(desk.upload(numbers(MANY)), budget=ENDLESS | {"batch_size": 1})
    desk.until(job, lambda event: event.name == "reading")
    desk.records.request_cancel(desk.project, job.id)
    ended = desk.end(job)
    assert (ended.state, ended.model_id, ended.metrics and ended.metrics["test"]) == ("cancelled", None, None)
    report = desk.report(ended)
    assert report["series"]["steps"]
    assert "No model was kept, for none was ready." in report["summary"]


def test_cancel_while_preparing(desk: Desk, worker: Worker) -> None:
    job = desk.submit(desk.upload(numbers(MANY)), budget=ENDLESS | {"batch_size": 1})
    desk.until(job, in_phase("prepare"))
    halt_training()  # what is under way takes for ever
    desk.records.request_cancel(desk.project, job.id)
    ended = desk.end(job)
    assert (ended.state, ended.model_id) == ("cancelled", None)
    assert not training_processes(US)
    assert "No model was kept" in desk.report(ended)["summary"]


def test_cancel_where_the_model_does_not_come_in_time(desk: Desk, worker: Worker) -> None:
    job = desk.submit(desk.upload(numbers()), budget=ENDLESS)
    desk.mid_training(job)
    halt_training()
    desk.records.request_cancel(desk.project, job.id)
    ended = desk.end(job)
    assert (ended.state, ended.model_id, ended.metrics) == ("cancelled", None, None)
    report = desk.report(ended)
    assert report["series"]["steps"] and report["verdict"] == ended.verdict is not None
    assert "No model was kept" in report["summary"]


def test_cancel_while_diagnosing(desk: Desk, worker: Worker, patient: None) -> None:
    """The diagnosis ends there and then; the model is there already and is kept."""
    held_out = {"kind": "random", "validation": 0.45, "test": 0.45}  # what the diagnosis takes its time for
    table = desk.upload(numbers(4 * MANY))
    job = desk.submit(table, split=held_out, budget={"epochs": 1, "batch_size": 256})
    desk.until(job, in_phase("diagnose"))
    desk.records.request_cancel(desk.project, job.id)
    (holding,) = worker.parts.holdings.all()
    holding.stop.request(Stop.CANCELLED)
    ended = desk.end(job)
    assert (ended.state, ended.error) == ("cancelled", None)
    assert_model_kept(desk, ended)
    report = desk.report(ended)
    assert report["fit"]["stopped_by"] == "epochs"
    assert not report["fit"]["baselines"]


def test_cancel_while_exporting(desk: Desk, worker: Worker, patient: None) -> None:
    job = desk.submit(desk.upload(numbers()), **SLOW_EXPORT)
    desk.until(job, in_phase("export"))
    child = halt_training()
    desk.records.request_cancel(desk.project, job.id)
    (holding,) = worker.parts.holdings.all()
    holding.stop.request(Stop.CANCELLED)
    os.kill(child, signal.SIGCONT)
    ended = desk.end(job)
    assert (ended.state, ended.error) == ("cancelled", None)
    assert ended.metrics is not None and ended.metrics["test"]["rmse"] > 0
    assert_model_kept(desk, ended)


def test_cancel_while_exporting_takes_too_long(desk: Desk, worker: Worker) -> None:
    job = desk.submit(desk.upload(numbers()), **SLOW_EXPORT)
    desk.until(job, in_phase("export"))
    halt_training()
    desk.records.request_cancel(desk.project, job.id)
    ended = desk.end(job)
    assert (ended.state, ended.model_id) == ("cancelled", None)
    report = desk.report(ended)
    assert report["verdict"] == ended.verdict is not None
    assert report["provenance"]["status"] == "cancelled"
    assert "that of epoch 1 was not exported in time." in report["summary"]


def test_a_killed_child_is_started_again(desk: Desk, worker: Worker) -> None:
    job = desk.submit(desk.upload(numbers()), budget=ENDLESS | {"epochs": 300})
    seen = desk.mid_training(job)
    kill_training()
    ended = desk.end(job)
    assert (ended.state, ended.attempt, ended.interruptions) == ("succeeded", 2, 1)
    assert ended.fence == seen.data["fence"] + 1
    assert ended.model_id is not None
    assert sum(event.ends for event in desk.follow(job)) == 1


def test_a_poison_job_fails_after_its_attempts_with_a_report(
    connected: Settings, start_worker: Start
) -> None:
    settings = replace(connected, max_attempts=2)
    desk = Desk(settings)
    start_worker(settings)
    job = desk.submit(desk.upload(numbers()), budget=ENDLESS)
    first = desk.mid_training(job)
    kill_training()
    desk.mid_training(job, after=(first.data["fence"] + 1) << 32)
    kill_training()
    ended = desk.end(job)
    assert ended.error is not None
    assert (ended.state, ended.error["code"], ended.attempt) == ("failed", "worker_lost", 2)
    assert desk.report(ended)["series"]["steps"]
    assert "-9" in desk.logs(ended)
    desk.records.close()


def test_too_little_memory_is_told_as_such(connected: Settings, start_worker: Start) -> None:
    desk = Desk(connected)
    start_worker(connected)
    job = desk.submit(
        desk.upload(numbers()),
        model={"kind": "mlp", "widths": [6000, 6000]},
        budget={"epochs": 1, "max_memory_mb": 256},
    )
    ended = desk.end(job)
    assert ended.error is not None
    assert (ended.state, ended.error["code"]) == ("failed", "out_of_memory")
    assert desk.report(ended)["schema_version"]
    desk.records.close()


def test_the_workers_own_deadline(connected: Settings, start_worker: Start, patient: None) -> None:
    settings = replace(connected, job_max_seconds=3.0)
    desk = Desk(settings)
    start_worker(settings)
    ended = desk.end(desk.submit(desk.upload(numbers()), budget=ENDLESS))
    assert ended.error is not None
    assert (ended.state, ended.error["code"]) == ("failed", "deadline")
    assert_model_kept(desk, ended)
    desk.records.close()


def test_divergence_ends_with_a_report(desk: Desk, worker: Worker) -> None:
    job = desk.submit(
        desk.upload(numbers()),
        optimizer={"kind": "sgd", "lr": 1e6},
        loss={"kind": "mse"},
        clips=[],
        guards=[],
        budget={"epochs": 20, "batch_size": 16},
    )
    ended = desk.end(job)
    assert ended.error is not None
    assert (ended.state, ended.error["code"], ended.verdict) == ("failed", "diverged", "diverged")
    assert desk.report(ended)["findings"]


def test_a_stopping_worker_gives_its_jobs_back(desk: Desk, connected: Settings) -> None:
    worker = Worker(connected)
    worker.start()
    job = desk.submit(desk.upload(numbers()), budget=ENDLESS | {"epochs": 400})
    desk.mid_training(job)
    worker.close()
    back = desk.job(job)
    assert (back.state, back.attempt, back.interruptions) == ("queued", 0, 0)
    assert not training_processes(US)
    assert desk.records.live_workers() == []
    second = Worker(connected)
    try:
        second.start()
        assert desk.end(job).state == "succeeded"
    finally:
        second.close()


def test_a_lost_lease_ends_the_child_and_writes_nothing(desk: Desk, worker: Worker) -> None:
    job = desk.submit(desk.upload(numbers()), budget=ENDLESS)
    seen = desk.mid_training(job)
    (child,) = training_processes(US)
    with desk.records._write() as connection:  # what a reaper and another worker would do, in one step
        connection.exec_driver_sql("UPDATE jobs SET fence = fence + 1, lease_owner = 'another'")
    assert wait_for_exit(child)
    worker.close()
    held = desk.job(job)
    assert (held.state, held.fence, held.lease_owner) == ("running", seen.data["fence"] + 1, "another")


def test_two_jobs_at_a_time_and_no_more(connected: Settings, start_worker: Start) -> None:
    settings = replace(connected, worker_concurrency=2)
    desk = Desk(settings)
    start_worker(settings)
    dataset = desk.upload(numbers())
    jobs = [desk.submit(dataset, budget=ENDLESS) for _ in range(3)]
    for job in jobs[:2]:
        desk.mid_training(job)
    assert desk.job(jobs[2]).state == "queued"
    desk.records.request_cancel(desk.project, jobs[0].id)
    desk.mid_training(jobs[2])
    assert [desk.end(job).state for job in jobs[:1]] == ["cancelled"]
    desk.records.close()


def test_uploads_are_read_while_a_job_trains(desk: Desk, worker: Worker) -> None:
    long = desk.submit(desk.upload(numbers()), budget=ENDLESS)
    desk.mid_training(long)
    rejected = desk.upload("a,a\n1,2\n")
    waiting = desk.submit(rejected)
    assert desk.end(waiting).state == "failed"
    assert desk.job(long).state == "running"


def test_a_worker_says_what_it_offers(desk: Desk, worker: Worker) -> None:
    (row,) = desk.records.live_workers()
    assert row.id == worker.owner
    assert row.info["devices"][0] == "cpu"


def test_a_ring_wakes_a_worker_that_hardly_polls(connected: Settings) -> None:
    """See tests/system for the same through Celery; here the ring is the worker's own."""
    settings = replace(connected, poll_seconds=600.0)
    assert make_celery(settings).conf.task_ignore_result
    desk = Desk(settings)
    worker = Worker(settings)
    try:
        worker.start()
        job = desk.submit(desk.upload(numbers()), budget={"epochs": 1})
        worker.wake()
        assert desk.end(job).state == "succeeded"
    finally:
        worker.close()
        desk.records.close()
