"""Idempotency-Key: the same request twice does its work once."""

from __future__ import annotations

import secrets

import httpx2 as httpx
import pytest

from service.conftest import TABLE, Service, assert_problem


@pytest.fixture
def key() -> dict[str, str]:
    return {"Idempotency-Key": secrets.token_hex(8)}


def test_a_job_is_made_once(service: Service, client: httpx.Client, key: dict[str, str]) -> None:
    config = {"dataset_id": service.ready_dataset().id, "target": "price"}
    first = client.post("/v1/jobs", json=config, headers=key)
    second = client.post("/v1/jobs", json=config, headers=key)
    assert first.status_code == second.status_code == 202
    assert first.json() == second.json()
    assert second.headers["Idempotent-Replayed"] == "true"
    assert second.headers["Location"] == first.headers["Location"]
    other = client.post("/v1/jobs", json=config | {"seed": 1}, headers=key)
    assert_problem(other, 422, "key_reused")


def test_an_upload_is_made_once(client: httpx.Client, key: dict[str, str]) -> None:
    first = client.post("/v1/datasets?name=a.csv", content=TABLE.encode(), headers=key)
    second = client.post("/v1/datasets?name=a.csv", content=TABLE.encode(), headers=key)
    assert first.json()["id"] == second.json()["id"]
    assert_problem(client.post("/v1/datasets", content=b"a\n1\n", headers=key), 422, "key_reused")


def test_a_refused_request_may_be_mended(service: Service, client: httpx.Client, key: dict[str, str]) -> None:
    config = {"dataset_id": service.ready_dataset().id, "target": "price"}
    assert_problem(client.post("/v1/jobs", json=config | {"seed": -1}, headers=key), 422, "invalid")
    assert client.post("/v1/jobs", json=config, headers=key).status_code == 202


def test_cancel_and_retry_replay(service: Service, client: httpx.Client, key: dict[str, str]) -> None:
    job = service.job()
    client.post(f"/v1/jobs/{job.id}/cancel")
    first = client.post(f"/v1/jobs/{job.id}/retry", headers=key)
    second = client.post(f"/v1/jobs/{job.id}/retry", headers=key)
    assert first.json()["id"] == second.json()["id"]


def test_a_request_that_still_runs(service: Service, client: httpx.Client, key: dict[str, str]) -> None:
    body = b'{"target":"price"}'
    digest = "00" * 32
    service.records.begin_idempotent(service.project, key["Idempotency-Key"], "POST /v1/jobs", digest)
    answer = client.post("/v1/jobs", content=body, headers=key | {"Content-Type": "application/json"})
    assert_problem(answer, 422, "key_reused")


def test_the_answer_survives_a_server_that_died_before_it_was_sent(
    service: Service, client: httpx.Client, key: dict[str, str]
) -> None:
    """The job was committed, its answer never stored: the same request finds the same job."""
    dataset = service.ready_dataset()
    made = client.post("/v1/jobs", json={"dataset_id": dataset.id, "target": "price"}, headers=key)
    with service.records.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE idempotency SET status = NULL WHERE key = ?", (key["Idempotency-Key"],)
        )
    again = client.post("/v1/jobs", json={"dataset_id": dataset.id, "target": "price"}, headers=key)
    assert again.json()["id"] == made.json()["id"]


@pytest.mark.parametrize("bad", ["", "x" * 201, "a b"])
def test_bad_keys(client: httpx.Client, bad: str) -> None:
    answer = client.post("/v1/datasets", content=b"a\n1\n", headers={"Idempotency-Key": bad})
    assert_problem(answer, 422, "invalid")
