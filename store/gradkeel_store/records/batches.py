"""Batches: many configs sent as one file. reading → running → ended.

A batch is read by one reader at a time under a lease, some hundred lines a transaction: their jobs, what is
wrong with the others, and how far the reading has come are written together. So a reader that dies at any
moment loses no line and doubles none. Once all lines are read the batch is running, and once all its jobs
have ended it has ended.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from gradkeel.contract.ids import BATCH, new_id
from gradkeel.contract.states import TERMINAL, BatchState, JobState
from gradkeel_store.errors import AlreadyEnded, IdempotencyMismatch, NotFound
from gradkeel_store.records import tables
from gradkeel_store.records.beginnings import hold_datasets, insert_jobs, queued_row
from gradkeel_store.records.database import Database
from gradkeel_store.records.endings import end_queued_jobs
from gradkeel_store.records.idempotency import Answering
from gradkeel_store.records.pages import select_page
from gradkeel_store.records.rows import BatchLineRow, BatchRow, Lease, Page

batches, batch_lines, jobs = tables.batches, tables.batch_lines, tables.jobs
READING, RUNNING, ENDED = (state.value for state in BatchState)
ACTIVE = [state.value for state in JobState if state not in TERMINAL]

FREE: dict[str, Any] = {"lease_owner": None, "lease_expires": None}

CANCELLED_AT_ONCE = 500
"""Queued jobs that one transaction ends, so that other writers need not wait for long."""


@dataclass(frozen=True)
class NewJob:
    """A job to be made of a line."""

    dataset_id: str
    submitted: Mapping[str, Any]
    config: Mapping[str, Any]
    labels: Mapping[str, str]


@dataclass(frozen=True)
class NewLine:
    """A line as its reader found it: ``job``, or ``error`` (a problem document) where it is rejected.

    Neither: the batch was cancelled before its turn came. ``line`` counts from 1 in the file.
    """

    line: int
    custom_id: str | None
    job: NewJob | None = None
    error: Mapping[str, Any] | None = None


class BatchRecords(Database):
    """The life of a batch."""

    # What callers ask for: always within a project

    def create_batch(
        self,
        project: str,
        sha256: str,
        size: int,
        lines: int,
        *,
        priority: int = 0,
        idempotency_key: str | None = None,
        answering: Answering[BatchRow] | None = None,
    ) -> BatchRow:
        """A batch that is to be read; its bytes must be in the object store already.

        With an ``idempotency_key`` that made one before, that one; ``IdempotencyMismatch`` when it held
        other bytes.
        """
        now = self.now()
        row = {
            "id": new_id(BATCH),
            "project": project,
            "state": READING,
            "priority": priority,
            "sha256": sha256,
            "bytes": size,
            "lines": lines,
            "idempotency_key": idempotency_key,
            "max_attempts": self._max_attempts,
            "created_at": now,
            "served_at": now,
        }
        try:
            with self._write() as connection:
                connection.execute(batches.insert().values(row))
                if answering is not None:
                    answering.keep(connection, BatchRow.of(row))
        except IntegrityError:
            return self._batch_made_before(project, idempotency_key, sha256)
        return BatchRow.of(row)

    def _batch_made_before(self, project: str, idempotency_key: str | None, sha256: str) -> BatchRow:
        query = sa.select(batches).where(
            batches.c.project == project, batches.c.idempotency_key == idempotency_key
        )
        with self._read() as connection:
            [found] = _counted(connection, connection.execute(query).mappings().all())
        if found.sha256 != sha256:
            raise IdempotencyMismatch("this Idempotency-Key belongs to another batch")
        return found

    def get_batch(self, project: str, batch_id: str) -> BatchRow:
        """Raises ``NotFound``, also for another project's."""
        with self._read() as connection:
            return _found(connection, _asked(project, batch_id), batch_id)

    def list_batches(
        self, project: str, limit: int = 20, after: str | None = None, order: str = "desc"
    ) -> Page[BatchRow]:
        """Raises ``BadCursor``."""
        query = sa.select(batches).where(batches.c.project == project)
        with self._read() as connection:
            page = select_page(connection, query, batches, BatchRow.of, limit=limit, after=after, order=order)
            return replace(page, rows=tuple(_with_counts(connection, page.rows)))

    def open_batches(self, project: str) -> int:
        """How many of a project's batches have not been read to their end."""
        query = sa.select(sa.func.count()).where(batches.c.project == project, batches.c.state == READING)
        with self._read() as connection:
            return int(connection.scalar(query) or 0)

    def batch_results(self, batch_id: str, after: int = 0, limit: int = 1000) -> list[BatchLineRow]:
        """The lines past line ``after`` that were read, in the file's order, each with how its job stands.

        The caller has checked whose batch it is.
        """
        shown = [jobs.c[name] for name in ("state", "metrics", "verdict")]
        query = (
            sa.select(batch_lines, *shown, jobs.c.error.label("job_error"))
            .join(jobs, jobs.c.id == batch_lines.c.job_id, isouter=True)
            .where(batch_lines.c.batch_id == batch_id, batch_lines.c.line > after)
            .order_by(batch_lines.c.line)
            .limit(limit)
        )
        with self._read() as connection:
            return [BatchLineRow.of(row) for row in connection.execute(query).mappings()]

    def request_cancel_batch(self, project: str, batch_id: str) -> BatchRow:
        """Ask for a batch to stop; again is no error. From here on none of its lines becomes a job.

        ``cancel_batch_jobs`` ends those that there are. Raises ``NotFound``, or ``AlreadyEnded`` where it
        ended uncancelled.
        """
        with self._write() as connection:
            batch = _found(connection, _asked(project, batch_id).with_for_update(), batch_id)
            if batch.state == ENDED and not batch.cancel_requested:
                raise AlreadyEnded(f"the batch {batch_id} has ended already")
            if not batch.cancel_requested:
                change = batches.update().where(batches.c.id == batch_id)
                connection.execute(change.values(cancel_requested=True))
        return replace(batch, cancel_requested=True)

    def cancel_batch_jobs(self, batch_id: str) -> int:
        """End some hundred queued jobs of a batch; how many. With none left, running ones are to stop."""
        first = sa.select(jobs.c.id).where(jobs.c.batch_id == batch_id, jobs.c.state == JobState.QUEUED.value)
        first = first.order_by(jobs.c.id).limit(CANCELLED_AT_ONCE).with_for_update(skip_locked=True)
        with self._write() as connection:
            found = list(connection.scalars(first))
            if found:
                ended = end_queued_jobs(connection, self.now(), JobState.CANCELLED, jobs.c.id.in_(found))
                return len(ended)
            running = (jobs.c.batch_id == batch_id, jobs.c.state == JobState.RUNNING.value)
            change = jobs.update().where(*running, ~jobs.c.cancel_requested).values(cancel_requested=True)
            connection.execute(change)
        return 0

    # What readers do

    def claim_next_batch(self, owner: str, skip: Collection[str] = ()) -> BatchRow | None:
        """Take the unread batch that was served longest ago, of projects other than ``skip``."""
        query = sa.select(batches.c.id).where(*_waiting(), batches.c.project.not_in(list(skip)))
        query = query.order_by(batches.c.served_at, batches.c.id).limit(1)
        with self._read() as connection:  # most looks find nothing, and hold up no writer
            if connection.scalar(query) is None:
                return None
        with self._write() as connection:
            batch_id = connection.scalar(query.with_for_update(skip_locked=True))
            change = batches.update().where(batches.c.id == batch_id, *_waiting())
            change = change.values(
                attempt=batches.c.attempt + 1,
                fence=batches.c.fence + 1,
                heartbeat_seq=0,
                lease_owner=owner,
                lease_expires=self.now() + self._lease,
                served_at=self.now(),
            )
            row = connection.execute(change.returning(*batches.c)).mappings().one_or_none()
        return None if row is None else BatchRow.of(row)

    def add_lines(
        self, batch: BatchRow, lines: Sequence[NewLine], bytes_read: int, *, at_end: bool = False
    ) -> list[str] | None:
        """Write lines that were read, up to but not including byte ``bytes_read``; the ids of their jobs.

        ``at_end``: the file holds no more; the batch runs. Raises ``NotFound`` or ``DatasetRejected`` where
        a data set is gone since the line was checked. None: the lease was lost, or the batch was cancelled
        since it was claimed; nothing was written.
        """
        place: dict[str, Any] = {"bytes_read": bytes_read, "attempt": 0}
        place |= {"state": RUNNING, **FREE} if at_end else {"lease_expires": self.now() + self._lease}
        if lines:
            place["last_line"] = lines[-1].line
        change = batches.update().where(*_holds(batch), _cancelling(batch)).values(place)
        change = change.values(
            lines_read=batches.c.lines_read + len(lines),
            rejected=batches.c.rejected + sum(line.error is not None for line in lines),
            heartbeat_seq=batches.c.heartbeat_seq + 1,
        )
        with self._write() as connection:
            if connection.execute(change).rowcount == 0:
                return None
            hold_datasets(connection, batch.project, [line.job.dataset_id for line in lines if line.job])
            made = self._job_rows(batch, lines)
            insert_jobs(connection, list(made.values()))
            _insert_lines(connection, batch.id, lines, made)
        return [str(row["id"]) for row in made.values()]

    def _job_rows(self, batch: BatchRow, lines: Sequence[NewLine]) -> dict[int, dict[str, Any]]:
        """The rows of the lines' jobs, by line; a microsecond apart, so that age says their order."""
        now = self.now()
        more = {"kind": "train", "batch_id": batch.id, "priority": batch.priority}
        more |= {"max_attempts": self._max_attempts}
        return {
            line.line: queued_row(
                batch.project,
                line.job.dataset_id,
                line.job.submitted,
                line.job.config,
                line.job.labels,
                now + timedelta(microseconds=place),
                **more,
            )
            for place, line in enumerate(lines)
            if line.job is not None
        }

    def custom_ids(self, batch_id: str) -> set[str]:
        """The custom ids of the lines that were read."""
        query = sa.select(batch_lines.c.custom_id).where(batch_lines.c.batch_id == batch_id)
        with self._read() as connection:
            return {found for found in connection.scalars(query) if found is not None}

    def release_batch(self, batch: BatchRow) -> bool:
        """Give a claimed batch back for a later turn, the attempt included."""
        return self._hold_batch(batch, attempt=0, **FREE)

    def fail_batch(self, batch: BatchRow, problem: Mapping[str, Any]) -> bool:
        """Read no further: the batch runs on with the jobs that it has, and says what was wrong."""
        return self._hold_batch(batch, state=RUNNING, error=dict(problem), **FREE)

    def _hold_batch(self, batch: BatchRow, **values: Any) -> bool:
        with self._write() as connection:
            change = batches.update().where(*_holds(batch)).values(values)
            return connection.execute(change).rowcount == 1

    def batch_leases(self) -> list[Lease]:
        """Every held lease, for the reaper."""
        query = sa.select(batches.c.id, batches.c.fence, batches.c.heartbeat_seq).where(
            batches.c.state == READING, batches.c.lease_owner.is_not(None)
        )
        with self._read() as connection:
            return [Lease(*row) for row in connection.execute(query)]

    def requeue_lost_batch(self, lease: Lease) -> bool:
        """Take a batch from a reader that is gone. False: it gave a sign since, and nothing was changed."""
        change = batches.update().where(
            batches.c.id == lease.id,
            batches.c.state == READING,
            batches.c.fence == lease.fence,
            batches.c.heartbeat_seq == lease.heartbeat_seq,
            batches.c.lease_owner.is_not(None),
        )
        change = change.values(interruptions=batches.c.interruptions + 1, **FREE)
        with self._write() as connection:
            return connection.execute(change).rowcount == 1

    # What is looked after from time to time

    def end_batches(self) -> list[str]:
        """End the running batches of which every job has ended; their ids."""
        active = sa.exists().where(jobs.c.batch_id == batches.c.id, jobs.c.state.in_(ACTIVE))
        query = sa.select(batches).where(batches.c.state == RUNNING, ~active)
        with self._read() as connection:
            finished = _counted(connection, connection.execute(query).mappings().all())
        for batch in finished:
            change = batches.update().where(batches.c.id == batch.id, batches.c.state == RUNNING)
            with self._write() as connection:
                change = change.values(state=ENDED, counts=batch.counts, ended_at=self.now())
                connection.execute(change)
        return [batch.id for batch in finished]

    def batches_to_cancel(self) -> list[str]:
        """Ids of batches that are to stop and have jobs that were not told yet."""
        left = sa.exists().where(
            jobs.c.batch_id == batches.c.id, jobs.c.state.in_(ACTIVE), ~jobs.c.cancel_requested
        )
        query = sa.select(batches.c.id).where(
            batches.c.state.in_([READING, RUNNING]), batches.c.cancel_requested, left
        )
        with self._read() as connection:
            return list(connection.scalars(query))


