"""The queue against a real broker; and what a caller sees when it is away."""

import base64
import dataclasses
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
from celery import Celery

from gradkeel.contract.tasks import INGEST, INGEST_QUEUE, TRAIN, TRAIN_QUEUE
from gradkeel_store.queue import QUEUES, WORKER_FLAGS, make_celery, ring_ingest, ring_train, transport_options
from gradkeel_store.settings import Settings
from servers import Valkey, free_port

BOUND = 2.0
"""The promise to a POST: answered within two seconds, whatever has become of the broker."""


@pytest.fixture(params=["tcp", "socket"])
def broker_settings(request: pytest.FixtureRequest, settings: Settings, valkey: Valkey) -> Settings:
    url = valkey.url if request.param == "tcp" else valkey.socket_url
    return dataclasses.replace(settings, broker_url=url)


@pytest.fixture
def app(broker_settings: Settings) -> Celery:
    return make_celery(broker_settings)


def within_bound(ring: Callable[[Celery, str], bool], app: Celery) -> bool:
    begun = time.monotonic()
    answer = ring(app, "job_x")
    assert time.monotonic() - begun < BOUND
    return answer


def messages(valkey: Valkey, queue: str) -> list[dict[str, Any]]:
    client = redis.Redis.from_url(valkey.url)
    return [json.loads(text) for text in client.lrange(queue, 0, -1)]  # type: ignore[union-attr]


def test_a_message_is_json_and_carries_one_id(app: Celery, valkey: Valkey) -> None:
    assert ring_train(app, "job_1")
    assert ring_ingest(app, "ds_1")
    [train], [ingest] = messages(valkey, TRAIN_QUEUE), messages(valkey, INGEST_QUEUE)
    assert (train["headers"]["task"], ingest["headers"]["task"]) == (TRAIN, INGEST)
    assert train["content-type"] == "application/json"
    args, kwargs, _ = json.loads(base64.b64decode(train["body"]))
    assert (args, kwargs) == ([], {"job_id": "job_1"})
    assert json.loads(base64.b64decode(ingest["body"]))[1] == {"dataset_id": "ds_1"}


def test_a_killed_broker_is_told_at_once_and_rung_again_once_back(app: Celery, valkey: Valkey) -> None:
    assert ring_train(app, "job_1")
    valkey.kill()
    assert not within_bound(ring_train, app)
    assert not within_bound(ring_ingest, app)
    valkey.start()
    assert ring_train(app, "job_2")


def test_a_broker_that_was_never_there(broker_settings: Settings, valkey: Valkey) -> None:
    valkey.kill()
    assert not within_bound(ring_train, make_celery(broker_settings))


def test_a_frozen_broker_does_not_hold_the_caller(
    app: Celery, broker_settings: Settings, valkey: Valkey
) -> None:
    assert ring_train(app, "job_1")
    valkey.freeze()
    try:
        assert not within_bound(ring_train, app)
        assert not within_bound(ring_train, make_celery(broker_settings))
    finally:
        valkey.thaw()
    assert ring_train(app, "job_2")


def test_a_flushed_broker_takes_messages_at_once(app: Celery, valkey: Valkey) -> None:
    assert ring_train(app, "job_1")
    redis.Redis.from_url(valkey.url).flushall()
    assert ring_train(app, "job_2")
    assert len(messages(valkey, TRAIN_QUEUE)) == 1


def test_a_wrong_password_is_no_error_of_the_caller(settings: Settings, valkey: Valkey) -> None:
    wrong = valkey.url.replace(valkey.password, "wrong")
    assert not within_bound(ring_train, make_celery(dataclasses.replace(settings, broker_url=wrong)))


def test_another_kind_of_broker_that_is_away(settings: Settings) -> None:
    url = f"amqp://guest:guest@127.0.0.1:{free_port()}//"
    assert not within_bound(ring_train, make_celery(dataclasses.replace(settings, broker_url=url)))


def test_the_worker_takes_json_early_and_one_at_a_time(settings: Settings) -> None:
    conf = make_celery(dataclasses.replace(settings, worker_concurrency=3), "worker").conf
    asked = {
        "accept_content": ["json"], "task_serializer": "json",
        "result_backend": None, "task_ignore_result": True,
        "task_acks_late": False, "worker_disable_prefetch": True, "worker_prefetch_multiplier": 1,
        "worker_enable_remote_control": False, "worker_pool": "threads", "worker_concurrency": 3,
        "broker_connection_retry_on_startup": True, "broker_connection_max_retries": None,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
    }  # fmt: skip
    assert {name: conf[name] for name in asked} == asked
    assert {queue.name for queue in conf.task_queues} == set(QUEUES.values())
    for flag in ("gossip", "mingle", "heartbeat"):
        assert f"--without-{flag}" in WORKER_FLAGS


def test_the_worker_never_gives_up_and_never_acknowledges_late() -> None:
    assert transport_options("redis://h", "worker") == {
        "ack_emulation": False, "socket_timeout": 10, "socket_keepalive": True, "health_check_interval": 5,
    }  # fmt: skip
    assert "socket_keepalive" not in transport_options("redis+socket:///s", "worker")
    assert transport_options("amqp://h", "worker") == {}
