"""Workers' signs of life: readiness, and which devices there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from gradkeel_store.records import tables
from gradkeel_store.records.database import Database
from gradkeel_store.records.rows import WorkerRow

workers = tables.workers


class WorkerRecords(Database):
    """One row per worker process."""

    def worker_heartbeat(self, worker_id: str, info: Mapping[str, Any]) -> None:
        """Say that the worker lives; ``info`` holds ``devices`` (such as ``["cpu", "cuda:0"]``)."""
        now = self.now()
        values = {"info": dict(info), "heartbeat_at": now}
        with self._write() as connection:
            change = workers.update().where(workers.c.id == worker_id).values(values)
            if connection.execute(change).rowcount == 0:
                fresh = values | {"id": worker_id, "started_at": now}
                connection.execute(workers.insert().values(fresh))

    def live_workers(self, max_age: float = 30.0) -> list[WorkerRow]:
        """Those that gave a sign within the last ``max_age`` seconds."""
        query = sa.select(workers).where(workers.c.heartbeat_at > self._before(max_age))
        with self._read() as connection:
            found = connection.execute(query.order_by(workers.c.id)).mappings()
            return [WorkerRow.of(row) for row in found]

    def remove_worker(self, worker_id: str) -> None:
        """For a worker that stops in good order."""
        with self._write() as connection:
            connection.execute(workers.delete().where(workers.c.id == worker_id))
