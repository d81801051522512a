"""A consumer process on a broker of the test's choice, the records beneath it, and plain producers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from celery import Celery
from kombu import Connection

from gradkeel.contract.states import Scope
from gradkeel_store.records import Records, SubmissionRow, open_records
from gradkeel_store.settings import Settings
from making import ready_dataset
from processes import eventually
from servers import Rabbit, Valkey, die_with_parent

QUEUE = "gradkeel.submissions"
PROFILE = {
    "rows": 20,
    "columns": [
        {"name": "rooms", "type": "numeric", "missing": 0, "distinct": 7},
        {"name": "price", "type": "numeric", "missing": 0, "distinct": 20},
    ],
}


class Place:
    """Records with a data set and keys, and a consumer that can be started and killed."""

    def __init__(self, folder: Path, broker: Valkey | Rabbit, **env: str) -> None:
        self.broker = broker
        self.env = {"GRADKEEL_DATA": str(folder), "GRADKEEL_BROKER_URL": broker.url} | env
        self.log = folder / "consumer.log"
        self.settings = Settings.load(env=self.env)
        self.records: Records = open_records(self.settings)
        self.project = self.records.default_project()
        self.key = self.new_key(Scope.SUBMIT)
        self.dataset_id = ready_dataset(self.records, self.project, PROFILE).id
        self.process: subprocess.Popen[bytes] | None = None

    def new_key(self, *scopes: Scope, project: str | None = None) -> str:
        return self.records.create_key(project or self.project, scopes)[1]

    def config(self, **change: Any) -> dict[str, Any]:
        return {"dataset_id": self.dataset_id, "target": "price", "preset": "fast"} | change

    def kwargs(self, submission_id: Any, **change: Any) -> dict[str, Any]:
        return {"submission_id": submission_id, "api_key": self.key, "config": self.config()} | change

    # The consumer

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gradkeel_service.consumer"],
                env=os.environ | self.env,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(20)

    def close(self) -> None:
        if self.process is not None:
            self.kill()
        self.records.close()

    # What is seen

    def row(self, submission_id: str) -> SubmissionRow | None:
        name = (self.project, submission_id)
        return self.records.known_submissions([name]).get(name)

    def recorded(self, submission_id: str, seconds: float = 60) -> SubmissionRow:
        """The record, once there is one."""
        found: SubmissionRow = eventually(lambda: self.row(submission_id), seconds)
        return found

    def count(self, outcome: str) -> int:
        """What the consumer's last sign of life says of its messages."""
        signs = self.records.live_workers(role="consumer")
        return sum(sign.info["submissions"].get(outcome, 0) for sign in signs)

    # Producers

    def send(self, kwargs: Mapping[str, Any], task: str = "gradkeel.submit", **options: Any) -> None:
        """As a plain Celery application sends it."""
        with Celery("producer", broker=self.broker.url, set_as_current=False) as app:
            app.send_task(task, kwargs=dict(kwargs), queue=QUEUE, **options)

    def push(self, *items: str | bytes) -> None:
        """Raw items of the queue's list, or raw bodies under the usual properties on RabbitMQ."""
        if isinstance(self.broker, Valkey):
            with redis.Redis.from_url(self.broker.url) as client:
                client.lpush(QUEUE, *items)
            return
        with Connection(self.broker.url) as connection:
            channel = connection.channel()
            for item in items:
                message = channel.prepare_message(
                    item,
                    content_type="application/json",
                    content_encoding="utf-8",
                    headers={"task": "gradkeel.submit"},
                )
                channel.basic_publish(message, "", QUEUE)


def item(kwargs: Any, *, args: Any = (), task: str = "gradkeel.submit") -> str:
    """A message as something that is not Celery writes it onto the list."""
    return json.dumps(
        {
            "headers": {"task": task, "id": "1"},
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "properties": {},
            "body": json.dumps([list(args), kwargs, {}]),
        }
    )


@contextmanager
def place(folder: Path, broker: Valkey | Rabbit, **env: str) -> Iterator[Place]:
    made = Place(folder, broker, **env)
    try:
        yield made
    finally:
        made.close()
