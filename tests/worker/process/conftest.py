"""A real worker in this process, real children, no broker unless a test brings one."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradkeel.contract.resolve import resolve, to_json
from gradkeel_store.events import Event, EventLog
from gradkeel_store.objects import Objects, open_objects
from gradkeel_store.records import DatasetRow, JobRow, Records, open_records
from gradkeel_store.settings import Settings
from gradkeel_worker.worker import Worker
from processes import children_of
from servers import Valkey

NOWHERE = "redis://127.0.0.1:1/0"
ENDLESS = {"epochs": 100_000, "patience": 0, "batch_size": 16, "max_seconds": None}
SMALL: dict[str, Any] = {"preset": "custom", "model": {"kind": "mlp", "widths": [8]}}


def numbers(rows: int = 200, seed: int = 0) -> str:
    """A CSV whose target y is a noisy sum of two columns."""
    draws = np.random.default_rng(seed).normal(size=(rows, 3))
    lines = [f"{a:.4f},{b:.4f},{a - 2 * b + 0.1 * e:.4f}" for a, b, e in draws]
    return "\n".join(["a,b,y", *lines]) + "\n"


def training_processes(worker: int) -> list[int]:
    """The children that the worker's forkserver made."""
    servers = [
        pid for pid in children_of(worker) if b"forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    return [child for server in servers for child in children_of(server)]


class Desk:
    """What a caller of the service would do, done on the store itself."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.records: Records = open_records(settings)
        self.objects: Objects = open_objects(settings)
        self.events = EventLog(settings)
        self.project = self.records.default_project()

    def upload(self, content: str | bytes, **options: Any) -> DatasetRow:
        data = content.encode() if isinstance(content, str) else content
        digest = self.objects.put_bytes(data)
        return self.records.create_dataset(self.project, "table.csv", digest, len(data), options)

    def submit(self, dataset: DatasetRow, **config: Any) -> JobRow:
        submitted = {"dataset_id": dataset.id, "target": "y"} | SMALL | config
        submitted["budget"] = {"batch_size": 16} | config.get("budget", {})
        resolved = to_json(resolve(submitted))
        return self.records.create_job(self.project, dataset.id, submitted, resolved)

    def follow(self, job: JobRow, after: int = 0) -> Iterator[Event]:
        """The job's events as they come, up to its end."""
        for event in self.events.stream(self.records, job.id, after, block_ms=50):
            if event is not None:
                yield event

    def until(self, job: JobRow, wanted: Callable[[Event], bool], after: int = 0) -> Event:
        """Wait for an event; a job that ends before it is an error."""
        for event in self.follow(job, after):
            if wanted(event):
                return event
        raise AssertionError(f"the job ended first: {self.job(job)}")

    def mid_training(self, job: JobRow, after: int = 0) -> Event:
        """Wait until the job has taken a step and is far from its last."""
        event = self.until(job, lambda event: event.name == "epoch" and event.data["step"] > 0, after)
        budget = self.job(job).config["budget"]
        assert 0 < event.data["epoch"] + 1 < budget["epochs"]
        return event

    def end(self, job: JobRow) -> JobRow:
        """Wait for the job's end: its row."""
        for event in self.follow(job):
            assert not event.ends or event.data["state"]
        return self.job(job)

    def job(self, job: JobRow) -> JobRow:
        return self.records.get_job(self.project, job.id)

    def read(self, dataset: DatasetRow) -> DatasetRow:
        """Wait until the data set has been read, by way of a job on it that ends at once."""
        job = self.submit(dataset, budget={"epochs": 1})
        self.end(job)
        return self.records.get_dataset(self.project, dataset.id)

    def report(self, job: JobRow) -> dict[str, Any]:

        assert job.report_digest is not None
        found: dict[str, Any] = json.loads(self.objects.read(job.report_digest))
        return found

    def logs(self, job: JobRow) -> str:
        assert job.logs_digest is not None
        return self.objects.read(job.logs_digest).decode()


@pytest.fixture
def lonely(tmp_path: Path) -> Settings:
    """Settings of a stack without a broker, with short times."""
    settings = Settings.load({"GRADKEEL_BROKER_URL": NOWHERE}, data=tmp_path / "data")
    return replace(
        settings,
        redis_url="",
        lease_seconds=20.0,
        heartbeat_seconds=1.0,
        poll_seconds=0.1,
        reconcile_seconds=1.0,
        cancel_poll_seconds=0.1,
    )


@pytest.fixture
def connected(lonely: Settings, valkey: Valkey) -> Settings:
    """The same with a broker of the test's own."""
    return replace(lonely, broker_url=valkey.url, redis_url=valkey.url)


@pytest.fixture
def desk(connected: Settings) -> Iterator[Desk]:
    desk = Desk(connected)
    yield desk
    desk.records.close()


@pytest.fixture
def start_worker() -> Iterator[Callable[[Settings], Worker]]:
    """`start_worker(settings)`: a worker that is stopped when the test ends."""
    started: list[Worker] = []

    def start(settings: Settings) -> Worker:
        worker = Worker(settings)
        started.append(worker)
        worker.start()
        return worker

    yield start
    for worker in started:
        worker.close()


@pytest.fixture
def worker(connected: Settings, start_worker: Callable[[Settings], Worker]) -> Worker:
    return start_worker(connected)
