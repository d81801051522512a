"""Everything that can become of the broker: jobs are accepted at once and run, with it or without."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from gradkeel import Client
from gradkeel.contract.tasks import INGEST_QUEUE, TRAIN_QUEUE
from gradkeel.resources.jobs import Job
from servers import Valkey
from swallowing_proxy import SwallowingProxy

from .conftest import CONFIG, Victim, running_victim

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

SMALL = CONFIG | {"budget": CONFIG["budget"] | {"epochs": 2, "batch_size": 256}}
ACCEPTED_SECONDS = 5.0
"""The promise is two; a machine that runs other tests beside this one may take its time."""
JUNK: dict[str, str] = {
    "no JSON": "no JSON at all \x00",
    "a number": "5",
    "an empty object": "{}",
    "no body": json.dumps({"headers": {"task": "gradkeel.train", "id": "x"}, "properties": {}}),
    "a body that is no base64": json.dumps(
        {
            "body": "!!!",
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"task": "gradkeel.train", "id": "y"},
            "properties": {"body_encoding": "base64", "delivery_info": {}, "delivery_tag": "t"},
        }
    ),
    "arguments that are a number": json.dumps(
        {
            "body": "NQ==",
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"task": "gradkeel.train", "id": "z"},
            "properties": {"body_encoding": "base64", "delivery_info": {}, "delivery_tag": "u"},
        }
    ),
}


class Wired:
    """A stack whose broker stands behind a proxy, both for the tests to break."""

    def __init__(self, stack: Victim, broker: Valkey, proxy: SwallowingProxy) -> None:
        self.stack, self.broker, self.proxy = stack, broker, proxy
        self.client: Client = stack.client()
        self.direct = redis.Redis.from_url(broker.url)
        self._dataset: Any = None

    def submit(self, table: Path) -> Job:
        """A small job; accepting it must not take long."""
        self._dataset = self._dataset or self.client.datasets.upload(str(table)).wait()
        begun = time.monotonic()
        job = self.client.jobs.create(self._dataset, config=SMALL)
        assert time.monotonic() - begun < ACCEPTED_SECONDS
        return job


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wired]:
    broker = Valkey()
    with contextlib.closing(broker):
        broker.start()
        with contextlib.closing(SwallowingProxy(broker.port)) as proxy:
            url = f"redis://:{broker.password}@127.0.0.1:{proxy.port}/0"
            with running_victim(tmp_path_factory.mktemp("broker"), GRADKEEL_BROKER_URL=url) as stack:
                yield Wired(stack, broker, proxy)


def full_up(wired: Wired) -> None:
    wired.direct.config_set("maxmemory", "1")


def with_room(wired: Wired) -> None:
    wired.direct.config_set("maxmemory", "0")


Change = Callable[[Wired], Any]
FAULTS: dict[str, tuple[Change, Change]] = {
    "killed": (lambda wired: wired.broker.kill(), lambda wired: wired.broker.start()),
    "hung": (lambda wired: wired.broker.freeze(), lambda wired: wired.broker.thaw()),
    "full": (full_up, with_room),
    "partitioned": (lambda wired: wired.proxy.swallow(), lambda wired: wired.proxy.heal()),
}
"""How each fault begins and ends."""


@pytest.mark.parametrize("fault", FAULTS)
def test_jobs_are_accepted_and_run(wired: Wired, table: Path, fault: str) -> None:
    """One job within the fault, from its POST to its end; and one that is posted within it."""
    begin, end = FAULTS[fault]
    wired.submit(table).wait(timeout=60)
    begin(wired)
    try:
        wired.submit(table).wait(timeout=60)
        late = wired.submit(table)
    finally:
        end(wired)
    late.wait(timeout=60)
    assert late.interruptions == 0
    assert wired.submit(table).wait(timeout=60).state == "succeeded"


def test_a_flush_loses_no_job(wired: Wired, table: Path) -> None:
    jobs = []
    for _ in range(3):
        jobs.append(wired.submit(table))
        wired.direct.flushall()
    assert [job.wait(timeout=60).state for job in jobs] == ["succeeded"] * 3


def test_junk_in_the_queues_stops_nothing(wired: Wired, table: Path) -> None:
    """A worker that chokes on a message is as good as one that never had it: the records say what to do."""
    worker = wired.stack.pid("worker")
    before = wired.submit(table)
    for junk in JUNK.values():
        for queue in (TRAIN_QUEUE, INGEST_QUEUE):
            wired.direct.lpush(queue, junk)
    assert before.wait(timeout=60).interruptions == 0
    other = table.with_name("other.csv")
    other.write_text(table.read_text() + "0.5,0.5,0.5\n")
    fresh = wired.client.datasets.upload(str(other)).wait(timeout=60)
    assert wired.client.jobs.create(fresh, config=SMALL).wait(timeout=60).state == "succeeded"
    assert wired.stack.pid("worker") == worker, "junk cost the worker its life"
