"""The Celery side: tasks that wake the worker, and the signals of Celery's life."""

import contextlib
from typing import Any

from celery import Celery, signals

from gradkeel.contract.tasks import INGEST, TRAIN
from gradkeel_store.queue import WORKER_FLAGS, make_celery
from gradkeel_store.settings import Settings
from gradkeel_worker.worker import Worker

RING_THREADS = 2
AGAIN_SECONDS = 0.1


def make_app(settings: Settings, worker: Worker) -> Celery:
    """The Celery app whose two tasks ring at `worker`. What a message says beyond that is not believed."""
    app = make_celery(settings, "worker")
    app.conf.worker_concurrency = RING_THREADS

    def ring(**_: Any) -> None:
        worker.wake()

    for name in (TRAIN, INGEST):
        app.task(ring, name=name, ignore_result=True)
    return app


def serve(settings: Settings) -> None:
    """Run a worker until SIGTERM or SIGINT. Jobs that run then go back to the queue."""
    worker = Worker(settings)

    def begin_stop(**_: Any) -> None:
        worker.begin_stop()

    signals.worker_shutting_down.connect(begin_stop, weak=False)
    worker.start()
    try:
        _listen(settings, worker)
    finally:
        worker.close()


def _listen(settings: Settings, worker: Worker) -> None:
    """Take rings until the worker stops.

    A message that Celery cannot read ends its consumer (celery#4308, #7975), and takes nothing else along:
    the worker goes on with what runs, looks for more by itself, and a new consumer takes the next message.
    """
    app = make_app(settings, worker)
    while not worker.parts.stopping.is_set():
        with contextlib.suppress(SystemExit):  # Celery's own way to end, whatever the reason
            app.worker_main(["--quiet", "worker", *WORKER_FLAGS, "--loglevel", settings.log_level])
        if not worker.parts.stopping.is_set():
            worker.parts.log.warning("the consumer of rings ended and is started again")
        worker.parts.stopping.wait(AGAIN_SECONDS)
