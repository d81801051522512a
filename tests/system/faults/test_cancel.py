"""A cancel over HTTP, wherever the job is: it ends soon, with a report and, where there was one, its model.

How long each took is printed (pytest -s); two seconds are meant, a busy machine may take longer.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradkeel import Client, Event
from gradkeel.resources.jobs import Job
from processes import wait_for_exit

from .conftest import CONFIG, Victim
from .reports import assert_whole_report

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]
Json = dict[str, Any]

ENDLESS = CONFIG | {"budget": CONFIG["budget"] | {"epochs": 100_000}}
ONCE = CONFIG | {"budget": CONFIG["budget"] | {"epochs": 1, "batch_size": 256}}
AT_MOST = 10.0
"""Seconds: only a cancel that is not heard at all takes so long."""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV whose preparation and diagnosis take their time."""
    draws = np.random.default_rng(1).normal(size=(60_000, 9))
    lines = [",".join(f"{value:.5g}" for value in row) for row in draws]
    path = tmp_path_factory.mktemp("large") / "large.csv"
    path.write_text("\n".join([",".join([*"abcdefgh", "y"]), *lines]) + "\n")
    return path


def start(client: Client, path: Path, config: Json) -> Job:
    dataset = client.datasets.upload(str(path)).wait(timeout=60)
    return client.jobs.create(dataset, config=config)


def until(job: Job, wanted: Callable[[Event], bool]) -> Event:
    return next(event for event in job.stream() if wanted(event))


def in_phase(phase: str) -> Callable[[Event], bool]:
    return lambda event: event.name == "progress" and event.data["phase"] == phase


def mid_training(event: Event) -> bool:
    return event.name == "epoch" and event.data["epoch"] >= 1


def cancel(job: Job, where: str) -> None:
    """Cancel and wait for the end."""
    begun = time.monotonic()
    job.cancel()
    job.wait(timeout=60, check=False)
    seconds = time.monotonic() - begun
    print(f"cancelled while {where}: {seconds:.2f} s")
    assert (job.state, job.error, job.cancel_requested) == ("cancelled", None, True)
    assert seconds < AT_MOST


@contextmanager
def halted(pid: int) -> Iterator[None]:
    """A process that does not hear a thing."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        if not wait_for_exit(pid, 0):
            os.kill(pid, signal.SIGCONT)


def assert_told(victim: Victim, job: Job, *, model: bool | None) -> None:
    """The report is whole and says the truth; ``model`` says whether one is left, where that is certain."""
    assert_whole_report(victim.url, job, "cancelled")
    if model is not None:
        assert (job.model_id is not None) is model


def test_queued(lasting: Victim, table: Path) -> None:
    client = lasting.client()
    blocker = start(client, table, ENDLESS)
    until(blocker, mid_training)
    waiting = start(client, table, ENDLESS)
    cancel(waiting, "queued")
    assert waiting.attempts == 0
    cancel(blocker, "training")
    assert_told(lasting, blocker, model=None)


def test_preparing(lasting: Victim, large: Path) -> None:
    job = start(lasting.client(), large, ENDLESS)
    until(job, in_phase("prepare"))
    with halted(lasting.training()):
        cancel(job, "preparing")
    assert_told(lasting, job, model=False)


def test_training_that_does_not_answer(lasting: Victim, table: Path) -> None:
    """A step that takes for ever."""
    job = start(lasting.client(), table, ENDLESS)
    until(job, mid_training)
    with halted(lasting.training()):
        cancel(job, "training, the process halted")
    assert_told(lasting, job, model=None)
    assert job.report()["series"]["steps"]


def test_diagnosing(lasting: Victim, large: Path) -> None:
    slow = {"model": {"kind": "mlp", "widths": [2000, 1000]}, "health": {"gradient_check": True}}
    job = start(lasting.client(), large, ONCE | slow)
    until(job, in_phase("diagnose"))
    cancel(job, "diagnosing")
    assert_told(lasting, job, model=None)
    assert job.report()["fit"]["stopped_by"] == "epochs"


def test_exporting(lasting: Victim, table: Path) -> None:
    job = start(lasting.client(), table, ONCE | {"model": {"kind": "mlp", "widths": [2500, 2500]}})
    until(job, in_phase("export"))
    with halted(lasting.training()):
        cancel(job, "exporting, the process halted")
    assert_told(lasting, job, model=False)
    assert job.report()["fit"]["stopped_by"] == "epochs"


def test_a_large_model(lasting: Victim, table: Path) -> None:
    """Nine million parameters: whether they are exported in time depends on the machine."""
    config = ENDLESS | {"model": {"kind": "mlp", "widths": [3000, 3000]}}
    job = start(lasting.client(), table, config)
    until(job, mid_training)
    cancel(job, "training nine million parameters")
    print("its model was kept" if job.model_id else "its model was not exported in time")
    assert_told(lasting, job, model=None)
