"""What a client sees of restarts: one job a key, every event once or a gap, waits that end."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest
import redis

from gradkeel import Client, Event
from gradkeel.resources.jobs import Job
from gradkeel_store.settings import redis_url_of
from processes import eventually

from .conftest import CONFIG, Victim
from .followers import Follower, assert_nothing_silent, browser, pages

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

ENDLESS = CONFIG | {"budget": CONFIG["budget"] | {"epochs": 1_000_000}}


@pytest.fixture
def stack(lasting: Victim) -> Victim:
    return lasting


@pytest.fixture
def endless(stack: Victim, table: Path) -> Iterator[Job]:
    """A job that trains until it is cancelled."""
    client = stack.client()
    job = client.jobs.create(client.datasets.upload(str(table)), config=ENDLESS)
    yield job
    if not job.refresh().ended:
        job.cancel().wait(timeout=60, check=False)


def embedded_broker(stack: Victim) -> redis.Redis:
    return redis.Redis.from_url(
        redis_url_of(f"redis+socket://{stack.data}/broker/broker.sock?virtual_host=0")
    )


def forget_everything(stack: Victim) -> None:
    """Empty the broker, once it is there again."""

    def flushed() -> bool:
        with embedded_broker(stack) as broker:
            try:
                return bool(broker.flushall())
            except redis.ConnectionError:
                return False

    eventually(flushed)


def is_step(event: Event) -> bool:
    return event.name in ("epoch", "reading")


def test_one_key_makes_one_job_over_a_restart(stack: Victim, table: Path) -> None:
    client = stack.client()
    body = CONFIG | {"dataset_id": client.datasets.upload(str(table)).id}
    headers = {"Authorization": f"Bearer {stack.key}", "Idempotency-Key": "over-a-restart"}
    first = httpx.post(f"{client.url}/v1/jobs", json=body, headers=headers, timeout=30)
    stack.kill("http")
    # The listening socket belongs to the supervisor: the request waits for the next server.
    second = httpx.post(f"{client.url}/v1/jobs", json=body, headers=headers, timeout=60)
    assert (first.status_code, second.status_code) == (202, 202)
    assert second.headers["Idempotent-Replayed"] == "true"
    assert first.json() == second.json()
    client.jobs.get(first.json()["id"]).cancel()


def test_events_through_restarts_of_everything(stack: Victim, endless: Job) -> None:
    """The web server and the broker are killed and stopped, the broker forgets everything: no silent hole."""
    client = stack.client()
    followers = [Follower(endless.stream()), Follower(browser(client, stack.key, endless.id))]

    def steps_go_on() -> None:
        for follower in followers:
            follower.wait_for(is_step)

    steps_go_on()
    stack.kill("http")
    steps_go_on()
    stack.kill("broker")
    steps_go_on()
    forget_everything(stack)
    steps_go_on()
    frozen = stack.pid("broker")
    os.kill(frozen, signal.SIGSTOP)
    try:
        assert client.jobs.get(endless.id).state == "running"
    finally:
        os.kill(frozen, signal.SIGCONT)
    steps_go_on()
    os.kill(stack.pid("http"), signal.SIGTERM)
    steps_go_on()
    endless.cancel().wait(timeout=60, check=False)
    assert endless.interruptions == 0
    for follower in followers:
        assert_nothing_silent(follower.all())
    told = pages(client, stack.key, endless.id)
    assert_nothing_silent([Event(each["id"], each["event"], each["data"]) for each in told])
    assert told == pages(client, stack.key, endless.id, limit=1000)


def test_waits_end_when_the_server_stops(stack: Victim, endless: Job) -> None:
    """SIGTERM: a long poll is answered at once, a stream ends between two events."""
    url, headers = stack.client().url, {"Authorization": f"Bearer {stack.key}"}
    host = url.removeprefix("http://")
    Follower(endless.stream()).wait_for(is_step)
    asked = f"GET /v1/jobs/{endless.id}?wait=60 HTTP/1.1\r\nHost: {host}\r\n"
    asked += f"Authorization: {headers['Authorization']}\r\n\r\n"
    with socket.create_connection((host.split(":")[0], int(host.split(":")[1])), timeout=45) as poll:
        poll.sendall(asked.encode())
        with httpx.stream("GET", f"{url}/v1/jobs/{endless.id}/events", headers=headers, timeout=30) as stream:
            lines = stream.iter_lines()
            next(line for line in lines if line.startswith("id:"))
            os.kill(stack.pid("http"), signal.SIGTERM)
            assert list(lines)[-1] == "", "the stream ended within an event"
        assert poll.recv(65536).startswith(b"HTTP/1.1 200 OK")


def test_a_wait_of_the_sdk_outlasts_a_kill(stack: Victim, endless: Job) -> None:
    client: Client = stack.client()
    ended: list[str] = []
    waiting = threading.Thread(
        target=lambda: ended.append(client.jobs.get(endless.id).wait(check=False).state)
    )
    Follower(endless.stream()).wait_for(is_step)
    waiting.start()
    stack.kill("http")
    endless.cancel()
    waiting.join(90)
    assert ended == ["cancelled"]
