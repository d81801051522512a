"""kill -9 of each part of the stack, each landing mid-training: the job ends once, with its model."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from processes import wait_for_exit

from .conftest import Victim, assert_ended_once, assert_mid_training, begin

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]


def test_the_training_process(victim: Victim, table: Path) -> None:
    client = victim.client()
    job, _ = begin(client, table)
    os.kill(victim.training(), signal.SIGKILL)
    assert_ended_once(client, job, interruptions=1)


def test_the_worker(victim: Victim, table: Path) -> None:
    client = victim.client()
    job, _ = begin(client, table)
    child = victim.training()
    victim.kill("worker")
    assert wait_for_exit(child), "the training process outlived its worker"
    assert_ended_once(client, job, interruptions=1)


def test_the_broker(victim: Victim, table: Path) -> None:
    client = victim.client()
    job, event = begin(client, table)
    child = victim.training()
    victim.kill("broker")
    assert_mid_training(job, event)
    assert victim.training() == child, "the training process has to survive the loss of the broker"
    assert_ended_once(client, job, interruptions=0)


def test_the_web_server(victim: Victim, table: Path) -> None:
    client = victim.client()
    job, event = begin(client, table)
    victim.kill("http")
    assert_mid_training(job, event)
    assert_ended_once(client, job, interruptions=0)


def test_everything_at_once(victim: Victim, table: Path) -> None:
    """The supervisor is killed, so all is; the next `gradkeel up` on the same folder finishes the job."""
    client = victim.client()
    job, _ = begin(client, table)
    parts = [victim.training(), victim.pid("worker"), victim.pid("http"), victim.pid("broker")]
    victim.server.process.kill()
    victim.server.process.wait()
    assert all(wait_for_exit(part) for part in parts)
    victim.start()
    client = victim.client()
    assert_ended_once(client, client.jobs.get(job.id), interruptions=1)


def test_a_worker_frozen_past_its_lease(victim: Victim, table: Path) -> None:
    """Another takes over; what the frozen one does after it thaws touches nothing."""
    client = victim.client()
    job, event = begin(client, table)
    frozen, child = victim.pid("worker"), victim.training()
    os.kill(frozen, signal.SIGSTOP)
    second = victim.start_second_worker()
    try:
        fence = event.data["fence"]
        next(
            e
            for e in job.stream()
            if e.data["fence"] > fence and e.name == "state" and e.data["state"] == "running"
        )
        os.kill(frozen, signal.SIGCONT)
        assert wait_for_exit(child), "the frozen worker has to end its own child"
        assert_ended_once(client, job, interruptions=1)
    finally:
        os.kill(frozen, signal.SIGCONT)
        second.terminate()
        assert second.wait(30) == 0


def test_sigterm_gives_the_job_back(victim: Victim, table: Path) -> None:
    """An orderly stop costs no attempt; the next start finishes the job."""
    client = victim.client()
    job, _ = begin(client, table)
    victim.close()
    victim.start()
    client = victim.client()
    assert_ended_once_after_release(client.jobs.get(job.id))


def assert_ended_once_after_release(job: object) -> None:
    job.wait(timeout=120)  # type: ignore[attr-defined]
    assert (job.state, job.interruptions, job.attempts) == ("succeeded", 0, 1)  # type: ignore[attr-defined]


def test_an_upload_cut_in_the_middle_leaves_nothing(victim: Victim) -> None:
    client = victim.client()
    host, port = client.url.removeprefix("http://").split(":")
    key = (victim.data / "profile.json").read_text().split('"api_key": "')[1].split('"')[0]
    head = (
        f"POST /v1/datasets?name=cut.csv HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {key}\r\n"
        "Content-Type: text/csv\r\nContent-Length: 100000\r\n\r\na,b,y\n1,2,3\n"
    )
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(head.encode())
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(4096)
    assert b" 400 " in answer.split(b"\r\n")[0]
    assert list(client.datasets.list()) == []
    assert not list((victim.data / "objects").rglob("*.part"))
    visible = [path for path in (victim.data / "objects" / "sha256").rglob("*") if path.is_file()]
    assert visible == []
