"""GET /v1/usage: what a project uses, beside what it may use."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx2 as httpx
import pytest

from gradkeel import AsyncClient, Client, Usage
from gradkeel.cli.app import main
from service.conftest import Service, assert_problem, running_service


@pytest.fixture(scope="module")
def measured() -> Iterator[Service]:
    """A service whose projects may train for an hour a day and hold one stream."""
    with running_service(GRADKEEL_MAX_TRAINING_SECONDS="3600", GRADKEEL_MAX_STREAMS="1") as running:
        yield running


def usage(client: httpx.Client) -> dict[str, Any]:
    answer = client.get("/v1/usage")
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def test_what_is_used_is_counted(measured: Service) -> None:
    model = {"target": "price", "task": "regression", "columns": [], "digests": {}}
    with measured.client() as client, measured.client(measured.stranger) as stranger:
        before = usage(client)
        assert before["project"]["name"] == "default"
        measured.ended_job(model)
        queued = measured.job()
        after = usage(client)
        assert usage(stranger)["jobs"]["queued"] == 0
    counts = {name: after["jobs"][name] - before["jobs"][name] for name in before["jobs"]}
    assert counts == {"queued": 1, "running": 0, "succeeded": 1, "failed": 0, "cancelled": 0}
    assert after["datasets"]["ready"] - before["datasets"]["ready"] == 2
    assert after["models"] - before["models"] == 1
    assert after["quotas"]["queued_jobs"] == {"used": after["jobs"]["queued"], "limit": 10_000}
    assert after["quotas"]["storage_bytes"]["used"] > before["quotas"]["storage_bytes"]["used"]
    assert after["quotas"]["training_seconds_of_day"]["limit"] == 3600
    assert after["training_seconds"] > 0
    assert after["limits"]["rows"] is None
    assert after["limits"]["body_bytes"] == 2_000_000
    measured.records.request_cancel(measured.project, queued.id)


def test_usage_needs_the_scope_admin(measured: Service) -> None:
    with measured.client(measured.submitter) as client:
        assert_problem(client.get("/v1/usage"), 403, "forbidden")


def test_sdk_and_command_line_show_the_same(measured: Service, capsys: pytest.CaptureFixture[str]) -> None:
    with measured.client() as plain, Client(measured.url, measured.admin) as client:
        expected = usage(plain)
        found = client.usage()
    assert found.raw == asyncio.run(_asked(measured)).raw == expected
    assert found.quotas["streams"]["limit"] == 1
    assert "training_seconds_of_day" in found._repr_html_()
    access = ["--url", measured.url, "--api-key", measured.admin]
    assert main([*access, "usage", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == expected
    assert main([*access, "usage"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Project default"
    assert ["training_seconds_of_day", "3,600"] in [
        [line.split()[0], line.split()[-1]] for line in lines if line
    ]
    assert any(line.startswith("rows") and line.endswith("no limit") for line in lines)


async def _asked(measured: Service) -> Usage:
    async with AsyncClient(measured.url, measured.admin) as client:
        return await client.usage()


def test_a_project_holds_so_many_streams(measured: Service) -> None:
    job = measured.running_job()
    with (
        measured.client() as client,
        client.stream("GET", f"/v1/jobs/{job.id}/events", headers={"Accept": "text/event-stream"}) as first,
    ):
        assert first.status_code == 200
        assert usage(client)["quotas"]["streams"] == {"used": 1, "limit": 1}
        with measured.client() as another:
            second = another.get(f"/v1/jobs/{job.id}/events", headers={"Accept": "text/event-stream"})
        document = assert_problem(second, 429, "quota")
        assert "GRADKEEL_MAX_STREAMS" in document["detail"]
        assert int(second.headers["Retry-After"]) >= 1


def test_a_project_that_trained_its_seconds_of_the_day_has_to_wait() -> None:
    with running_service(GRADKEEL_MAX_TRAINING_SECONDS="1") as brief, brief.client() as client:
        held = brief.running_job()
        config = {"dataset_id": held.dataset_id, "target": "price"}
        assert client.post("/v1/jobs", json=config).status_code == 202
        with brief.records.engine.begin() as connection:  # a second ago, as far as the record goes
            connection.exec_driver_sql("UPDATE jobs SET started_at = '2020-01-01' WHERE id = ?", (held.id,))
        assert brief.records.finish_job(held.id, held.fence, "succeeded")
        refused = client.post("/v1/jobs", json=config)
        assert "GRADKEEL_MAX_TRAINING_SECONDS" in assert_problem(refused, 429, "quota")["detail"]
        assert int(refused.headers["Retry-After"]) >= 60
        assert_problem(client.post(f"/v1/jobs/{held.id}/retry"), 429, "quota")
