"""A worker with these settings, on a real broker that is killed, flushed and fed pickles."""

import dataclasses
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from celery import Celery

from gradkeel.contract.tasks import TRAIN, TRAIN_QUEUE
from gradkeel_store.queue import make_celery, ring_train
from gradkeel_store.settings import Settings
from servers import Valkey, die_with_parent

WAIT = 60


class Listener:
    """The running worker; `heard` receives each line that it says."""

    def __init__(self, broker_url: str, folder: Path) -> None:
        command = [sys.executable, str(Path(__file__).parent / "listener.py"), broker_url, str(folder)]
        environment = os.environ | {"C_FORCE_ROOT": "1"}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment, preexec_fn=die_with_parent
        )
        self.heard: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.heard.put(line.strip())

    def all_until(self, word: str) -> list[str]:
        words: list[str] = []
        while not words or words[-1] != word:
            words.append(self.heard.get(timeout=WAIT))
        return words


@pytest.fixture(params=["tcp", "socket"])
def broker_url(request: pytest.FixtureRequest, valkey: Valkey) -> str:
    return valkey.url if request.param == "tcp" else valkey.socket_url


@pytest.fixture
def listener(broker_url: str, tmp_path: Path) -> Iterator[Listener]:
    started = Listener(broker_url, tmp_path / "worker")
    started.all_until("ready")
    yield started
    started.process.kill()
    started.process.wait()


@pytest.fixture
def producer(settings: Settings, broker_url: str) -> Celery:
    return make_celery(dataclasses.replace(settings, broker_url=broker_url))


def ring_until_heard(producer: Celery, listener: Listener, job_id: str) -> list[str]:
    """What the reconciler does: ring again until the worker has heard it."""
    stop = threading.Event()

    def ring() -> None:
        while not stop.wait(0.2):
            ring_train(producer, job_id)

    ringer = threading.Thread(target=ring)
    ringer.start()
    try:
        return listener.all_until(job_id)
    finally:
        stop.set()
        ringer.join()


def test_a_ring_is_heard(listener: Listener, producer: Celery) -> None:
    assert ring_train(producer, "job_1")
    assert listener.all_until("job_1") == ["job_1"]


def test_consumption_resumes_after_the_broker_was_killed(
    listener: Listener, producer: Celery, valkey: Valkey
) -> None:
    for number in range(2):
        valkey.kill()
        valkey.start()
        ring_until_heard(producer, listener, f"job_{number}")


def test_consumption_goes_on_after_a_flush(listener: Listener, producer: Celery, valkey: Valkey) -> None:
    redis.Redis.from_url(valkey.url).flushall()
    ring_until_heard(producer, listener, "job_1")


def test_a_pickle_is_refused_not_run(listener: Listener, producer: Celery, valkey: Valkey) -> None:
    sender = Celery("sender", broker=valkey.url)
    sender.send_task(TRAIN, kwargs={"job_id": "pickled"}, queue=TRAIN_QUEUE, serializer="pickle")
    assert "pickled" not in ring_until_heard(producer, listener, "job_1")
