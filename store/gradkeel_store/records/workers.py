"""Signs of life of workers and consumers: readiness, and which devices there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import sqlalchemy as sa

from gradkeel_store.records import tables
from gradkeel_store.records.database import Database
from gradkeel_store.records.rows import WorkerRow

workers = tables.workers

Role = Literal["worker", "consumer"]


class WorkerRecords(Database):
    """One row per process that works in the background."""

    def worker_heartbeat(self, worker_id: str, info: Mapping[str, Any], role: Role = "worker") -> None:
        """Say that the process lives. ``info`` of a worker holds ``devices`` (as ``["cpu", "cuda:0"]``)."""
        now = self.now()
        values = {"info": dict(info), "heartbeat_at": now}
        with self._write() as connection:
            change = workers.update().where(workers.c.id == worker_id).values(values)
            if connection.execute(change).rowcount == 0:
                fresh = values | {"id": worker_id, "role": role, "started_at": now}
                connection.execute(workers.insert().values(fresh))

    def live_workers(self, max_age: float = 30.0, role: Role = "worker") -> list[WorkerRow]:
        """Those of this role that gave a sign within the last ``max_age`` seconds."""
        recent = workers.c.heartbeat_at > self._before(max_age)
        query = sa.select(workers).where(workers.c.role == role, recent)
        with self._read() as connection:
            found = connection.execute(query.order_by(workers.c.id)).mappings()
            return [WorkerRow.of(row) for row in found]

    def remove_worker(self, worker_id: str) -> None:
        """For a process that stops in good order."""
        with self._write() as connection:
            connection.execute(workers.delete().where(workers.c.id == worker_id))
