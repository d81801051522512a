"""Records as the rest of the program sees them: immutable, and each knows its public document."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Generic, Self, TypeVar

from gradkeel.contract.states import TERMINAL, JobState, UploadState


def timestamp(value: datetime | None) -> str | None:
    """RFC 3339 in UTC with microseconds and ``Z``."""
    return None if value is None else value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class _Row:
    @classmethod
    def of(cls, mapping: Any) -> Self:
        """From a row of the table; columns that this class does not show are left out."""
        names = {f.name for f in fields(cls)}  # type: ignore[arg-type]
        return cls(**{name: value for name, value in mapping.items() if name in names})


@dataclass(frozen=True)
class KeyRow(_Row):
    """An API key; the secret itself is nowhere."""

    id: str
    project: str
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None

    def is_live(self, now: datetime) -> bool:
        """Whether it opens anything: neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "scopes": list(self.scopes),
            "created_at": timestamp(self.created_at),
            "expires_at": timestamp(self.expires_at),
            "revoked_at": timestamp(self.revoked_at),
            "last_used_at": timestamp(self.last_used_at),
        }


@dataclass(frozen=True)
class ProjectRow(_Row):
    """A project: whatever is kept belongs to one, and no key opens two."""

    id: str
    name: str
    created_at: datetime

    def to_json(self) -> dict[str, Any]:
        return {"id": self.id, "name": self.name, "created_at": timestamp(self.created_at)}


@dataclass(frozen=True)
class DatasetRow(_Row):
    """An uploaded table. ``sha256`` names the bytes as uploaded, ``parquet_digest`` what jobs read.

    ``profile`` is None in lists. ``columns`` is a list of ``{"name", "type", "missing"}``.
    """

    id: str
    project: str
    name: str
    sha256: str
    bytes: int
    options: dict[str, Any]
    state: str
    created_at: datetime
    parquet_digest: str | None = None
    profile: dict[str, Any] | None = None
    rows: int | None = None
    columns: list[dict[str, Any]] | None = None
    error: dict[str, Any] | None = None
    attempt: int = 0
    interruptions: int = 0
    fence: int = 0
    heartbeat_seq: int = 0
    lease_owner: str | None = None
    ended_at: datetime | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "sha256": self.sha256,
            "bytes": self.bytes,
            "state": self.state,
            "rows": self.rows,
            "columns": [
                {key: column.get(key) for key in ("name", "type", "missing")} for column in self.columns or ()
            ],
            "error": self.error,
            "created_at": timestamp(self.created_at),
        }


@dataclass(frozen=True)
class UploadRow(_Row):
    """A file on its way in by pieces. ``metadata`` is as it was sent; ``holder`` is who works on it.

    ``sha256`` is what the sender declared, if anything, and in the end what was found.
    """

    id: str
    project: str
    name: str
    length: int
    received: int
    options: dict[str, Any]
    created_at: datetime
    expires_at: datetime
    metadata: str | None = None
    sha256: str | None = None
    dataset_id: str | None = None
    error: dict[str, Any] | None = None
    holder: str | None = None
    held_at: datetime | None = None

    @property
    def state(self) -> UploadState:
        if self.error is not None:
            return UploadState.FAILED
        if self.dataset_id is not None:
            return UploadState.DONE
        return UploadState.RECEIVING if self.received < self.length else UploadState.ASSEMBLING

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "state": self.state.value,
            "length": self.length,
            "received": self.received,
            "sha256": self.sha256,
            "dataset_id": self.dataset_id,
            "error": self.error,
            "created_at": timestamp(self.created_at),
            "expires_at": timestamp(self.expires_at),
        }


@dataclass(frozen=True)
class Piece(_Row):
    """Bytes of an upload from ``start`` on, stored under their digest in the upload's own space."""

    start: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class JobRow(_Row):
    """A job. ``submitted`` is what the caller sent, ``config`` the same resolved."""

    id: str
    project: str
    kind: str
    state: str
    dataset_id: str
    submitted: dict[str, Any]
    config: dict[str, Any]
    labels: dict[str, str]
    created_at: datetime
    queued_at: datetime
    retry_of: str | None = None
    batch_id: str | None = None
    priority: int = 0
    cancel_requested: bool = False
    progress: dict[str, Any] | None = None
    attempt: int = 0
    max_attempts: int = 3
    interruptions: int = 0
    fence: int = 0
    heartbeat_seq: int = 0
    lease_owner: str | None = None
    lease_expires: datetime | None = None
    checkpoint: str | None = None
    model_id: str | None = None
    verdict: str | None = None
    metrics: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    report_digest: str | None = None
    series_digest: str | None = None
    predictions_digest: str | None = None
    logs_digest: str | None = None
    idempotency_key: str | None = None
    run_after: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "kind": self.kind,
            "state": self.state,
            "cancel_requested": self.cancel_requested,
            "config": self.config,
            "submitted": self.submitted,
            "dataset_id": self.dataset_id,
            "model_id": self.model_id,
            "progress": self.progress,
            "attempts": self.attempt,
            "interruptions": self.interruptions,
            "retry_of": self.retry_of,
            "batch_id": self.batch_id,
            "priority": self.priority,
            "verdict": self.verdict,
            "metrics": self.metrics,
            "error": self.error,
            "labels": self.labels,
            "created_at": timestamp(self.created_at),
            "started_at": timestamp(self.started_at),
            "ended_at": timestamp(self.ended_at),
        }


