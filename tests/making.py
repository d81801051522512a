"""Ready-made records for tests that are about what comes after them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from gradkeel_store.records import DatasetRow, JobRow, Records

PEPPER = "pepper-of-the-tests"
SHA = "ab" * 32
PARQUET = "cd" * 32
COLUMNS = [
    {"name": "rooms", "type": "numeric", "missing": 2},
    {"name": "price", "type": "numeric", "missing": 0},
]
PROFILE: dict[str, Any] = {"rows": 20, "columns": COLUMNS, "findings": []}
CONFIG: dict[str, Any] = {"target": "price", "preset": "standard", "optimizer": {"kind": "sgd", "lr": 0.01}}
MODEL: dict[str, Any] = {
    "target": "price",
    "task": "regression",
    "columns": [{"name": "rooms", "type": "numeric", "required": True}],
    "classes": None,
    "metrics": {"test": {"rmse": 1.5}},
    "verdict": "healthy",
    "digests": {"bundle": "sha256:" + "ef" * 32},
}


class Clock:
    """A wall clock that moves when it is told to."""

    def __init__(self) -> None:
        self.time = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def forward(self, **how_far: float) -> None:
        self.time += timedelta(**how_far)


def ingesting_dataset(records: Records, project: str, name: str = "homes.csv") -> DatasetRow:
    return records.create_dataset(project, name, SHA, 1234)


def ready_dataset(records: Records, project: str, profile: dict[str, Any] = PROFILE) -> DatasetRow:
    made = ingesting_dataset(records, project)
    claimed = records.claim_dataset(made.id, "reader")
    assert claimed is not None
    assert records.finish_dataset(made.id, claimed.fence, PARQUET, profile, 20, COLUMNS)
    return records.get_dataset(project, made.id)


def queued_job(records: Records, project: str, dataset: DatasetRow | None = None, **options: Any) -> JobRow:
    dataset = dataset or ready_dataset(records, project)
    return records.create_job(project, dataset.id, CONFIG, CONFIG, **options)


def running_job(records: Records, project: str, owner: str = "worker-1", **options: Any) -> JobRow:
    claimed = records.claim_job(queued_job(records, project, **options).id, owner)
    assert claimed is not None
    return claimed


def ended_job(records: Records, project: str, state: str = "succeeded") -> JobRow:
    job = running_job(records, project)
    assert records.finish_job(job.id, job.fence, state, model=MODEL if state == "succeeded" else None)
    return records.get_job(project, job.id)
