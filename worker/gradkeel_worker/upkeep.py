"""What every worker does for all: finds dead leases, rings for waiting rows, says that it lives itself."""

import threading
from collections.abc import Callable
from typing import Any

from celery import Celery

from gradkeel_store.errors import StoreError
from gradkeel_store.leases import LeaseWatch
from gradkeel_store.queue import ring_ingest, ring_train
from gradkeel_worker.parts import Parts

RINGS_AT_ONCE = 100


class Upkeep:
    """A thread that looks after the records every few seconds."""

    def __init__(self, parts: Parts, producer: Celery, info: dict[str, Any]) -> None:
        self._parts, self._producer, self._info = parts, producer, info
        self._jobs = LeaseWatch(parts.settings.lease_seconds)
        self._datasets = LeaseWatch(parts.settings.lease_seconds)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)

    def start(self) -> None:
        """Give the first sign of life, where the database answers, and go on in the background."""
        self._do(self._live)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        settings = self._parts.settings
        pause = min(settings.reconcile_seconds, settings.heartbeat_seconds, settings.lease_seconds / 4)
        while not self._ended.is_set():
            for duty in (self._live, self._reap_jobs, self._reap_datasets, self._ring):
                self._do(duty)
            self._ended.wait(pause)

    def _do(self, duty: Callable[[], None]) -> None:
        try:
            duty()
        except StoreError as error:
            self._parts.log.warning("upkeep has to wait", duty=duty.__name__, error=str(error))

    def _live(self) -> None:
        self._parts.records.worker_heartbeat(self._parts.owner, self._info)

    def _reap_jobs(self) -> None:
        records = self._parts.records
        for lease in self._jobs.expired(records.leases()):
            row = records.requeue_lost(lease.id, lease.fence, lease.heartbeat_seq)
            if row is not None:
                self._parts.log.warning("a dead lease was taken back", job_id=lease.id, state=row.state)

    def _reap_datasets(self) -> None:
        records = self._parts.records
        for lease in self._datasets.expired(records.dataset_leases()):
            if records.requeue_lost_dataset(lease.id, lease.fence, lease.heartbeat_seq):
                self._parts.log.warning("a dead lease was taken back", dataset_id=lease.id)

    def _ring(self) -> None:
        """Ring again for what has waited: its ring may have been lost. A broker that is away is left be."""
        records, age = self._parts.records, self._parts.settings.reconcile_seconds
        for job_id in records.queued_older_than(age, limit=RINGS_AT_ONCE):
            if not ring_train(self._producer, job_id):
                return
        for dataset_id in records.waiting_datasets(age, limit=RINGS_AT_ONCE):
            if not ring_ingest(self._producer, dataset_id):
                return