@dataclass(frozen=True)
class BatchRow(_Row):
    """A batch of configs. ``lines`` counts those that are not blank, ``counts`` its jobs by state.

    ``bytes_read`` and ``last_line`` say how far its file was read.
    """

    id: str
    project: str
    state: str
    priority: int
    sha256: str
    bytes: int
    lines: int
    created_at: datetime
    lines_read: int = 0
    rejected: int = 0
    bytes_read: int = 0
    last_line: int = 0
    cancel_requested: bool = False
    error: dict[str, Any] | None = None
    counts: dict[str, int] | None = None
    attempt: int = 0
    max_attempts: int = 3
    interruptions: int = 0
    fence: int = 0
    heartbeat_seq: int = 0
    lease_owner: str | None = None
    ended_at: datetime | None = None

    @property
    def counted(self) -> dict[str, int]:
        """Jobs in each state, those with none included."""
        return {state.value: 0 for state in JobState} | (self.counts or {})

    @property
    def fraction(self) -> float:
        """The part of the lines of which it is known what became."""
        if self.ended_at is not None:
            return 1.0
        done = self.rejected + sum(self.counted[state] for state in TERMINAL)
        return done / max(self.lines, 1)

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "state": self.state,
            "priority": self.priority,
            "lines": self.lines,
            "rejected": self.rejected,
            "counts": self.counted,
            "progress": {"read": self.lines_read, "fraction": self.fraction},
            "cancel_requested": self.cancel_requested,
            "error": self.error,
            "created_at": timestamp(self.created_at),
            "ended_at": timestamp(self.ended_at),
        }


@dataclass(frozen=True)
class BatchLineRow(_Row):
    """A line of a batch and how its job stands. ``error`` is the problem that it was rejected with."""

    line: int
    custom_id: str | None
    job_id: str | None
    error: dict[str, Any] | None
    state: str | None
    metrics: dict[str, Any] | None
    verdict: str | None
    job_error: dict[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        without_job = "cancelled" if self.error is None else "rejected"
        return {
            "line": self.line,
            "custom_id": self.custom_id,
            "job_id": self.job_id,
            "state": self.state or without_job,
            "metrics": self.metrics,
            "verdict": self.verdict,
            "error": self.error or self.job_error,
        }


@dataclass(frozen=True)
class SubmissionRow(_Row):
    """What became of a submission from the queue: a job, or the problem document ``error``."""

    project: str
    submission_id: str
    state: str
    config_sha256: str
    created_at: datetime
    job_id: str | None = None
    error: dict[str, Any] | None = None
    warnings: list[dict[str, str]] | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "submission_id": self.submission_id,
            "state": self.state,
            "job_id": self.job_id,
            "error": self.error,
            "warnings": self.warnings or [],
            "created_at": timestamp(self.created_at),
        }


@dataclass(frozen=True)
class ModelRow(_Row):
    """A trained model. ``digests`` maps a form (bundle, onnx, safetensors) to ``sha256:…``."""

    id: str
    project: str
    job_id: str
    target: str
    task: str
    columns: list[dict[str, Any]]
    classes: list[str] | None
    metrics: dict[str, Any] | None
    verdict: str | None
    digests: dict[str, str]
    created_at: datetime

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "job_id": self.job_id,
            "target": self.target,
            "task": self.task,
            "columns": self.columns,
            "classes": self.classes,
            "metrics": self.metrics,
            "verdict": self.verdict,
            "digests": self.digests,
            "created_at": timestamp(self.created_at),
        }


@dataclass(frozen=True)
class WorkerRow(_Row):
    """A worker's last sign of life; ``info`` holds its devices."""

    id: str
    info: dict[str, Any]
    started_at: datetime
    heartbeat_at: datetime


@dataclass(frozen=True)
class Lease:
    """What a reaper compares: unchanged for the length of a lease means that the holder is gone."""

    id: str
    fence: int
    heartbeat_seq: int


@dataclass(frozen=True)
class LifecycleEvent(_Row):
    """One change of a job's state. Ids grow; see ``gradkeel_store.event_ids``."""

    id: int
    job_id: str
    name: str
    data: dict[str, Any]
    terminal: bool
    created_at: datetime


R = TypeVar("R")


@dataclass(frozen=True)
class Page(Generic[R]):
    """One page of a list; hand ``next_cursor`` back as ``after`` for the next."""

    rows: tuple[R, ...]
    has_more: bool
    next_cursor: str | None
