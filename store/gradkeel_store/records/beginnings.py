"""Making queued jobs: one by one or hundreds in one transaction. Shared by jobs and batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gradkeel.contract.ids import JOB, new_id
from gradkeel.contract.states import DatasetState, JobState
from gradkeel_store import event_ids
from gradkeel_store.errors import DatasetRejected, NotFound
from gradkeel_store.json_text import finite
from gradkeel_store.records import tables
from gradkeel_store.records.endings import event_row

QUEUED = {"state": JobState.QUEUED.value}


def queued_row(
    project: str,
    dataset_id: str,
    submitted: Mapping[str, Any],
    config: Mapping[str, Any],
    labels: Mapping[str, str],
    now: datetime,
    **more: Any,
) -> dict[str, Any]:
    """The row of a fresh queued job; ``more`` are further columns, the same for all rows inserted at once."""
    return QUEUED | {
        "id": new_id(JOB),
        "project": project,
        "dataset_id": dataset_id,
        "submitted": finite(dict(submitted)),
        "config": finite(dict(config)),
        "labels": dict(labels),
        "created_at": now,
        "queued_at": now,
        **more,
    }


def insert_jobs(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write fresh jobs with their labels and first events. Raises ``NotFound`` for one that is to go on from
    a model that is not there (any more)."""
    _hold_models(connection, rows)
    labels = [
        {"job_id": row["id"], "name": name, "value": value}
        for row in rows
        for name, value in row["labels"].items()
    ]
    events = [event_row(row["id"], event_ids.claimed(0), row["created_at"], QUEUED) for row in rows]
    for table, written in ((tables.jobs, rows), (tables.job_labels, labels), (tables.job_events, events)):
        if written:
            connection.execute(table.insert(), [dict(row) for row in written])


def _hold_models(connection: Connection, rows: Iterable[Mapping[str, Any]]) -> None:
    """Hold the models that jobs go on from until the jobs are written: they cannot be deleted."""
    asked = {(row["project"], row["config"].get("model_id")) for row in rows}
    models = tables.models.c
    for project, model_id in sorted((project, name) for project, name in asked if name is not None):
        query = sa.select(models.id).where(models.id == model_id, models.project == project)
        if connection.scalar(query.with_for_update(read=True)) is None:
            raise NotFound(f"there is no model {model_id}")


def hold_datasets(connection: Connection, project: str, dataset_ids: Iterable[str]) -> None:
    """Hold data sets in place until their jobs are written: they can be neither deleted nor rejected.

    Raises ``NotFound`` or ``DatasetRejected``.
    """
    data = tables.datasets
    for dataset_id in sorted(set(dataset_ids)):
        query = sa.select(data.c.state).where(data.c.id == dataset_id, data.c.project == project)
        state = connection.scalar(query.with_for_update(read=True))
        if state is None:
            raise NotFound(f"there is no data set {dataset_id}")
        if state == DatasetState.REJECTED.value:
            raise DatasetRejected(f"the data set {dataset_id} was rejected")
