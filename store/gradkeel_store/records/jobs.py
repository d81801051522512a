"""Jobs: every change of state, in one place.

queued → running → succeeded | failed | cancelled;  running → queued when a lease is lost or released;
queued → cancelled, and queued → failed when the data turns out unusable.

A claim raises the fence. Whoever holds a running job shows its fence with each write, and a stale fence
touches no row. An end and its terminal event are one transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from gradkeel.contract.ids import MODEL, new_id
from gradkeel.contract.states import TERMINAL, DatasetState, JobErrorCode, JobState
from gradkeel_store import event_ids
from gradkeel_store.errors import AlreadyEnded, IdempotencyMismatch, NotEnded, NotFound
from gradkeel_store.records import tables
from gradkeel_store.records.beginnings import hold_datasets, insert_jobs, queued_row
from gradkeel_store.records.database import Database
from gradkeel_store.records.endings import counted, end_queued_jobs, ending, write_event
from gradkeel_store.records.idempotency import Answering
from gradkeel_store.records.pages import select_page
from gradkeel_store.records.rows import JobRow, Lease, LifecycleEvent, Page
from gradkeel_store.records.turns import IN_TURN, IS_QUEUED, next_of_project, projects_in_turn

jobs = tables.jobs
QUEUED, RUNNING = JobState.QUEUED.value, JobState.RUNNING.value


@dataclass(frozen=True)
class JobFilter:
    """Which jobs a list shows; None leaves a field open. ``label`` is (name, value), value None: any."""

    state: str | None = None
    kind: str | None = None
    dataset_id: str | None = None
    batch_id: str | None = None
    label: tuple[str, str | None] | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None

    def conditions(self) -> list[Any]:
        equal = {jobs.c.state: self.state, jobs.c.kind: self.kind}
        equal |= {jobs.c.dataset_id: self.dataset_id, jobs.c.batch_id: self.batch_id}
        found: list[Any] = [column == value for column, value in equal.items() if value is not None]
        if self.created_after is not None:
            found.append(jobs.c.created_at > self.created_after)
        if self.created_before is not None:
            found.append(jobs.c.created_at < self.created_before)
        if self.label is not None:
            found.append(_has_label(*self.label))
        return found


EVERYTHING = JobFilter()


class JobRecords(Database):
    """The life of a job."""

    # What callers ask for: always within a project

    def create_job(
        self,
        project: str,
        dataset_id: str,
        submitted: Mapping[str, Any],
        config: Mapping[str, Any],
        *,
        kind: str = "train",
        labels: Mapping[str, str] | None = None,
        retry_of: str | None = None,
        priority: int = 0,
        run_after: datetime | None = None,
        idempotency_key: str | None = None,
        answering: Answering[JobRow] | None = None,
    ) -> JobRow:
        """A queued job. Raises ``NotFound`` (no such data set here) or ``DatasetRejected``.

        With an ``idempotency_key`` that made a job before, that job; ``IdempotencyMismatch`` when it
        was made from another config. The answer of ``answering`` is kept along with a job that is made
        here, in the same transaction; its ``render`` is not called for one that was made before.
        """
        row = queued_row(
            project,
            dataset_id,
            submitted,
            config,
            labels or {},
            self.now(),
            kind=kind,
            retry_of=retry_of,
            priority=priority,
            max_attempts=self._max_attempts,
            run_after=run_after,
            idempotency_key=idempotency_key,
        )
        if made := self._job_made_before(project, idempotency_key, row):
            return made
        try:
            with self._write() as connection:
                hold_datasets(connection, project, [dataset_id])
                insert_jobs(connection, [row])
                if answering is not None:
                    answering.keep(connection, JobRow.of(row))
        except IntegrityError:  # the same request, at the same time, elsewhere
            made = self._job_made_before(project, idempotency_key, row)
            if made is None:
                raise
            return made
        return JobRow.of(row)

    def _job_made_before(self, project: str, key: str | None, row: Mapping[str, Any]) -> JobRow | None:
        if key is None:
            return None
        query = sa.select(jobs).where(jobs.c.project == project, jobs.c.idempotency_key == key)
        with self._read() as connection:
            found = connection.execute(query).mappings().one_or_none()
        if found is None:
            return None
        if any(
            found[name] != row[name] for name in ("dataset_id", "kind", "submitted", "labels", "retry_of")
        ):
            raise IdempotencyMismatch("this Idempotency-Key belongs to another job")
        return JobRow.of(found)

    def get_job(self, project: str, job_id: str) -> JobRow:
        """Raises ``NotFound``, also for another project's."""
        query = sa.select(jobs).where(jobs.c.id == job_id, jobs.c.project == project)
        with self._read() as connection:
            return _found(connection, query, job_id)

    def list_jobs(
        self,
        project: str,
        filters: JobFilter = EVERYTHING,
        *,
        limit: int = 20,
        after: str | None = None,
        order: str = "desc",
    ) -> Page[JobRow]:
        """Raises ``BadCursor``."""
        query = sa.select(jobs).where(jobs.c.project == project, *filters.conditions())
        with self._read() as connection:
            return select_page(connection, query, jobs, JobRow.of, limit=limit, after=after, order=order)

    def request_cancel(self, project: str, job_id: str) -> JobRow:
        """Ask a running job to stop; end a queued one at once. Again is no error.

        Raises ``NotFound``, or ``AlreadyEnded`` when it succeeded or failed before.
        """
        query = sa.select(jobs).where(jobs.c.id == job_id, jobs.c.project == project)
        with self._write() as connection:
            job = _found(connection, query.with_for_update(), job_id)
            if job.state == QUEUED:
                return JobRow.of(_cancel_queued(connection, self.now(), job_id))
            if job.state == RUNNING:
                change = jobs.update().where(jobs.c.id == job_id).values(cancel_requested=True)
                return JobRow.of(connection.execute(change.returning(*jobs.c)).mappings().one())
        if job.state != JobState.CANCELLED:
            raise AlreadyEnded(f"the job {job_id} has {job.state} already")
        return job

    def retry_job(
        self,
        project: str,
        job_id: str,
        *,
        idempotency_key: str | None = None,
        answering: Answering[JobRow] | None = None,
    ) -> JobRow:
        """A new job with the same data and config, as `create_job`. ``NotEnded`` before the first's end."""
        job = self.get_job(project, job_id)
        if job.state not in TERMINAL:
            raise NotEnded(f"the job {job_id} is still {job.state}")
        return self.create_job(
            project,
            job.dataset_id,
            job.submitted,
            job.config,
            kind=job.kind,
            labels=job.labels,
            retry_of=job.id,
            priority=job.priority,
            idempotency_key=idempotency_key,
            answering=answering,
        )

    def job_counts(self, project: str | None = None) -> dict[str, int]:
        """How many jobs stand in each state; of every project when none is named."""
        query = sa.select(jobs.c.state, sa.func.count()).group_by(jobs.c.state)
        if project is not None:
            query = query.where(jobs.c.project == project)
        with self._read() as connection:
            found = {state: count for state, count in connection.execute(query)}
        return {state.value: int(found.get(state.value, 0)) for state in JobState}

    def queued_jobs(self, project: str) -> int:
        """How many of a project's jobs are queued; one look into an index."""
        query = sa.select(sa.func.count()).where(jobs.c.project == project, jobs.c.state == QUEUED)
        with self._read() as connection:
            return int(connection.scalar(query) or 0)

    def lifecycle_events(self, job_id: str, after: int = 0) -> list[LifecycleEvent]:
        """Changes of state past the event ``after``. The caller has checked whose job it is."""
        events = tables.job_events
        query = sa.select(events).where(events.c.job_id == job_id, events.c.id > after)
        with self._read() as connection:
            found = connection.execute(query.order_by(events.c.id)).mappings()
            return [LifecycleEvent.of(row) for row in found]

    # What workers do

    def claim_job(self, job_id: str, owner: str) -> JobRow | None:
        """Take a queued job whose data is ready; None when it is taken, ended, gone or must wait."""
        with self._write() as connection:
            return self._claim_job(connection, job_id, owner)

    def claim_next(self, owner: str) -> JobRow | None:
        """Take the queued job whose turn it is, if one can run: see ``turns``."""
        with self._write() as connection:
            for project in projects_in_turn(connection):
                query = next_of_project(project, self._claimable_jobs())
                found = connection.scalar(query.with_for_update(skip_locked=True))
                if found is not None:
                    return self._claim_job(connection, found, owner)
        return None

    def _claim_job(self, connection: Connection, job_id: str, owner: str) -> JobRow | None:
        now = self.now()
        change = jobs.update().where(jobs.c.id == job_id, *self._claimable_jobs())
        change = change.values(
            state=RUNNING,
            attempt=jobs.c.attempt + 1,
            fence=jobs.c.fence + 1,
            heartbeat_seq=0,
            lease_owner=owner,
            lease_expires=now + self._lease,
            claimed_at=now,
            started_at=sa.func.coalesce(jobs.c.started_at, sa.literal(now, tables.UtcDateTime())),
            progress=None,
        )
        row = connection.execute(change.returning(*jobs.c)).mappings().one_or_none()
        if row is None:
            return None
        data = {"state": RUNNING, "attempts": row["attempt"]}
        write_event(connection, job_id, event_ids.claimed(row["fence"]), now, data)
        return JobRow.of(row)

    def _claimable_jobs(self) -> tuple[Any, ...]:
        data = tables.datasets
        ready = sa.exists().where(data.c.id == jobs.c.dataset_id, data.c.state == DatasetState.READY.value)
        due = sa.or_(jobs.c.run_after.is_(None), jobs.c.run_after <= self.now())
        return IS_QUEUED, due, ready

    def heartbeat_job(self, job_id: str, fence: int, progress: Mapping[str, Any] | None = None) -> bool:
        """A sign of life. False: the lease is lost; kill the child and write nothing more."""
        values: dict[str, Any] = {
            "heartbeat_seq": jobs.c.heartbeat_seq + 1,
            "lease_expires": self.now() + self._lease,
        }
        return self._hold_job(
            job_id, fence, values if progress is None else values | {"progress": dict(progress)}
        )

    def set_config(self, job_id: str, fence: int, config: Mapping[str, Any]) -> bool:
        """Keep the config as resolved on the data."""
        return self._hold_job(job_id, fence, {"config": dict(config)})

    def save_checkpoint(self, job_id: str, fence: int, digest: str | None) -> bool:
        """Name the stored object from which the job's next attempt goes on; None: it begins anew.

        The object named before is no longer needed then. False: the lease is lost and nothing was written.
        """
        return self._hold_job(job_id, fence, {"checkpoint": digest})

    def _hold_job(self, job_id: str, fence: int, values: dict[str, Any]) -> bool:
        with self._write() as connection:
            change = jobs.update().where(*_holds(job_id, fence)).values(values)
            return connection.execute(change).rowcount == 1

    def finish_job(
        self,
        job_id: str,
        fence: int,
        state: str,
        *,
        model: Mapping[str, Any] | None = None,
        report_digest: str | None = None,
        series_digest: str | None = None,
        predictions_digest: str | None = None,
        logs_digest: str | None = None,
        metrics: Mapping[str, Any] | None = None,
        verdict: str | None = None,
        error: Mapping[str, Any] | None = None,
        events: int | None = None,
    ) -> bool:
        """End a running job: its row, its model and its terminal event at once.

        ``model`` holds ``target, task, columns, classes, metrics, verdict, digests`` and may bring its
        ``id``. The objects that the digests name must be stored before. ``events`` says how many step
        events the run has numbered, so that readers see whether the last ones are missing. False: the
        lease was lost and nothing was written.
        """
        if JobState(state) not in TERMINAL:
            raise ValueError(f"{state} is no end")
        values: dict[str, Any] = {
            "state": JobState(state).value,
            "report_digest": report_digest,
            "series_digest": series_digest,
            "predictions_digest": predictions_digest,
            "logs_digest": logs_digest,
            "metrics": metrics,
            "verdict": verdict,
            "error": error,
        }
        with self._write() as connection:
            row = self._end_with_model(connection, _holds(job_id, fence), values, model, counted(events))
        return row is not None

    def _end_with_model(
        self,
        connection: Connection,
        which: tuple[Any, ...],
        values: dict[str, Any],
        model: Mapping[str, Any] | None,
        count: dict[str, Any],
    ) -> Any:
        model_id = None if model is None else str(model.get("id") or new_id(MODEL))
        row = self._end_job(connection, which, values | {"model_id": model_id}, count)
        if row is not None and model is not None:
            told = {"verdict": row["verdict"], "metrics": row["metrics"], "classes": None}
            _insert_model(connection, row, told | dict(model) | {"id": model_id}, self.now())
        return row

    def _end_job(
        self, connection: Connection, which: tuple[Any, ...], values: dict[str, Any], count: dict[str, Any]
    ) -> Any:
        now = self.now()
        ended = {"ended_at": now, "lease_owner": None, "lease_expires": None, "checkpoint": None}
        change = jobs.update().where(*which).values(values | ended).returning(*jobs.c)
        row = connection.execute(change).mappings().one_or_none()
        if row is not None:
            event_id = event_ids.ended(row["fence"])
            write_event(connection, row["id"], event_id, now, ending(row) | count, terminal=True)
        return row

    def release_job(self, job_id: str, fence: int, events: int | None = None) -> bool:
        """Give a running job back to the queue, the attempt included; cancelled if that was asked for."""
        told = {"reason": "released"} | counted(events)
        with self._write() as connection:
            values = {"attempt": jobs.c.attempt - 1}
            return self._requeue_job(connection, _holds(job_id, fence), values, told) is not None

    def requeue_lost(
        self,
        job_id: str,
        fence: int,
        heartbeat_seq: int | None = None,
        *,
        code: str = JobErrorCode.WORKER_LOST,
        message: str = "the training process or its worker died",
        model: Mapping[str, Any] | None = None,
        left: Mapping[str, Any] | None = None,
        events: int | None = None,
    ) -> JobRow | None:
        """Take a job from a holder that is gone: back to the queue, or failed after the last attempt.

        With ``heartbeat_seq``, only if the holder gave no sign since: two reapers then make one requeue.
        ``code``, ``model`` and ``left`` (other fields, as those of ``finish_job``) are used only for a
        failure. Where nobody knows how many ``events`` the run numbered, readers are shown a gap. None:
        nothing was changed.
        """
        which = _holds(job_id, fence)
        if heartbeat_seq is not None:
            which += (jobs.c.heartbeat_seq == heartbeat_seq,)
        lost: dict[str, Any] = {"interruptions": jobs.c.interruptions + 1}
        with self._write() as connection:
            again = (jobs.c.attempt < jobs.c.max_attempts) | jobs.c.cancel_requested
            told = {"reason": "interrupted", "events": events}
            row = self._requeue_job(connection, (*which, again), lost, told)
            if row is None:
                error: dict[str, Any] = {"code": JobErrorCode(code).value, "message": message, "where": {}}
                failed = {**lost, **(left or {}), "state": JobState.FAILED.value, "error": error}
                row = self._end_with_model(connection, which, failed, model, {"events": events})
        return None if row is None else JobRow.of(row)

    def _requeue_job(
        self, connection: Connection, which: tuple[Any, ...], values: dict[str, Any], told: dict[str, Any]
    ) -> Any:
        now = self.now()
        free = {
            "state": QUEUED,
            "queued_at": now,
            "lease_owner": None,
            "lease_expires": None,
            "progress": None,
        }
        change = jobs.update().where(*which).values(free | values).returning(*jobs.c)
        row = connection.execute(change).mappings().one_or_none()
        if row is None:
            return None
        data = {"state": QUEUED, "interruptions": row["interruptions"]} | told
        write_event(connection, row["id"], event_ids.requeued(row["fence"]), now, data)
        return _cancel_queued(connection, now, row["id"]) if row["cancel_requested"] else row

    # What reconcilers and reapers look at

    def cancel_requests(self, owner: str) -> list[str]:
        """Ids of this worker's jobs that are to stop."""
        query = sa.select(jobs.c.id).where(
            jobs.c.lease_owner == owner, jobs.c.state == RUNNING, jobs.c.cancel_requested
        )
        with self._read() as connection:
            return list(connection.scalars(query))

    def queued_older_than(self, seconds: float, limit: int = 1000) -> list[str]:
        """Ids of jobs that could run and have waited for so long, by priority and age."""
        query = sa.select(jobs.c.id).where(*self._claimable_jobs(), jobs.c.queued_at <= self._before(seconds))
        query = query.order_by(*IN_TURN).limit(limit)
        with self._read() as connection:
            return list(connection.scalars(query))

    def jobs_waiting_for(self, dataset_id: str) -> list[str]:
        """Ids of queued jobs on this data set: ring for them once it is ready."""
        query = sa.select(jobs.c.id).where(jobs.c.dataset_id == dataset_id, jobs.c.state == QUEUED)
        with self._read() as connection:
            return list(connection.scalars(query.order_by(jobs.c.created_at)))

    def leases(self) -> list[Lease]:
        """Every held lease, for the reaper (see ``gradkeel_store.leases``)."""
        query = sa.select(jobs.c.id, jobs.c.fence, jobs.c.heartbeat_seq).where(jobs.c.state == RUNNING)
        with self._read() as connection:
            return [Lease(*row) for row in connection.execute(query)]


def _has_label(name: str, value: str | None) -> Any:
    stored = tables.job_labels.c
    which = sa.exists().where(stored.job_id == jobs.c.id, stored.name == name)
    return which if value is None else which.where(stored.value == value)


def _holds(job_id: str, fence: int) -> tuple[Any, ...]:
    return jobs.c.id == job_id, jobs.c.state == RUNNING, jobs.c.fence == fence


def _found(connection: Connection, query: sa.Select[Any], job_id: str) -> JobRow:
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFound(f"there is no job {job_id}")
    return JobRow.of(row)


def _cancel_queued(connection: Connection, now: datetime, job_id: str) -> Any:
    return end_queued_jobs(connection, now, JobState.CANCELLED, jobs.c.id == job_id)[0]


def _insert_model(connection: Connection, job: Any, model: dict[str, Any], now: datetime) -> None:
    names = ("id", "target", "task", "columns", "classes", "metrics", "verdict", "digests")
    row = {name: model[name] for name in names}
    row |= {"project": job["project"], "job_id": job["id"], "created_at": now}
    connection.execute(tables.models.insert().values(row))
