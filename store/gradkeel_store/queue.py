"""The queue: Celery as a doorbell.

A message carries one id and may vanish, double or be forged: the row that it names decides. So producers
never wait for the broker, and a ring that fails is made up for by the reconciler and by polling workers.
"""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import urlsplit

from celery import Celery
from celery.exceptions import CeleryError
from kombu.entity import Queue
from kombu.exceptions import KombuError, OperationalError

from gradkeel.contract.tasks import INGEST, INGEST_QUEUE, TRAIN, TRAIN_QUEUE
from gradkeel_store.settings import Settings

Role = Literal["producer", "worker"]

QUEUES = {TRAIN: TRAIN_QUEUE, INGEST: INGEST_QUEUE}
"""Task name → the queue that it goes to."""

WORKER_FLAGS = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--pool=threads")
"""Options of ``celery worker`` that have no setting of their own."""

RING_SECONDS = 0.25
"""How long a producer waits for the broker to connect, and again to answer."""

WORKER_TRANSPORT: dict[str, Any] = {
    "ack_emulation": False,  # early ack: a long job must not come again after a visibility timeout
    "socket_timeout": 10,
    "socket_keepalive": True,
    "health_check_interval": 5,
}

PRODUCER_TRANSPORT: dict[str, Any] = {
    "ack_emulation": False,
    "socket_timeout": RING_SECONDS,
    "socket_connect_timeout": RING_SECONDS,
    "socket_keepalive": True,
    "max_retries": 0,
}

SETTINGS: dict[str, Any] = {
    "accept_content": ["json"],
    "task_serializer": "json",
    "result_backend": None,
    "task_ignore_result": True,
    "task_acks_late": False,
    "task_publish_retry": False,
    "task_create_missing_queues": False,
    "task_queues": [Queue(name, routing_key=name) for name in QUEUES.values()],  # type: ignore[no-untyped-call]
    "task_routes": {task: {"queue": queue} for task, queue in QUEUES.items()},
    "task_default_queue": TRAIN_QUEUE,
    "worker_pool": "threads",
    "worker_disable_prefetch": True,
    "worker_prefetch_multiplier": 1,
    "worker_enable_remote_control": False,
    "worker_send_task_events": False,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "broker_heartbeat": 0,
    "enable_utc": True,
    "timezone": "UTC",
}


def make_celery(settings: Settings, role: Role = "producer") -> Celery:
    """A Celery app for one side. A producer never waits long; a worker never gives up on its broker."""
    app = Celery("gradkeel", broker=settings.broker_url, set_as_current=role == "worker")
    app.conf.update(SETTINGS)
    app.conf.worker_concurrency = settings.worker_concurrency
    app.conf.broker_transport_options = transport_options(settings.broker_url, role)
    if role == "producer":
        app.conf.broker_connection_retry = False
        app.conf.broker_connection_timeout = RING_SECONDS
    return app


def transport_options(broker_url: str, role: Role) -> dict[str, Any]:
    """Options of the broker's transport; those of Redis mean nothing to another broker."""
    scheme = urlsplit(broker_url).scheme
    if not scheme.startswith("redis"):
        return {"max_retries": 0} if role == "producer" else {}
    options = dict(PRODUCER_TRANSPORT if role == "producer" else WORKER_TRANSPORT)
    if scheme == "redis+socket":
        options.pop("socket_keepalive")  # keepalive is a matter of TCP
    return options


def ring_train(app: Celery, job_id: str) -> bool:
    """Ring for a job. False when the broker could not be told; never raises for that, never waits long."""
    return _ring(app, TRAIN, {"job_id": job_id})


def ring_ingest(app: Celery, dataset_id: str) -> bool:
    """Ring for a data set; as `ring_train`."""
    return _ring(app, INGEST, {"dataset_id": dataset_id})


def _ring(app: Celery, task: str, kwargs: dict[str, str]) -> bool:
    try:
        app.send_task(task, kwargs=kwargs, queue=QUEUES[task], retry=False, ignore_result=True)
    except (OSError, OperationalError, KombuError, CeleryError):
        return False
    return True
