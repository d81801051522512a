"""The tables. Their history is in ``gradkeel_store/migrations``; a test keeps the two equal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """An aware datetime in UTC, on databases with and without time zones."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _id(name: str = "id", **options: Any) -> sa.Column[str]:
    return sa.Column(name, sa.String(40), **options)


def _json(name: str, *, nullable: bool = True) -> sa.Column[Any]:
    return sa.Column(name, sa.JSON(none_as_null=True), nullable=nullable)


def _digest(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String(64))


def _count(name: str, default: int = 0) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False, server_default=str(default))


def _when(name: str, *, nullable: bool = True, index: bool = False) -> sa.Column[datetime]:
    return sa.Column(name, UtcDateTime, nullable=nullable, index=index)


def _lease() -> list[sa.Column[Any]]:
    """A worker's hold on a row: only the holder of the newest fence may write."""
    return [
        _count("attempt"),
        _count("max_attempts", 3),
        _count("interruptions"),
        _count("fence"),
        _count("heartbeat_seq"),
        sa.Column("lease_owner", sa.String(120)),
        _when("lease_expires"),
    ]


projects = sa.Table(
    "projects",
    metadata,
    _id(primary_key=True),
    sa.Column("name", sa.String(200), nullable=False, unique=True),
    _when("created_at", nullable=False),
)

keys = sa.Table(
    "keys",
    metadata,
    _id(primary_key=True),
    _id("project", nullable=False, index=True),
    sa.Column("name", sa.String(200), nullable=False),
    _json("scopes", nullable=False),
    sa.Column("secret_hmac", sa.String(64), nullable=False),
    _when("created_at", nullable=False),
    _when("expires_at"),
    _when("revoked_at"),
    _when("last_used_at"),
)

sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("token_hmac", sa.String(64), primary_key=True),
    _id("key_id", nullable=False),
    _when("created_at", nullable=False),
    _when("expires_at", nullable=False, index=True),
)

