"""Limits of memory and time, over HTTP: a job past one ends with a code of its own, and a report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gradkeel.resources.jobs import Job

from .conftest import CONFIG, Victim, running_victim

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]
BUDGET = CONFIG["budget"]


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """A stack whose jobs may run for three seconds."""
    with running_victim(tmp_path_factory.mktemp("hasty"), GRADKEEL_JOB_MAX_SECONDS="3") as running:
        yield running


def ended(victim: Victim, table: Path, **config: Any) -> Job:
    client = victim.client()
    job = client.jobs.create(client.datasets.upload(str(table)), config=CONFIG | config)
    return job.wait(timeout=120, check=False)


def test_too_little_memory(hasty: Victim, table: Path) -> None:
    budget = BUDGET | {"epochs": 1, "max_memory_mb": 256}
    job = ended(hasty, table, model={"kind": "mlp", "widths": [6000, 6000]}, budget=budget)
    assert (job.state, job.attempts) == ("failed", 1)
    assert job.error is not None and job.error["code"] == "out_of_memory"
    assert "max_memory_mb" in job.error["message"]
    assert job.report()["provenance"]["status"] == "out_of_memory"


def test_a_deadline(hasty: Victim, table: Path) -> None:
    """Nobody waits for it, so there is time to keep the last good model."""
    job = ended(hasty, table, budget=BUDGET | {"epochs": 100_000})
    assert job.state == "failed"
    assert job.error is not None and job.error["code"] == "deadline"
    report = job.report()
    assert (report["provenance"]["status"], report["fit"]["stopped_by"]) == ("deadline", "deadline")
    assert ", was kept." in report.summary
    assert len(job.model().predict({"a": [0.5], "b": [0.25]}).values) == 1
