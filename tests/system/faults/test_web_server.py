"""The web server dies between commit and ring, is stopped under load, or runs out of descriptors."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from gradkeel_store.records import Records, open_records
from gradkeel_store.settings import Settings
from processes import children_of
from servers import Valkey
from service.conftest import TABLE, Service, assert_problem, running_service

from .conftest import CONFIG, Victim, few_descriptors, running_victim

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]
LONGEST = 60.0


@pytest.fixture
def records(stack: Victim) -> Iterator[Records]:
    opened = open_records(Settings.load(env={}, data=stack.data))
    yield opened
    opened.close()


@pytest.fixture
def stack(valkey: Valkey, tmp_path: Path) -> Iterator[Victim]:
    with running_victim(tmp_path, GRADKEEL_BROKER_URL=valkey.url) as running:
        yield running


@pytest.fixture
def service() -> Iterator[Service]:
    """A service of the test's own."""
    with running_service() as running:
        yield running


def test_kill_9_between_commit_and_ring(stack: Victim, records: Records, valkey: Valkey, table: Path) -> None:
    """The row is there, nobody was told and nobody was answered: the job runs, and a retry finds it."""
    client = stack.client()
    dataset = client.datasets.upload(str(table)).wait(timeout=60)
    small = CONFIG | {"dataset_id": dataset.id, "budget": CONFIG["budget"] | {"epochs": 2}}
    headers = {"Authorization": f"Bearer {stack.key}", "Idempotency-Key": "cut"}
    failed: list[Exception] = []

    def post() -> None:
        try:
            httpx.post(f"{client.url}/v1/jobs", json=small, headers=headers, timeout=60)
        except httpx.TransportError as error:
            failed.append(error)

    project = records.default_project()
    valkey.freeze()  # which holds the ring, just after the commit
    try:
        posting = threading.Thread(target=post)
        posting.start()
        deadline = time.monotonic() + LONGEST
        while not (made := records.list_jobs(project).rows):
            assert time.monotonic() < deadline, "the job was never committed"
        stack.kill("http")
        posting.join(LONGEST)
    finally:
        valkey.thaw()
    assert len(failed) == 1, "the server answered before it was killed"
    again = httpx.post(f"{client.url}/v1/jobs", json=small, headers=headers, timeout=60)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert [again.json()["id"]] == [row.id for row in made]
    assert client.jobs.get(made[0].id).wait(timeout=60).state == "succeeded"
    assert len(records.list_jobs(project).rows) == 1


def begin_upload(service: Service, content: bytes) -> socket.socket:
    """All of an upload but its last byte, of which the server has begun to take in the rest."""
    head = (
        f"POST /v1/datasets?name=slow.csv HTTP/1.1\r\nHost: 127.0.0.1:{service.port}\r\n"
        f"Authorization: Bearer {service.admin}\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    connection = socket.create_connection(("127.0.0.1", service.port), timeout=30)
    connection.sendall(head.encode() + content[:-1])
    deadline = time.monotonic() + LONGEST
    while not any(service.objects.temporary.glob("*")):
        assert time.monotonic() < deadline, "the upload was never begun"
    return connection


def test_sigterm_under_load(service: Service) -> None:
    """What had begun is answered: an upload in the middle of its body, and requests from many threads."""
    dataset = service.ready_dataset().id
    answered: list[Any] = []
    unanswered: list[Exception] = []
    count = threading.Semaphore(0)

    def load() -> None:
        with service.client() as client:
            try:
                while True:
                    posted = client.post("/v1/jobs", json={"dataset_id": dataset, "target": "price"})
                    answered.append((posted.status_code, posted.json()["id"]))
                    count.release()
            except httpx.TransportError as error:
                unanswered.append(error)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        assert count.acquire(timeout=LONGEST), unanswered
    assert service.server is not None
    upload = begin_upload(service, TABLE.encode())
    os.kill(service.server.process.pid, signal.SIGTERM)
    upload.sendall(TABLE.encode()[-1:])
    assert upload.recv(65536).startswith(b"HTTP/1.1 201")
    upload.close()
    for thread in threads:
        thread.join(30)
    assert service.server.process.wait(30) == 0
    assert {status for status, _ in answered} == {202}
    kept = set()
    after = None
    while True:
        page = service.records.list_jobs(service.project, limit=1000, after=after)
        kept |= {row.id for row in page.rows}
        if not page.has_more:
            break
        after = page.next_cursor
    assert {job_id for _, job_id in answered} == kept, "a job was made and its maker was not told"


def test_no_descriptors_left(service: Service) -> None:
    """503 meanwhile, for open connections and new ones; then all is as before, in the same process."""
    assert service.server is not None
    (worker,) = children_of(service.server.process.pid)
    with service.client() as client:
        assert client.get("/v1/jobs").status_code == 200
        with few_descriptors(worker, free=0):
            answer = client.post("/v1/datasets", content=TABLE.encode())
            assert_problem(answer, 503, "unavailable")
            assert "Retry-After" in answer.headers
            fresh = httpx.get(f"{service.url}/v1/jobs", timeout=30)
            assert (fresh.status_code, fresh.headers["Retry-After"]) == (503, "5")
            assert fresh.json()["type"] == "urn:gradkeel:problem:unavailable"
        assert client.post("/v1/datasets", content=TABLE.encode()).status_code == 201
    assert httpx.get(f"{service.url}/healthz", timeout=30).status_code == 200
    assert children_of(service.server.process.pid) == [worker]
