"""What a project uses: counts, bytes, seconds of training."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from gradkeel.contract.states import DatasetState
from gradkeel_store.records import tables
from gradkeel_store.records.database import Database


class UsageRecords(Database):
    """Sums over a project's records."""

    def training_seconds(self, project: str, since: datetime | None = None) -> float:
        """Seconds between start and end of the project's jobs that ended, all of them or ``since`` then."""
        jobs = tables.jobs
        query = sa.select(sa.func.sum(self._seconds_between(jobs.c.started_at, jobs.c.ended_at)))
        query = query.where(jobs.c.project == project, jobs.c.ended_at.is_not(None))
        if since is not None:
            query = query.where(jobs.c.ended_at > since)
        with self._read() as connection:
            return float(connection.scalar(query) or 0.0)

    def dataset_counts(self, project: str) -> dict[str, int]:
        """How many data sets stand in each state."""
        datasets = tables.datasets
        query = sa.select(datasets.c.state, sa.func.count()).where(datasets.c.project == project)
        with self._read() as connection:
            found = {state: count for state, count in connection.execute(query.group_by(datasets.c.state))}
        return {state.value: int(found.get(state.value, 0)) for state in DatasetState}

    def model_count(self, project: str) -> int:
        """How many models there are."""
        query = sa.select(sa.func.count()).where(tables.models.c.project == project)
        with self._read() as connection:
            return int(connection.scalar(query) or 0)

    def _seconds_between(self, start: sa.Column[Any], end: sa.Column[Any]) -> sa.ColumnElement[Any]:
        if self.engine.dialect.name == "sqlite":
            return (sa.func.julianday(end) - sa.func.julianday(start)) * 86400.0
        return sa.extract("epoch", end - start)