def _asked(project: str, batch_id: str) -> sa.Select[Any]:
    return sa.select(batches).where(batches.c.id == batch_id, batches.c.project == project)


def _found(connection: Connection, query: sa.Select[Any], batch_id: str) -> BatchRow:
    found = _counted(connection, connection.execute(query).mappings().all())
    if not found:
        raise NotFound(f"there is no batch {batch_id}")
    return found[0]


def _waiting() -> tuple[Any, Any]:
    return batches.c.state == READING, batches.c.lease_owner.is_(None)


def _holds(batch: BatchRow) -> tuple[Any, ...]:
    return (
        batches.c.id == batch.id,
        batches.c.state == READING,
        batches.c.fence == batch.fence,
        batches.c.lease_owner.is_not(None),
    )


def _cancelling(batch: BatchRow) -> Any:
    """Whether the batch is to stop is still as its reader knows it."""
    return batches.c.cancel_requested if batch.cancel_requested else ~batches.c.cancel_requested


def _insert_lines(
    connection: Connection, batch_id: str, lines: Sequence[NewLine], made: Mapping[int, Mapping[str, Any]]
) -> None:
    rows = [
        {
            "batch_id": batch_id,
            "line": line.line,
            "custom_id": line.custom_id,
            "job_id": made[line.line]["id"] if line.line in made else None,
            "error": None if line.error is None else dict(line.error),
        }
        for line in lines
    ]
    if rows:
        connection.execute(batch_lines.insert(), rows)


