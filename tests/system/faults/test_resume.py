"""Trainings that are killed or given back go on from their checkpoint and end as if nothing had happened."""

from __future__ import annotations

import copy
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gradkeel import Client
from gradkeel.resources.jobs import Job
from gradkeel_store.objects import LocalObjects, open_objects
from gradkeel_store.records import JobRow, open_records
from gradkeel_store.settings import Settings
from processes import wait_for_exit

from .conftest import CONFIG, Victim, running_victim
from .reports import assert_whole_report

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]
Json = dict[str, Any]

SEEDED = CONFIG | {
    "seed": 7,
    "budget": CONFIG["budget"] | {"epochs": 350},
    "optimizer": {"kind": "adamw", "lr": 0.003},
    "schedule": {"kind": "plateau", "patience": 5, "factor": 0.9},
    "model": {"kind": "mlp", "widths": [16, 16], "dropout": 0.1},
}
POISON = CONFIG | {"budget": CONFIG["budget"] | {"epochs": 100_000}}


@pytest.fixture(scope="module")
def resumable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """A stack whose trainings make checkpoints as often as they can."""
    with running_victim(tmp_path_factory.mktemp("resumable"), GRADKEEL_CHECKPOINT_SECONDS="0.5") as running:
        yield running


def result_of(client: Client, job: Job) -> Json:
    """Everything of a job's result but its cost, its times and its provenance."""
    job.wait(timeout=120)
    report: Json = copy.deepcopy(job.report().raw)
    del report["cost"], report["provenance"], report["fit"]["seconds"]
    digests = client.models.get(str(job.model_id)).digests
    weights = {form: digests[form] for form in ("onnx", "safetensors")}
    return {"weights": weights, "report": report, "metrics": job.metrics, "verdict": job.verdict}


@pytest.fixture(scope="module")
def undisturbed(resumable: Victim, table: Path) -> Json:
    client = resumable.client()
    job = client.jobs.create(client.datasets.upload(str(table)), config=SEEDED)
    expected = result_of(client, job)
    assert job.report()["provenance"]["resumed_at"] == []
    assert row_of(resumable, job).checkpoint is None
    assert not [digest for digest in stored(resumable) if is_checkpoint(resumable, digest)]
    return expected


def row_of(victim: Victim, job: Job) -> JobRow:
    records = open_records(Settings.load({}, data=victim.data), migrate=False)
    try:
        return records.get_job(records.default_project(), job.id)
    finally:
        records.close()


def objects_of(victim: Victim) -> LocalObjects:
    objects = open_objects(Settings.load({}, data=victim.data))
    assert isinstance(objects, LocalObjects)
    return objects


def stored(victim: Victim) -> list[str]:
    return [digest for digest, _ in objects_of(victim).list()]


def is_checkpoint(victim: Victim, digest: str) -> bool:
    return b"gradkeel-checkpoint" in objects_of(victim).read(digest)[:500]


def begin(victim: Victim, table: Path, config: Json = SEEDED, after: int = 0) -> tuple[Job, JobRow]:
    """Start a job and wait until a checkpoint of it is stored."""
    client = victim.client()
    job = client.jobs.create(client.datasets.upload(str(table)), config=config)
    return job, await_checkpoint(victim, job)


def await_checkpoint(victim: Victim, job: Job, fence: int = 1, but: str | None = None) -> JobRow:
    for _ in job.stream():  # about ten events a second come from a job that trains
        row = row_of(victim, job)
        if row.fence == fence and row.checkpoint not in (None, but):
            return row
    raise AssertionError(f"the job ended first: {row_of(victim, job)}")


def assert_resumed(client: Client, job: Job, expected: Json, *, attempts: int = 1) -> None:
    """The job ended like the undisturbed one, and did not begin anew on the way."""
    assert result_of(client, job) == expected
    events = list(job.stream())
    resumed = [event.data for event in events if event.name == "log" and "resumed" in event.data["message"]]
    (step,) = [each["step"] for each in resumed]
    assert step > 0
    provenance = assert_whole_report(client.url, job, "succeeded")["provenance"]
    assert (provenance["resumed_at"], provenance["attempts"]) == ([step], attempts)
    assert provenance["interruptions"] == job.interruptions == attempts - 1
    assert f"resumed from the checkpoint at step {step}" in job.logs()
    second = [event for event in events if event.data["fence"] == 2]
    steps = [event.data["step"] for event in second if event.name in ("reading", "epoch")]
    assert min(steps) >= step
    assert min(event.id for event in second) > max(e.id for e in events if e.data["fence"] == 1)


def assert_nothing_left(victim: Victim, job: Job) -> None:
    assert row_of(victim, job).checkpoint is None
    assert not [digest for digest in stored(victim) if is_checkpoint(victim, digest)]


def test_the_training_process_is_killed(resumable: Victim, table: Path, undisturbed: Json) -> None:
    job, _ = begin(resumable, table)
    os.kill(resumable.training(), signal.SIGKILL)
    assert_resumed(resumable.client(), job, undisturbed, attempts=2)
    assert_nothing_left(resumable, job)


def test_the_worker_is_killed(resumable: Victim, table: Path, undisturbed: Json) -> None:
    job, _ = begin(resumable, table)
    child = resumable.training()
    resumable.kill("worker")
    assert wait_for_exit(child)
    assert_resumed(resumable.client(), job, undisturbed, attempts=2)


def test_the_stack_is_stopped_and_started(resumable: Victim, table: Path, undisturbed: Json) -> None:
    """An orderly stop makes a checkpoint first, and costs no attempt."""
    job, before = begin(resumable, table)
    resumable.close()
    released = row_of(resumable, job)
    assert (released.state, released.attempt) == ("queued", 0)
    assert released.checkpoint not in (None, before.checkpoint)
    resumable.start()
    client = resumable.client()
    assert_resumed(client, client.jobs.get(job.id), undisturbed)


def test_a_job_that_kills_its_process_every_time(resumable: Victim, table: Path) -> None:
    """It fails after three attempts; its report and its last good model stay."""
    job, row = begin(resumable, table, POISON)
    for fence in (1, 2, 3):
        row = await_checkpoint(resumable, job, fence, but=row.checkpoint if fence > 1 else None)
        os.kill(resumable.training(), signal.SIGKILL)
    job.wait(timeout=60, check=False)
    assert (job.state, job.attempts, job.interruptions) == ("failed", 3, 3)
    assert job.error is not None and job.error["code"] == "worker_lost"
    report = job.report()
    assert report["verdict"] == job.verdict is not None
    assert report["fit"]["metrics"]["test"] == (job.metrics or {})["test"]
    assert len(job.model().predict({"a": [0.5], "b": [0.25]}).values) == 1
    assert_nothing_left(resumable, job)
