"""A worker without room: its jobs wait, and none is blamed for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import CONFIG, Victim, few_descriptors

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]
TOLD = (b"has no room", b"the store is away")


@pytest.mark.parametrize("free", [0, 4])
def test_no_descriptors_left(lasting: Victim, table: Path, free: int) -> None:
    """None for the job's table, or enough for that and too few for a process: the attempt does not count."""
    client = lasting.client()
    dataset = client.datasets.upload(str(table)).wait(timeout=60)
    small = CONFIG | {"budget": CONFIG["budget"] | {"epochs": 2}}
    log = lasting.data / "logs" / "worker.log"
    told = log.stat().st_size
    with few_descriptors(lasting.pid("worker"), free):
        job = client.jobs.create(dataset, config=small)
        while not any(words in log.read_bytes()[told:] for words in TOLD):
            assert not job.refresh().ended
    job.wait(timeout=90)
    assert (job.state, job.interruptions, job.attempts) == ("succeeded", 0, 1)
