"""PostgreSQL stops and starts again under a whole stack that trains."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest

from servers import Postgres, running_postgres

from .conftest import Victim, assert_ended_once, begin, running_victim

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]
# A lease that outlasts the outage, as 60 s outlast a restart of a real database.
PATIENT = {"GRADKEEL_LEASE_SECONDS": "60", "GRADKEEL_SELF_KILL_SECONDS": "45"}


@pytest.fixture
def database() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture
def stack(database: Postgres, tmp_path: Path) -> Iterator[Victim]:
    env = PATIENT | {"GRADKEEL_DATABASE_URL": database.create_database()}
    with running_victim(tmp_path, **env) as running:
        yield running


def test_the_database_restarts(stack: Victim, database: Postgres, table: Path) -> None:
    client = stack.client()
    job, _ = begin(client, table)
    child = stack.training()
    with contextlib.closing(httpx.Client(base_url=client.url, timeout=60)) as http:
        http.headers["Authorization"] = f"Bearer {stack.key}"
        database.stop()
        for answer in (http.get(f"/v1/jobs/{job.id}"), http.post(f"/v1/jobs/{job.id}/cancel")):
            assert answer.status_code == 503
            assert int(answer.headers["Retry-After"]) > 0
            assert answer.json()["type"] == "urn:gradkeel:problem:unavailable"
        unready = http.get("/readyz")
        assert (unready.status_code, "database" in unready.json()["missing"]) == (503, True)
        assert stack.training() == child, "the training process has to survive the loss of the database"
        database.start()
        assert http.get(f"/v1/jobs/{job.id}").json()["state"] == "running"
    assert stack.training() == child
    assert_ended_once(client, job, interruptions=0)
