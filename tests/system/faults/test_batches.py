"""kill -9 of the process that reads batches, while it reads: each line counts once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gradkeel import Batch, Client
from gradkeel.resources.batches import path_of
from gradkeel.sansio import flows

from .conftest import Victim

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

LINES = 2000
TINY: dict[str, Any] = {
    "target": "y",
    "preset": "custom",
    "model": {"kind": "linear"},
    "budget": {"epochs": 1, "batch_size": 64},
    "health": {"gradient_check": False},
}


def configs() -> Iterator[dict[str, Any]]:
    """Every tenth asks for an option that there is not."""
    for number in range(LINES):
        yield TINY | ({"seed": number} if number % 10 else {"sead": number})


def wait_until_read(client: Client, batch: Batch) -> None:
    while batch.refresh().state == "reading":
        client.run(flows.document_of(flows.get(path_of(batch.id), {"wait": 30}, timeout=60), client.policy))


def test_a_reader_killed_while_it_reads(victim: Victim, table: Path) -> None:
    client = victim.client()
    batch = client.batches.submit(configs(), dataset=client.datasets.upload(str(table)))
    while batch.refresh().read < 200:
        pass
    victim.kill("consumer")
    assert batch.refresh().state == "reading"
    assert 0 < batch.read < LINES
    wait_until_read(client, batch)
    results = list(batch.results())
    assert [result.line for result in results] == list(range(1, LINES + 1))
    assert [result.state == "rejected" for result in results] == [n % 10 == 0 for n in range(LINES)]
    made = {result.job_id for result in results if result.job_id}
    assert len(made) == LINES * 9 // 10
    assert batch.refresh().rejected == LINES // 10

    batch.cancel().wait(timeout=60)
    counts = batch.counts
    assert counts["queued"] == counts["running"] == counts["failed"] == 0
    assert counts["succeeded"] + counts["cancelled"] == len(made)
    jobs = {job.id: job.state for job in client.jobs.list(batch=batch.id, limit=100)}
    assert jobs == {result.job_id: result.state for result in batch.results() if result.job_id}
