"""Checkpoints of jobs, from the child to the object store and back, with a real worker and children."""

import copy
import json
import os
import signal
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gradkeel_store.objects import LocalObjects
from gradkeel_store.records import JobRow
from gradkeel_store.settings import Settings
from gradkeel_worker import watch
from gradkeel_worker.signals import Stop
from gradkeel_worker.worker import Worker
from processes import wait_for_exit

from .conftest import ENDLESS, Desk, numbers, training_processes

Start = Callable[[Settings], Worker]
US = os.getpid()
SOME: dict[str, Any] = {"budget": {"epochs": 150, "batch_size": 16, "patience": 0}, "seed": 5}


@pytest.fixture
def connected(connected: Settings) -> Settings:
    return replace(connected, checkpoint_seconds=0.1)


def saved(desk: Desk, job: JobRow, after: int = 0) -> JobRow:
    """Wait until a checkpoint of the job is named: its row."""
    for _ in desk.follow(job, after):
        if (row := desk.job(job)).checkpoint is not None:
            return row
    raise AssertionError(f"the job ended first: {desk.job(job)}")


def checkpoints(desk: Desk) -> list[str]:
    """Stored objects that are checkpoints."""
    marked = b"gradkeel-checkpoint"
    return [digest for digest, _ in desk.objects.list() if marked in desk.objects.read(digest)[:500]]


def comparable(desk: Desk, job: JobRow) -> Any:
    report = copy.deepcopy(desk.report(job))
    del report["cost"], report["provenance"], report["fit"]["seconds"]
    model = desk.records.get_model(desk.project, str(job.model_id))
    return report, model.digests["safetensors"], job.metrics


def interrupted(desk: Desk, settings: Settings, **config: Any) -> JobRow:
    """A job that a stopping worker has given back, with its checkpoint."""
    worker = Worker(settings)
    worker.start()
    job = desk.submit(desk.upload(numbers()), **config)
    saved(desk, job)
    worker.close()
    row = desk.job(job)
    assert (row.state, row.attempt) == ("queued", 0)
    return row


def test_a_released_job_goes_on_where_it_was(desk: Desk, connected: Settings, start_worker: Start) -> None:
    job = interrupted(desk, connected, **SOME)
    assert checkpoints(desk) == [job.checkpoint]  # those before it are gone
    assert desk.objects.collect(desk.records.referenced, min_age=0.0) == 0
    start_worker(connected)
    ended = desk.end(job)
    assert (ended.state, ended.checkpoint, ended.interruptions) == ("succeeded", None, 0)
    assert checkpoints(desk) == []
    (resumed,) = desk.report(ended)["provenance"]["resumed_at"]
    assert f"resumed from the checkpoint at step {resumed}" in desk.logs(ended)
    whole = desk.end(desk.submit(desk.upload(numbers()), **SOME))
    assert comparable(desk, ended) == comparable(desk, whole)


def test_a_job_killed_within_a_repair_ends_as_one_that_was_not(
    desk: Desk, connected: Settings, start_worker: Start
) -> None:
    lost = {"optimizer": {"kind": "sgd", "lr": 1e6}, "loss": {"kind": "mse"}, "clips": [], "guards": []}
    config: dict[str, Any] = SOME | lost | {"health": {"repair": 1}}
    start_worker(connected)
    job = desk.submit(desk.upload(numbers()), **config)
    begun = desk.until(job, lambda event: event.name == "log" and "repair" in event.data)
    saved(desk, job, begun.id)
    (child,) = training_processes(US)
    os.kill(child, signal.SIGKILL)
    ended = desk.end(job)
    assert (ended.state, ended.interruptions) == ("succeeded", 1)
    (entry,) = desk.report(ended)["repair"]
    (resumed,) = desk.report(ended)["provenance"]["resumed_at"]
    assert (entry["rule"], entry["status"], resumed > 0) == ("lr_too_high", "applied", True)
    whole = desk.end(desk.submit(desk.upload(numbers()), **config))
    assert comparable(desk, ended) == comparable(desk, whole)


