"""Submissions: what became of jobs that came by the queue. A record is written once and never changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from gradkeel.contract.ids import SUBMISSION, new_id
from gradkeel.contract.states import SubmissionState
from gradkeel_store.errors import Conflict, NotFound, StoreError
from gradkeel_store.records import tables
from gradkeel_store.records.batches import NewJob
from gradkeel_store.records.beginnings import hold_datasets, insert_jobs, queued_row
from gradkeel_store.records.database import Database
from gradkeel_store.records.pages import select_page
from gradkeel_store.records.rows import Page, SubmissionRow

submissions = tables.submissions
TRIES = 3

Name = tuple[str, str]
"""(project, submission id)."""


@dataclass(frozen=True)
class NewSubmission:
    """What to record: a ``job`` to make, or the problem document ``error``."""

    project: str
    submission_id: str
    config_sha256: str
    warnings: Sequence[Mapping[str, str]] = ()
    job: NewJob | None = None
    error: Mapping[str, Any] | None = None

    @property
    def name(self) -> Name:
        return self.project, self.submission_id


@dataclass(frozen=True)
class Recorded:
    """The record under a submission's name; ``fresh`` where it was written just now."""

    row: SubmissionRow
    fresh: bool


Refuse = Callable[[NewSubmission, StoreError], Mapping[str, Any]]


class SubmissionRecords(Database):
    """Records by (project, submission id)."""

    def record_submissions(self, new: Sequence[NewSubmission], refuse: Refuse) -> list[Recorded]:
        """Write records and their jobs in one transaction; names that have a record keep it.

        ``refuse`` makes the problem document of a submission whose data set is gone or rejected by now.
        One answer for each of ``new``, in their order.
        """
        for _ in range(TRIES):
            try:
                with self._write() as connection:
                    return _record(connection, new, refuse, self.now(), self._max_attempts)
            except IntegrityError as error:  # another consumer has the same ones in hand
                fault = error
        raise fault

    def known_submissions(self, names: Iterable[Name]) -> dict[Name, SubmissionRow]:
        """The records that there are under these names."""
        with self._read() as connection:
            return _known(connection, names)

    def get_submission(self, project: str, submission_id: str) -> SubmissionRow:
        """Raises ``NotFound``, also for another project's."""
        found = self.known_submissions([(project, submission_id)])
        if not found:
            raise NotFound(f"there is no submission {submission_id[:60]!r}")
        return found[project, submission_id]

    def list_submissions(
        self,
        project: str,
        state: str | None = None,
        *,
        limit: int = 20,
        after: str | None = None,
        order: str = "desc",
    ) -> Page[SubmissionRow]:
        """Raises ``BadCursor``."""
        query = sa.select(submissions).where(submissions.c.project == project)
        if state is not None:
            query = query.where(submissions.c.state == state)
        with self._read() as connection:
            return select_page(
                connection, query, submissions, SubmissionRow.of, limit=limit, after=after, order=order
            )


def _known(connection: Connection, names: Iterable[Name]) -> dict[Name, SubmissionRow]:
    by_project: dict[str, set[str]] = {}
    for project, submission_id in names:
        by_project.setdefault(project, set()).add(submission_id)
    found = {}
    for project, ids in by_project.items():
        query = sa.select(submissions).where(
            submissions.c.project == project, submissions.c.submission_id.in_(ids)
        )
        for row in connection.execute(query).mappings():
            found[project, row["submission_id"]] = SubmissionRow.of(row)
    return found


def _record(
    connection: Connection, new: Sequence[NewSubmission], refuse: Refuse, now: datetime, max_attempts: int
) -> list[Recorded]:
    known = _known(connection, (item.name for item in new))
    fresh = {item.name: item for item in reversed(new) if item.name not in known}
    unusable = _unusable(connection, fresh.values())
    rows, jobs = [], []
    for item in fresh.values():
        row = _row(item, now)
        if item.job is not None:
            fault = unusable.get((item.project, item.job.dataset_id))
            job = queued_row(
                item.project,
                item.job.dataset_id,
                item.job.submitted,
                item.job.config,
                item.job.labels,
                now,
                kind="train",
                max_attempts=max_attempts,
            )
            if fault is None:
                jobs.append(job)
                row["job_id"] = job["id"]
            else:
                row |= {"state": SubmissionState.REJECTED.value, "error": dict(refuse(item, fault))}
        rows.append(row)
    if rows:
        insert_jobs(connection, jobs)
        # in one order for everybody: two consumers that wait for one another's names would be a deadlock
        by_name = sorted(rows, key=lambda row: (row["project"], row["submission_id"]))
        connection.execute(submissions.insert(), by_name)
    written = {(row["project"], row["submission_id"]): SubmissionRow.of(row) for row in rows}
    return [Recorded((known | written)[item.name], fresh.get(item.name) is item) for item in new]


def _unusable(connection: Connection, items: Iterable[NewSubmission]) -> dict[Name, StoreError]:
    """Data sets that cannot be used after all; the others are held until the jobs are written."""
    faults: dict[Name, StoreError] = {}
    asked = {(item.project, item.job.dataset_id) for item in items if item.job is not None}
    for project, dataset_id in sorted(asked):
        try:
            hold_datasets(connection, project, [dataset_id])
        except (NotFound, Conflict) as error:
            faults[project, dataset_id] = error
    return faults


def _row(item: NewSubmission, now: datetime) -> dict[str, Any]:
    state = SubmissionState.REJECTED if item.job is None else SubmissionState.ACCEPTED
    return {
        "id": new_id(SUBMISSION),
        "project": item.project,
        "submission_id": item.submission_id,
        "state": state.value,
        "config_sha256": item.config_sha256,
        "job_id": None,
        "error": None if item.error is None else dict(item.error),
        "warnings": [dict(warning) for warning in item.warnings],
        "created_at": now,
    }
