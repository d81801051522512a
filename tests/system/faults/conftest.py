"""A stack of each test's own, so that it may be broken. Leases are short; everything else is as shipped."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradkeel import Client, Event
from gradkeel.resources.jobs import Job
from processes import children_of, wait_for_exit
from servers import LoggedProcess

LEASE = {
    "GRADKEEL_LEASE_SECONDS": "5",
    "GRADKEEL_HEARTBEAT_SECONDS": "1",
    "GRADKEEL_SELF_KILL_SECONDS": "4",
    "GRADKEEL_POLL_SECONDS": "1",
    "GRADKEEL_RECONCILE_SECONDS": "1",
}
MARKS = {
    "broker": b"valkey-server",
    "redis": b"redis-server",
    "worker": b"gradkeel_worker",
    "http": b"gunicorn",
    "consumer": b"gradkeel_service.consumer",
}
EPOCHS = 700
CONFIG: dict[str, Any] = {
    "target": "y",
    "preset": "custom",
    "model": {"kind": "mlp", "widths": [16, 16]},
    "budget": {"epochs": EPOCHS, "batch_size": 16, "patience": 0, "max_seconds": None},
    "health": {"gradient_check": False},
}


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


@contextmanager
def few_descriptors(pid: int, free: int) -> Iterator[None]:
    """Leave a process so many descriptors beside those that it holds."""
    before, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    held = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    unused = (number for number in range(hard) if number not in held)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (next(islice(unused, free, None)), hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (before, hard))


class Victim:
    """A running stack with handles on its processes."""

    def __init__(self, folder: Path, **env: str) -> None:
        self.data = folder / "data"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GRADKEEL_")}
        self.env = kept | LEASE | {"XDG_CONFIG_HOME": str(folder / "config"), "OMP_NUM_THREADS": "1"} | env
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "gradkeel", "up", "--data", str(self.data), "--port", "0"]
        self.server = LoggedProcess(command, r"ready at (http://\S+)", env=self.env)
        self.server.wait_ready()

    @property
    def key(self) -> str:
        key: str = json.loads((self.data / "profile.json").read_text())["api_key"]
        return key

    @property
    def url(self) -> str:
        url: str = json.loads((self.data / "profile.json").read_text())["url"]
        return url

    def client(self) -> Client:
        profile = json.loads((self.data / "profile.json").read_text())
        return Client(profile["url"], profile["api_key"], max_retries=8)

    def pid(self, name: str) -> int:
        marks = [MARKS[name], MARKS["redis"]] if name == "broker" else [MARKS[name]]
        (found,) = [
            pid for pid in children_of(self.server.process.pid) if any(m in command_of(pid) for m in marks)
        ]
        return found

    def training(self) -> int:
        """The one training process."""
        servers = [pid for pid in children_of(self.pid("worker")) if b"forkserver" in command_of(pid)]
        (child,) = [child for server in servers for child in children_of(server)]
        return child

    def kill(self, name: str) -> int:
        """kill -9, waited for; the pid."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        assert wait_for_exit(pid)
        return pid

    def start_second_worker(self) -> subprocess.Popen[bytes]:
        """One more worker on the same records. It is not told of the broker: polling has to do."""
        command = [sys.executable, "-m", "gradkeel_worker", "--data", str(self.data)]
        with (self.data / "logs" / "second.log").open("wb") as log:
            return subprocess.Popen(command, env=self.env, stdout=log, stderr=log, start_new_session=True)

    def close(self) -> None:
        self.server.process.terminate()
        assert self.server.process.wait(40) == 0, "\n".join(self.server.tail)


@contextmanager
def running_victim(folder: Path, **env: str) -> Iterator[Victim]:
    """A stack that is stopped in good order, or killed where the test failed."""
    victim = Victim(folder, **env)
    try:
        yield victim
        victim.close()
    finally:
        victim.server.kill()


@pytest.fixture(scope="session")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """One stack for all faults that leave it whole."""
    with running_victim(tmp_path_factory.mktemp("lasting")) as running:
        yield running


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Victim]:
    with running_victim(tmp_path) as victim:
        yield victim


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV with two features and a target y."""
    draws = np.random.default_rng(1).normal(size=(300, 3))
    lines = [f"{a:.4f},{b:.4f},{a - 2 * b + 0.1 * e:.4f}" for a, b, e in draws]
    path = tmp_path_factory.mktemp("table") / "table.csv"
    path.write_text("\n".join(["a,b,y", *lines]) + "\n")
    return path


def begin(client: Client, table: Path) -> tuple[Job, Event]:
    """Start a job and wait until it is mid-training: the job and the event that shows it."""
    job = client.jobs.create(client.datasets.upload(str(table)), config=CONFIG)
    event = next(event for event in job.stream() if event.name == "epoch" and event.data["step"] > 0)
    assert_mid_training(job, event)
    return job, event


def assert_mid_training(job: Job, event: Event) -> None:
    """The job has taken a step, and its last step is still to come."""
    last = EPOCHS * (event.data["step"] + 1) // (event.data["epoch"] + 1) - 1
    assert 0 < event.data["step"] < last
    assert job.refresh().state == "running"


def assert_ended_once(client: Client, job: Job, *, interruptions: int) -> None:
    """The job succeeds, with one end, its model and its report."""
    events = list(job.stream())
    job.wait(timeout=120)
    assert job.state == "succeeded"
    assert (job.interruptions, job.attempts) == (interruptions, interruptions + 1)
    assert [event.name for event in events].count("end") == 1
    assert events[-1].name == "end"
    fences = [event.data["fence"] for event in events]
    assert fences == sorted(fences)
    assert max(fences) == interruptions + 1
    assert job.report()["verdict"] == job.verdict
    assert len(job.model().predict({"a": [0.5], "b": [0.25]}).values) == 1
    assert [found.id for found in client.jobs.list()].count(job.id) == 1