datasets = sa.Table(
    "datasets",
    metadata,
    _id(primary_key=True),
    _id("project", nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False, index=True),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    _json("options", nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    _digest("parquet_digest"),
    _json("profile"),
    sa.Column("rows", sa.BigInteger),
    _json("columns"),
    _json("error"),
    sa.Column("idempotency_key", sa.String(255)),
    *_lease(),
    _when("created_at", nullable=False),
    _when("queued_at", nullable=False),
    _when("ended_at"),
    sa.UniqueConstraint("project", "idempotency_key"),
    sa.Index(None, "project", "created_at", "id"),
    sa.Index(None, "state", "queued_at"),
)

jobs = sa.Table(
    "jobs",
    metadata,
    _id(primary_key=True),
    _id("project", nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    _id("dataset_id", nullable=False, index=True),
    _json("submitted", nullable=False),
    _json("config", nullable=False),
    _json("labels", nullable=False),
    _id("retry_of"),
    _id("batch_id"),
    sa.Column("priority", sa.Integer, nullable=False, server_default="0"),
    sa.Column("cancel_requested", sa.Boolean, nullable=False, server_default=sa.false()),
    _json("progress"),
    *_lease(),
    _digest("checkpoint"),
    _id("model_id"),
    sa.Column("verdict", sa.String(16)),
    _json("metrics"),
    _json("error"),
    _digest("report_digest"),
    _digest("series_digest"),
    _digest("predictions_digest"),
    _digest("logs_digest"),
    sa.Column("idempotency_key", sa.String(255)),
    _when("created_at", nullable=False),
    _when("queued_at", nullable=False),
    _when("run_after"),
    _when("claimed_at"),
    _when("started_at"),
    _when("ended_at"),
    sa.UniqueConstraint("project", "idempotency_key"),
    sa.Index(None, "project", "created_at", "id"),
    sa.Index(None, "project", "state"),
    sa.Index(None, "project", "claimed_at"),
    sa.Index(None, "batch_id", "state"),
    sa.Index(None, "lease_owner", "state"),
)
QUEUED = sa.text("state = 'queued'")
sa.Index(
    "jobs_in_turn",
    jobs.c.priority.desc(),
    jobs.c.created_at,
    jobs.c.id,
    sqlite_where=QUEUED,
    postgresql_where=QUEUED,
)
sa.Index(
    "jobs_in_turn_within_project",
    jobs.c.project,
    jobs.c.priority.desc(),
    jobs.c.created_at,
    jobs.c.id,
    sqlite_where=QUEUED,
    postgresql_where=QUEUED,
)

job_labels = sa.Table(
    "job_labels",
    metadata,
    _id("job_id", primary_key=True),
    sa.Column("name", sa.String(200), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    sa.Index(None, "name", "job_id"),
)

job_events = sa.Table(
    "job_events",
    metadata,
    _id("job_id", primary_key=True),
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("name", sa.String(16), nullable=False),
    _json("data", nullable=False),
    sa.Column("terminal", sa.Boolean, nullable=False, server_default=sa.false()),
    _when("created_at", nullable=False),
)
sa.Index(
    "one_terminal_event_per_job",
    job_events.c.job_id,
    unique=True,
    sqlite_where=sa.text("terminal"),
    postgresql_where=sa.text("terminal"),
)

models = sa.Table(
    "models",
    metadata,
    _id(primary_key=True),
    _id("project", nullable=False),
    _id("job_id", nullable=False, unique=True),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("task", sa.String(32), nullable=False),
    _json("columns", nullable=False),
    _json("classes"),
    _json("metrics"),
    sa.Column("verdict", sa.String(16)),
    _json("digests", nullable=False),
    _when("created_at", nullable=False),
    sa.Index(None, "project", "created_at", "id"),
)

workers = sa.Table(
    "workers",
    metadata,
    sa.Column("id", sa.String(120), primary_key=True),
    sa.Column("role", sa.String(16), nullable=False, server_default="worker"),
    _json("info", nullable=False),
    _when("started_at", nullable=False),
    _when("heartbeat_at", nullable=False),
)

idempotency = sa.Table(
    "idempotency",
    metadata,
    _id("project", primary_key=True),
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("operation", sa.String(300), nullable=False),
    sa.Column("body_sha256", sa.String(64), nullable=False),
    sa.Column("holder", sa.String(40), nullable=False),
    _when("started_at", nullable=False),
    sa.Column("status", sa.Integer),
    _json("headers"),
    sa.Column("body", sa.LargeBinary),
)

batches = sa.Table(
    "batches",
    metadata,
    _id(primary_key=True),
    _id("project", nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("priority", sa.Integer, nullable=False, server_default="0"),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    _count("lines"),
    _count("lines_read"),
    _count("rejected"),
    sa.Column("bytes_read", sa.BigInteger, nullable=False, server_default="0"),
    _count("last_line"),
    sa.Column("cancel_requested", sa.Boolean, nullable=False, server_default=sa.false()),
    _json("error"),
    _json("counts"),
    sa.Column("idempotency_key", sa.String(255)),
    *_lease(),
    _when("created_at", nullable=False),
    _when("served_at", nullable=False),
    _when("ended_at"),
    sa.UniqueConstraint("project", "idempotency_key"),
    sa.Index(None, "project", "created_at", "id"),
    sa.Index(None, "state", "served_at"),
)

batch_lines = sa.Table(
    "batch_lines",
    metadata,
    _id("batch_id", primary_key=True),
    sa.Column("line", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("custom_id", sa.String(200)),
    _id("job_id"),
    _json("error"),
)

submissions = sa.Table(
    "submissions",
    metadata,
    _id("project", primary_key=True),
    sa.Column("submission_id", sa.String(200), primary_key=True),
    _id(nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("config_sha256", sa.String(64), nullable=False),
    _id("job_id"),
    _json("error"),
    _json("warnings"),
    _when("created_at", nullable=False),
    sa.Index(None, "project", "created_at", "id"),
)

uploads = sa.Table(
    "uploads",
    metadata,
    _id(primary_key=True),
    _id("project", nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("length", sa.BigInteger, nullable=False),
    sa.Column("received", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("metadata", sa.Text),
    _json("options", nullable=False),
    sa.Column("sha256", sa.String(64)),
    _id("dataset_id"),
    _json("error"),
    _id("holder"),
    _when("held_at"),
    _when("created_at", nullable=False),
    _when("expires_at", nullable=False),
    sa.Index(None, "project", "dataset_id"),
    sa.Index(None, "expires_at"),
)

upload_pieces = sa.Table(
    "upload_pieces",
    metadata,
    _id("upload_id", primary_key=True),
    sa.Column("start", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
)
