"""Models: made by the end of a job, never changed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gradkeel.contract.states import BatchState, JobState
from gradkeel_store.errors import InUse, NotFound
from gradkeel_store.records import tables
from gradkeel_store.records.database import Database
from gradkeel_store.records.pages import select_page
from gradkeel_store.records.rows import ModelRow, Page

models = tables.models

_ASKED_AT_ONCE = 10_000
"""Values in one IN list; SQLite takes 32,766 parameters, PostgreSQL's protocol 65,535."""


class ModelRecords(Database):
    """Reading and deleting models."""

    def get_model(self, project: str, model_id: str) -> ModelRow:
        """Raises ``NotFound``, also for another project's."""
        query = sa.select(models).where(models.c.id == model_id, models.c.project == project)
        with self._read() as connection:
            row = connection.execute(query).mappings().one_or_none()
        if row is None:
            raise NotFound(f"there is no model {model_id}")
        return ModelRow.of(row)

    def list_models(
        self, project: str, limit: int = 20, after: str | None = None, order: str = "desc"
    ) -> Page[ModelRow]:
        """Raises ``BadCursor``."""
        query = sa.select(models).where(models.c.project == project)
        with self._read() as connection:
            return select_page(connection, query, models, ModelRow.of, limit=limit, after=after, order=order)

    def delete_model(self, project: str, model_id: str) -> ModelRow:
        """Take the record away; its job forgets it. The bytes go once no record names them.

        ``InUse`` while queued or running jobs are to go on from it, or ``NotFound``.
        """
        change = models.delete().where(models.c.id == model_id, models.c.project == project)
        with self._write() as connection:
            held = sa.select(models.c.id).where(models.c.id == model_id, models.c.project == project)
            connection.execute(held.with_for_update())
            if _active_jobs(connection, project, model_id):
                raise InUse(f"queued or running jobs go on from the model {model_id}: cancel them or wait")
            row = connection.execute(change.returning(*models.c)).mappings().one_or_none()
            if row is None:
                raise NotFound(f"there is no model {model_id}")
            forget = tables.jobs.update().where(tables.jobs.c.model_id == model_id)
            connection.execute(forget.values(model_id=None))
        return ModelRow.of(row)

    def referenced(self, digests: set[str]) -> set[str]:
        """Those of ``digests`` that some record, of any project, names."""
        found: set[str] = set()
        columns = [tables.datasets.c.sha256, tables.datasets.c.parquet_digest]
        jobs = tables.jobs.c
        columns += [jobs.report_digest, jobs.series_digest, jobs.predictions_digest, jobs.logs_digest]
        columns += [jobs.checkpoint]
        with self._read() as connection:
            for column, asked in product(columns, _lots(sorted(digests))):
                query = sa.select(column).where(column.in_(asked)).distinct()
                found.update(connection.scalars(query))
            unread = tables.batches.c.state == BatchState.READING.value
            found.update(connection.scalars(sa.select(tables.batches.c.sha256).where(unread)))
            for row in connection.scalars(sa.select(models.c.digests)):
                found.update(digest.removeprefix("sha256:") for digest in row.values())
        return found & digests


def _active_jobs(connection: Connection, project: str, model_id: str) -> bool:
    jobs = tables.jobs.c
    active = (JobState.QUEUED.value, JobState.RUNNING.value)
    query = sa.select(jobs.id).where(
        jobs.project == project, jobs.state.in_(active), jobs.config["model_id"].as_string() == model_id
    )
    return connection.execute(query.limit(1)).first() is not None


def _lots(digests: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(digests), _ASKED_AT_ONCE):
        yield digests[start : start + _ASKED_AT_ONCE]
