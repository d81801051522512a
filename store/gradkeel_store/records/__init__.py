"""Records in SQL: the truth about projects, keys, data sets, jobs and models.

Each kind has its file; ``jobs.py`` holds every change of a job's state. ``Records`` is all of them on one
database. Whatever belongs to a project is asked for with that project, and another project's is absent.
"""

from __future__ import annotations

from gradkeel_store.records.batches import BatchRecords, NewJob, NewLine
from gradkeel_store.records.database import Database
from gradkeel_store.records.idempotency import Answering, IdempotencyRecords, Replay, Started
from gradkeel_store.records.jobs import JobFilter, JobRecords
from gradkeel_store.records.models import ModelRecords
from gradkeel_store.records.rows import (
    BatchLineRow,
    BatchRow,
    DatasetRow,
    JobRow,
    KeyRow,
    Lease,
    LifecycleEvent,
    ModelRow,
    Page,
    Piece,
    ProjectRow,
    SubmissionRow,
    UploadRow,
    WorkerRow,
    timestamp,
)
from gradkeel_store.records.sessions import SessionRecords
from gradkeel_store.records.submissions import NewSubmission, Recorded, SubmissionRecords
from gradkeel_store.records.uploads import UploadRecords
from gradkeel_store.records.usage import UsageRecords
from gradkeel_store.records.workers import WorkerRecords
from gradkeel_store.settings import Settings

__all__ = [
    "Answering",
    "BatchLineRow",
    "BatchRow",
    "Database",
    "DatasetRow",
    "JobFilter",
    "JobRow",
    "KeyRow",
    "Lease",
    "LifecycleEvent",
    "ModelRow",
    "NewJob",
    "NewLine",
    "NewSubmission",
    "Page",
    "Piece",
    "ProjectRow",
    "Recorded",
    "Records",
    "Replay",
    "Started",
    "SubmissionRow",
    "UploadRow",
    "WorkerRow",
    "open_records",
    "timestamp",
]


class Records(
    SubmissionRecords,
    SessionRecords,
    UsageRecords,
    UploadRecords,
    JobRecords,
    BatchRecords,
    ModelRecords,
    WorkerRecords,
    IdempotencyRecords,
):
    """All records. ``Records.open(url)`` connects and migrates; it may be used from many threads.

    Open it after a fork, never before.
    """


def open_records(settings: Settings, *, migrate: bool = True) -> Records:
    """The records that the settings name, with their pepper, lease and attempts."""
    return Records.open(
        settings.database_url,
        migrate=migrate,
        pepper=settings.pepper,
        lease_seconds=settings.lease_seconds,
        max_attempts=settings.max_attempts,
    )
