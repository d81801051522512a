"""How much a project may use and how often a key may call, on services with little room."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2 as httpx
import pytest

from service.conftest import Service, assert_problem, running_service

RATE = 30
STORAGE = 5_000


@pytest.fixture(scope="module")
def hurried() -> Iterator[Service]:
    """A service whose keys may send 30 requests a minute."""
    with running_service(GRADKEEL_RATE_LIMIT=str(RATE)) as running:
        yield running


@pytest.fixture(scope="module")
def narrow() -> Iterator[Service]:
    """A service with room for two queued jobs and a few kilobytes."""
    with running_service(GRADKEEL_MAX_QUEUED_JOBS="2", GRADKEEL_MAX_STORAGE_BYTES=str(STORAGE)) as running:
        yield running


def send_until_refused(client: httpx.Client) -> httpx.Response:
    """The first answer that is not 200; there is one among so many, even when a minute ends in between."""
    answers = (client.get("/v1/jobs") for _ in range(2 * RATE + 1))
    return next(answer for answer in answers if answer.status_code != 200)


def test_too_many_requests_of_a_key(hurried: Service) -> None:
    with hurried.client(hurried.admin) as client:
        document = assert_problem(refused := send_until_refused(client), 429, "rate_limited")
        assert str(RATE) in document["detail"]
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
    with hurried.client(hurried.stranger) as another:
        assert another.get("/v1/jobs").status_code == 200


def test_probes_and_schemas_are_not_counted(hurried: Service) -> None:
    with hurried.client(hurried.submitter) as client:
        for path in ("/healthz", "/v1/schemas/config.json"):
            assert {client.get(path).status_code for _ in range(2 * RATE + 1)} == {200}


def test_the_limit_holds_without_redis(hurried: Service) -> None:
    hurried.broker.kill()
    try:
        with hurried.client(hurried.reader) as client:
            assert_problem(send_until_refused(client), 429, "rate_limited")
    finally:
        hurried.broker.start()


def test_the_quota_of_queued_jobs(narrow: Service) -> None:
    config = {"dataset_id": narrow.ready_dataset().id, "target": "price"}
    with narrow.client() as client:
        first, second = (client.post("/v1/jobs", json=config) for _ in range(2))
        assert (first.status_code, second.status_code) == (202, 202)
        third = client.post("/v1/jobs", json=config, headers={"Idempotency-Key": "third"})
        assert "2 jobs" in assert_problem(third, 429, "quota")["detail"]
        assert int(third.headers["Retry-After"]) >= 1
        assert len(client.get("/v1/jobs").json()["data"]) == 2
        assert client.post("/v1/jobs?validate_only=true", json=config).status_code == 200

        ended = first.json()["id"]
        assert client.post(f"/v1/jobs/{ended}/cancel").status_code == 202
        again = client.post("/v1/jobs", json=config, headers={"Idempotency-Key": "third"})
        assert again.status_code == 202  # a refused request may come again under its key
        assert_problem(client.post(f"/v1/jobs/{ended}/retry"), 429, "quota")
        client.post(f"/v1/jobs/{again.json()['id']}/cancel")
        client.post(f"/v1/jobs/{second.json()['id']}/cancel")


def test_running_jobs_are_not_queued(narrow: Service) -> None:
    running = narrow.running_job()
    queued = [narrow.job(), narrow.job()]
    assert narrow.records.get_job(narrow.project, running.id).state == "running"
    for job in queued:
        narrow.records.request_cancel(narrow.project, job.id)


def test_the_quota_of_storage(narrow: Service) -> None:
    half = b"a,b\n" + b"1,2\n" * (STORAGE // 8 - 1)
    assert 2 * len(half) == STORAGE
    with narrow.client(narrow.stranger) as client:
        first = client.post("/v1/datasets", content=half)
        before = list(narrow.objects.list())
        over = client.post("/v1/datasets", content=half + b"\n")
        assert str(STORAGE) in assert_problem(over, 507, "storage_full")["detail"]
        assert list(narrow.objects.list()) == before
        assert client.post("/v1/datasets", content=half).status_code == 201  # the last byte of it

        one_more = iter([b"a\n1\n"])  # its length is not known before it is read
        assert_problem(client.post("/v1/datasets", content=one_more), 507, "storage_full")
        assert len(client.get("/v1/datasets").json()["data"]) == 2

        assert client.delete(f"/v1/datasets/{first.json()['id']}").status_code == 204
        assert client.post("/v1/datasets", content=half).status_code == 201
