"""How long a single job waits behind a large batch, and what choosing the next job costs.

``python benchmarks/fairness.py`` prints three tables:

claims   claims a second with 50,000 queued jobs of 1 project and of 50, on SQLite and, where
         ``--postgres URL`` names an empty database, on PostgreSQL
records  10,000 jobs of a batch, workers that take a fixed time for each, and then one single job of the same
         project and one of another: how many jobs ended before each began, and the seconds it waited
stack    the same on a whole ``gradkeel up`` of its own, with real trainings and a smaller batch

Options: --part claims records stack, --queued, --batch, --workers, --seconds, --lines.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from gradkeel import Client, Job
from gradkeel.contract.ids import JOB, new_id
from gradkeel.contract.states import Scope
from gradkeel_store.records import Records, open_records, tables
from gradkeel_store.settings import Settings

CONFIG = {"target": "price", "preset": "standard"}
CLAIMS = 300
AT_ONCE = 1000
BATCH_PRIORITY = -10


def ready_dataset(records: Records, project: str) -> str:
    """The id of a data set that jobs can be claimed for."""
    made = records.create_dataset(project, "homes.csv", "ab" * 32, 1234)
    claimed = records.claim_dataset(made.id, "reader")
    assert claimed is not None
    columns = [{"name": "price", "type": "numeric", "missing": 0}]
    assert records.finish_dataset(made.id, claimed.fence, "cd" * 32, {"rows": 20}, 20, columns)
    return made.id


def queue(records: Records, project: str, count: int, priority: int = 0) -> None:
    """Queue many jobs, past everything that a single submission costs."""
    dataset_id = ready_dataset(records, project)
    now = datetime.now(UTC)
    rows = [
        {
            "id": new_id(JOB), "project": project, "kind": "train", "state": "queued",
            "dataset_id": dataset_id, "submitted": CONFIG, "config": CONFIG, "labels": {},
            "priority": priority, "max_attempts": 3, "created_at": now + timedelta(microseconds=number),
            "queued_at": now,
        }
        for number in range(count)
    ]  # fmt: skip
    with records.engine.begin() as connection:
        for start in range(0, count, AT_ONCE):
            connection.execute(tables.jobs.insert(), rows[start : start + AT_ONCE])


@contextlib.contextmanager
def fresh_sqlite() -> Iterator[Records]:
    with tempfile.TemporaryDirectory() as folder:
        records = Records.open(f"sqlite:///{folder}/records.db")
        yield records
        records.close()


@contextlib.contextmanager
def emptied(url: str) -> Iterator[Records]:
    """The records of a database that is used for nothing else."""
    records = Records.open(url)
    with records.engine.begin() as connection:
        connection.execute(sa.text(f"TRUNCATE {', '.join(tables.metadata.tables)}"))
    yield records
    records.close()


# ------------------------------------------------------------------------------------------------- claims


def claims_a_second(records: Records, queued: int, projects: int) -> tuple[float, float]:
    """Claims a second, and claims with their ends a second."""
    for number in range(projects):
        queue(records, records.project_named(f"project {number}"), queued // projects)
    with records.engine.begin() as connection:
        connection.execute(sa.text("ANALYZE"))  # as either database does by itself in time
    spent = 0.0
    began = time.perf_counter()
    for _ in range(CLAIMS):
        before = time.perf_counter()
        job = records.claim_next("benchmark")
        spent += time.perf_counter() - before
        assert job is not None
        assert records.finish_job(job.id, job.fence, "succeeded")
    return CLAIMS / spent, CLAIMS / (time.perf_counter() - began)


def show_claims(queued: int, postgres: str | None) -> None:
    print(f"claims with {queued:,} queued jobs")
    print(f"{'database':<12}{'projects':>10}{'claims/s':>12}{'with ends/s':>14}")
    for name, opening in (("sqlite", fresh_sqlite), ("postgresql", lambda: emptied(str(postgres)))):
        if name == "postgresql" and postgres is None:
            continue
        for projects in (1, 50):
            with opening() as records:
                claims, ends = claims_a_second(records, queued, projects)
            print(f"{name:<12}{projects:>10}{claims:>12.0f}{ends:>14.0f}")


# ------------------------------------------------------------------------------------------------ records


class Workers:
    """Threads that claim, take ``seconds`` for each job, and end it."""

    def __init__(self, records: Records, count: int, seconds: float) -> None:
        self.records, self.seconds = records, seconds
        self.begun: dict[str, tuple[float, int]] = {}
        self._ended = 0
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._work, args=(f"w{n}",)) for n in range(count)]

    def __enter__(self) -> Workers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *ended: Any) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _work(self, owner: str) -> None:
        while not self._stopping.is_set() and (job := self.records.claim_next(owner)):
            with self._lock:
                self.begun[job.id] = time.monotonic(), self._ended
            self._stopping.wait(self.seconds)
            self.records.finish_job(job.id, job.fence, "succeeded")
            with self._lock:
                self._ended += 1

    def wait_until(self, begun: str) -> tuple[float, int]:
        while begun not in self.begun:
            self._stopping.wait(0.005)
        return self.begun[begun]

    @property
    def ended(self) -> int:
        return self._ended


def show_records(batch: int, workers: int, seconds: float) -> None:
    print(f"records: a batch of {batch:,} jobs, {workers} workers, {seconds} s a job")
    print(f"{'single job of':<18}{'waited s':>10}{'jobs ended meanwhile':>24}")
    with fresh_sqlite() as records:
        large, small = records.default_project(), records.project_named("another")
        queue(records, large, batch, BATCH_PRIORITY)
        data = {project: ready_dataset(records, project) for project in (large, small)}
        with Workers(records, workers, seconds) as working:
            for name, project in (("the same project", large), ("another project", small)):
                while working.ended < 2 * workers:
                    time.sleep(seconds / 4)
                submitted, before = time.monotonic(), working.ended
                job = records.create_job(project, data[project], CONFIG, CONFIG)
                began, ended = working.wait_until(job.id)
                print(f"{name:<18}{began - submitted:>10.3f}{ended - before:>24}")


# -------------------------------------------------------------------------------------------------- stack


@contextlib.contextmanager
def running_stack() -> Iterator[tuple[Client, Client]]:
    """A stack of its own: clients of its project and of another."""
    with tempfile.TemporaryDirectory(prefix="gkf-") as name:
        folder = Path(name)
        env = os.environ | {"XDG_CONFIG_HOME": f"{folder}/config"}
        command = [sys.executable, "-m", "gradkeel", "up", "--data", f"{folder}/data", "--port", "0"]
        stack = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
        try:
            assert stack.stdout is not None
            next(line for line in stack.stdout if "ready at" in line)
            profile = json.loads((folder / "data" / "profile.json").read_text())
            with open_other_project(folder / "data") as key, Client(**profile) as own:
                yield own, Client(profile["url"], key)
        finally:
            stack.send_signal(signal.SIGTERM)
            stack.wait(60)


@contextlib.contextmanager
def open_other_project(data: Path) -> Iterator[str]:
    records = open_records(Settings.load({}, data=data))
    yield records.create_key(records.project_named("another"), tuple(Scope))[1]
    records.close()


def small_table() -> bytes:
    draws = random.Random(1)
    rows = [(draws.gauss(0, 1), draws.gauss(0, 1)) for _ in range(60)]
    return "\n".join(["a,b,y", *(f"{a:.4f},{b:.4f},{a - 2 * b:.4f}" for a, b in rows)]).encode()


TINY: dict[str, Any] = {
    "target": "y",
    "preset": "custom",
    "model": {"kind": "linear"},
    "budget": {"epochs": 2, "batch_size": 32},
}


def show_stack(lines: int) -> None:
    print(f"stack: a batch of {lines} real trainings, 1 worker")
    with running_stack() as (own, other):
        data = {client: client.datasets.upload(small_table(), name="t.csv") for client in (own, other)}
        began = time.monotonic()
        batch = own.batches.submit(({**TINY, "seed": n} for n in range(lines)), dataset=data[own])
        while batch.refresh().counts["succeeded"] < 3:
            time.sleep(0.1)
        print(f"{'single job of':<18}{'waited s':>10}{'queued behind it':>24}")
        for name, client in (("the same project", own), ("another project", other)):
            job = client.jobs.create(data[client], config=TINY).wait()
            print(f"{name:<18}{waited(job):>10.3f}{batch.refresh().counts['queued']:>24}")
        batch.wait()
        seconds = time.monotonic() - began
        print(f"the whole batch: {seconds:.1f} s, {lines / seconds:.2f} trainings a second")


def waited(job: Job) -> float:
    """Seconds from submission to the start."""
    assert job.started_at is not None
    return (job.started_at - job.created_at).total_seconds()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--part", nargs="*", default=["claims", "records", "stack"])
    parser.add_argument("--queued", type=int, default=50_000)
    parser.add_argument("--postgres", help="an empty database, SQLAlchemy URL")
    parser.add_argument("--batch", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=0.05)
    parser.add_argument("--lines", type=int, default=60)
    options = parser.parse_args()
    if "claims" in options.part:
        show_claims(options.queued, options.postgres)
    if "records" in options.part:
        show_records(options.batch, options.workers, options.seconds)
    if "stack" in options.part:
        show_stack(options.lines)


if __name__ == "__main__":
    main()