@pytest.mark.parametrize("damage", ["torn", "missing", "foreign"])
def test_one_that_cannot_be_used_is_set_aside(
    desk: Desk, connected: Settings, start_worker: Start, damage: str
) -> None:
    job = interrupted(desk, connected, **SOME)
    objects, digest = desk.objects, str(job.checkpoint)
    assert isinstance(objects, LocalObjects)
    path = objects.local_path(digest)
    assert path is not None
    whole = path.read_bytes()
    if damage == "torn":
        path.write_bytes(whole[:1000])
    elif damage == "missing":
        path.unlink()
    else:
        other = objects.put_bytes(whole.replace(b'"bond": "', b'"bond": "another'))
        claimed = desk.records.claim_job(job.id, "a test")
        assert claimed is not None and desk.records.save_checkpoint(job.id, claimed.fence, other)
        assert desk.records.release_job(job.id, claimed.fence)
    start_worker(connected)
    ended = desk.end(job)
    assert ended.state == "succeeded"
    assert desk.report(ended)["provenance"]["resumed_at"] == []
    assert "the checkpoint is set aside" in desk.logs(ended)


def test_a_deadline_counts_the_time_before_an_interruption(
    desk: Desk, connected: Settings, start_worker: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "GRACE_SECONDS", dict.fromkeys(Stop, 60.0))
    job = interrupted(desk, connected, budget=ENDLESS)
    head = desk.objects.read(str(job.checkpoint))
    spent = json.loads(head[head.index(b'{"step"') :])["seconds"]
    start_worker(replace(connected, job_max_seconds=spent + 1e-3))
    ended = desk.end(job)
    assert ended.error is not None
    assert (ended.state, ended.error["code"]) == ("failed", "deadline")
    assert ended.model_id is not None
    report = desk.report(ended)
    assert report["cost"]["seconds_training"] > spent
    assert len(report["provenance"]["resumed_at"]) == 1


def test_a_killed_child_s_last_good_model_is_kept(
    connected: Settings, start_worker: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last attempt is killed; and a deadline is not heard by a process that is halted."""
    settings = replace(connected, max_attempts=1)
    desk = Desk(settings)
    worker = start_worker(settings)
    job = desk.submit(desk.upload(numbers()), budget=ENDLESS)
    saved(desk, job)
    (child,) = training_processes(US)
    os.kill(child, signal.SIGKILL)
    ended = desk.end(job)
    assert ended.error is not None
    assert (ended.state, ended.error["code"]) == ("failed", "worker_lost")
    assert_good_model(desk, ended)
    monkeypatch.setitem(watch.GRACE_SECONDS, Stop.DEADLINE, 0.1)
    job = desk.submit(desk.upload(numbers()), budget=ENDLESS)
    saved(desk, job)
    (child,) = training_processes(US)
    os.kill(child, signal.SIGSTOP)
    (holding,) = worker.parts.holdings.all()
    holding.stop.request(Stop.DEADLINE)
    ended = desk.end(job)
    assert ended.error is not None and ended.error["code"] == "deadline"
    assert_good_model(desk, ended)
    assert "was kept." in desk.report(ended)["summary"]
    desk.records.close()


def assert_good_model(desk: Desk, ended: JobRow) -> None:
    assert ended.model_id is not None and ended.predictions_digest is not None
    report = desk.report(ended)
    model = desk.records.get_model(desk.project, ended.model_id)
    assert report["fit"]["metrics"]["test"]["rmse"] == model.metrics["test"]["rmse"]
    assert report["fit"]["best_epoch"] is not None
    assert report["series"]["steps"]


def test_without_a_sign_of_life_the_child_is_ended(
    connected: Settings, start_worker: Start, desk: Desk
) -> None:
    """With the database out of reach, another worker may have the job by now; here none has."""
    settings = replace(connected, heartbeat_seconds=0.2, self_kill_seconds=1.5, lease_seconds=6.0)
    start_worker(settings)
    job = desk.submit(desk.upload(numbers()), budget=ENDLESS)
    row = saved(desk, job)
    (child,) = training_processes(US)
    with sqlite3.connect(settings.data / "gradkeel.db", isolation_level=None) as database:
        database.execute("BEGIN EXCLUSIVE")
        assert wait_for_exit(child)
        database.execute("ROLLBACK")
    database.close()
    again = desk.until(job, lambda event: event.name == "log" and "resumed" in event.data["message"])
    assert again.data["fence"] == row.fence + 1 and again.data["step"] > 0
    desk.records.request_cancel(desk.project, job.id)
    ended = desk.end(job)
    assert (ended.state, ended.interruptions) == ("cancelled", 1)
