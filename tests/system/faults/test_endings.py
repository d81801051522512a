"""Every ending of a job leaves a whole report, which says how it ended and what it rests on.

``test_resume`` and ``test_cancel`` say the same of jobs whose stack was stopped and that were cancelled in
other places.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradkeel.contract.patch import merge_patch
from gradkeel.resources.jobs import Job

from .conftest import CONFIG, Victim, running_victim
from .reports import assert_whole_report

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]
Json = dict[str, Any]
Act = Callable[[Victim, Job], Any]

LIMITS = {
    "GRADKEEL_JOB_MAX_SECONDS": "12",
    "GRADKEEL_MAX_ATTEMPTS": "2",
    "GRADKEEL_CHECKPOINT_SECONDS": "0.2",
}
BUDGET = CONFIG["budget"]
SHORT: Json = {"budget": BUDGET | {"epochs": 150}}
ENDLESS: Json = {"budget": BUDGET | {"epochs": 100_000}}
SLOW_TO_JUDGE: Json = {
    "budget": BUDGET | {"epochs": 1, "batch_size": 256},
    "split": {"kind": "random", "validation": 0.45, "test": 0.45},
    "model": {"kind": "mlp", "widths": [400, 400]},
}
TOO_LARGE: Json = {
    "model": {"kind": "mlp", "widths": [6000, 6000]},
    "budget": BUDGET | {"max_memory_mb": 256},
}
RAW: Json = {
    "prepare": {"numeric": {"kind": "none"}, "target": {"kind": "none"}},
    "loss": {"kind": "mse"},
    "optimizer": {"kind": "sgd", "lr": 1000.0},
    "clips": [],
}


def _nothing(victim: Victim, job: Job) -> None:
    """It ends by itself."""


def _wait_for_epoch(job: Job, epoch: int, fence: int = 1) -> None:
    next(
        e for e in job.stream() if e.name == "epoch" and e.data["fence"] == fence and e.data["epoch"] >= epoch
    )


def _cancel_in(phase: str) -> Act:
    def act(victim: Victim, job: Job) -> None:
        """The process hears nothing more, so that it gets no further than it is."""
        next(e for e in job.stream() if e.name == "progress" and e.data["phase"] == phase)
        os.kill(victim.training(), signal.SIGSTOP)
        job.cancel()

    return act


def _cancel_training(victim: Victim, job: Job) -> None:
    _wait_for_epoch(job, 2)
    job.cancel()


def _kill(*epochs: int) -> Act:
    """kill -9 of the training process, at an epoch of each attempt."""

    def act(victim: Victim, job: Job) -> None:
        for fence, epoch in enumerate(epochs, 1):
            _wait_for_epoch(job, epoch, fence)
            os.kill(victim.training(), signal.SIGKILL)

    return act


@dataclass(frozen=True)
class Ending:
    """``said``: words of the summary. ``model``: whether one is left; None where time decides."""

    state: str
    said: str
    config: Json = field(default_factory=dict)
    act: Act = _nothing
    code: str | None = None
    verdicts: tuple[str | None, ...] = ("healthy", "strained")
    model: bool | None = True
    table: str = "small"


ENDINGS: dict[str, Ending] = {
    "succeeded": Ending("succeeded", "numerically sound", {"budget": BUDGET | {"epochs": 3}}),
    "max_seconds": Ending(
        "succeeded", "numerically sound", {"budget": BUDGET | {"epochs": 100_000, "max_seconds": 0.5}}
    ),
    "diverged": Ending("failed", "Training diverged", RAW, _nothing, "diverged", ("diverged",), False),
    "bad data": Ending(
        "failed",
        "before its first step: column 'a', line 302: 'oops' is not a number",
        {"columns": {"types": {"a": "numeric"}}},
        code="bad_data",
        verdicts=(None,),
        model=False,
        table="broken",
    ),
    "out of memory": Ending(
        "failed", "raise budget.max_memory_mb", TOO_LARGE, _nothing, "out_of_memory", (None,), False
    ),
    "cancelled while preparing": Ending(
        "cancelled",
        "The job was cancelled",
        ENDLESS,
        _cancel_in("prepare"),
        verdicts=(None, "healthy", "strained"),  # a busy machine may have begun to train
        model=None,
        table="large",
    ),
    "cancelled while training": Ending("cancelled", "The job was cancelled after", ENDLESS, _cancel_training),
    "cancelled while diagnosing": Ending(
        "cancelled", "cancelled", SLOW_TO_JUDGE, _cancel_in("diagnose"), model=None, table="large"
    ),
    "deadline": Ending("failed", "The job ran out of time after", ENDLESS, code="deadline"),
    "killed and resumed": Ending("succeeded", "numerically sound", SHORT, _kill(2)),
    "worker lost": Ending("failed", "The job's worker was lost after", ENDLESS, _kill(30, 60), "worker_lost"),
}


REPRODUCIBLE = ("succeeded", "diverged", "bad data", "killed and resumed")
"""Endings that neither a clock nor somebody outside decided."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    with running_victim(tmp_path_factory.mktemp("endings"), **LIMITS) as running:
        yield running


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory, table: Path) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tables")
    draws = np.random.default_rng(1).normal(size=(40_000, 9))
    lines = [",".join(f"{value:.5g}" for value in row) for row in draws]
    (folder / "large.csv").write_text("\n".join([",".join([*"abcdefgh", "y"]), *lines]) + "\n")
    (folder / "broken.csv").write_text(table.read_text() + "oops,1,2\n")
    return {"small": table, "large": folder / "large.csv", "broken": folder / "broken.csv"}


@pytest.mark.parametrize("name", ENDINGS)
def test_the_report_of_an_ending(place: Victim, tables: dict[str, Path], name: str) -> None:
    ending = ENDINGS[name]
    with place.client() as client:
        dataset = client.datasets.upload(str(tables[ending.table])).wait(timeout=60)
        job = client.jobs.create(dataset, config=merge_patch(CONFIG, ending.config))
        ending.act(place, job)
        job.wait(timeout=60, check=False)
        assert (job.state, job.error and job.error["code"]) == (ending.state, ending.code)
        report = assert_whole_report(place.url, job, ending.code or ending.state)
        assert report["verdict"] in ending.verdicts
        assert ending.said in report["summary"]
        if ending.model is not None:
            assert (job.model_id is not None) is ending.model
        assert report["provenance"]["reproducible"] is (name in REPRODUCIBLE)


def test_the_report_of_a_job_that_never_began(place: Victim, tables: dict[str, Path]) -> None:
    """Cancelled while another is being worked on."""
    with place.client() as client:
        dataset = client.datasets.upload(str(tables["small"])).wait(timeout=60)
        first, waiting = (client.jobs.create(dataset, config=CONFIG | ENDLESS) for _ in range(2))
        _wait_for_epoch(first, 0)
        for job in (waiting, first):
            job.cancel()
            job.wait(timeout=60, check=False)
        report = assert_whole_report(place.url, waiting, "cancelled")
    assert report["summary"] == "The job was cancelled before its first step."
    assert (waiting.attempts, waiting.model_id) == (0, None)