def _counted(connection: Connection, found: Iterable[Any]) -> list[BatchRow]:
    return _with_counts(connection, [BatchRow.of(row) for row in found])


def _with_counts(connection: Connection, rows: Sequence[BatchRow]) -> list[BatchRow]:
    """The rows with the number of their jobs in each state; those that have ended know theirs."""
    unknown = [row.id for row in rows if row.state != ENDED]
    if not unknown:
        return list(rows)
    query = sa.select(jobs.c.batch_id, jobs.c.state, sa.func.count())
    query = query.where(jobs.c.batch_id.in_(unknown)).group_by(jobs.c.batch_id, jobs.c.state)
    found: dict[str, dict[str, int]] = {batch_id: {} for batch_id in unknown}
    for batch_id, state, count in connection.execute(query):
        found[batch_id][state] = count
    return [replace(row, counts=_all_states(row, found[row.id])) if row.id in found else row for row in rows]


def _all_states(batch: BatchRow, found: Mapping[str, int]) -> dict[str, int]:
    """Lines that the cancelling of their batch kept from becoming jobs count as cancelled."""
    counts = {state.value: int(found.get(state.value, 0)) for state in JobState}
    without_job = batch.lines_read - batch.rejected - sum(counts.values())
    counts[JobState.CANCELLED.value] += max(0, without_job)
    return counts
