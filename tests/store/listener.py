"""A Celery worker that says what it hears; started by `test_queue_consumption`."""

import sys
from pathlib import Path

from celery.signals import worker_ready

from gradkeel.contract.tasks import TRAIN, TRAIN_QUEUE
from gradkeel_store.queue import WORKER_FLAGS, make_celery
from gradkeel_store.settings import Settings

broker_url, folder = sys.argv[1:]
app = make_celery(Settings.load({"GRADKEEL_BROKER_URL": broker_url}, Path(folder)), "worker")


@app.task(name=TRAIN)
def hear(job_id: str) -> None:
    print(job_id, flush=True)


@worker_ready.connect
def say_ready(**_: object) -> None:
    print("ready", flush=True)


app.worker_main(["worker", *WORKER_FLAGS, "--queues", TRAIN_QUEUE, "--loglevel", "WARNING"])
