"""Data sets: ingesting → ready | rejected, read by one worker at a time under a lease."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from gradkeel.contract.ids import DATASET, new_id
from gradkeel.contract.problems import Problem
from gradkeel.contract.states import TERMINAL, DatasetState, JobErrorCode, JobState
from gradkeel_store.errors import IdempotencyMismatch, InUse, NotFound
from gradkeel_store.records import tables
from gradkeel_store.records.database import Database
from gradkeel_store.records.endings import end_queued_jobs
from gradkeel_store.records.idempotency import Answering
from gradkeel_store.records.pages import select_page
from gradkeel_store.records.rows import DatasetRow, Lease, Page

datasets, uploads = tables.datasets, tables.uploads
WITHOUT_PROFILE = [column for column in datasets.c if column.name != "profile"]


class DatasetRecords(Database):
    """The life of a data set. Writers of a claimed one show their fence; a stale fence touches nothing."""

    def create_dataset(
        self,
        project: str,
        name: str,
        sha256: str,
        size: int,
        options: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        answering: Answering[DatasetRow] | None = None,
    ) -> DatasetRow:
        """A new data set in state ``ingesting``; its bytes must be in the object store already.

        With an ``idempotency_key`` that made one before, that one; ``IdempotencyMismatch`` when it
        held other bytes. The answer of ``answering`` is kept along with a data set that is made here, in
        the same transaction; its ``render`` is not called for one that was made before.
        """
        row = self._new_dataset(project, name, sha256, size, options)
        row["idempotency_key"] = idempotency_key
        try:
            with self._write() as connection:
                connection.execute(datasets.insert().values(row))
                if answering is not None:
                    answering.keep(connection, DatasetRow.of(row))
        except IntegrityError:
            return self._dataset_made_before(project, idempotency_key, sha256)
        return DatasetRow.of(row)

    def _new_dataset(
        self, project: str, name: str, sha256: str, size: int, options: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """The values of a data set that waits to be read."""
        now = self.now()
        return {
            "id": new_id(DATASET),
            "project": project,
            "name": name,
            "sha256": sha256,
            "bytes": size,
            "options": dict(options or {}),
            "state": DatasetState.INGESTING.value,
            "max_attempts": self._max_attempts,
            "created_at": now,
            "queued_at": now,
        }

    def _dataset_made_before(self, project: str, idempotency_key: str | None, sha256: str) -> DatasetRow:
        query = sa.select(datasets).where(
            datasets.c.project == project, datasets.c.idempotency_key == idempotency_key
        )
        with self._read() as connection:
            found = DatasetRow.of(connection.execute(query).mappings().one())
        if found.sha256 != sha256:
            raise IdempotencyMismatch("this Idempotency-Key belongs to another upload")
        return found

    def get_dataset(self, project: str, dataset_id: str) -> DatasetRow:
        """Raises ``NotFound``, also for another project's."""
        query = sa.select(datasets).where(datasets.c.id == dataset_id, datasets.c.project == project)
        with self._read() as connection:
            row = connection.execute(query).mappings().one_or_none()
        if row is None:
            raise NotFound(f"there is no data set {dataset_id}")
        return DatasetRow.of(row)

    def find_dataset(self, project: str, sha256: str) -> DatasetRow | None:
        """The project's newest data set with these bytes that was not rejected."""
        query = sa.select(datasets).where(
            datasets.c.project == project,
            datasets.c.sha256 == sha256,
            datasets.c.state != DatasetState.REJECTED.value,
        )
        with self._read() as connection:
            found = connection.execute(query.order_by(datasets.c.created_at.desc()).limit(1)).mappings()
            row = found.one_or_none()
        return None if row is None else DatasetRow.of(row)

    def dataset_names(self, project: str, dataset_ids: Iterable[str]) -> dict[str, str]:
        """Id → name of those of the data sets that are there."""
        query = sa.select(datasets.c.id, datasets.c.name).where(
            datasets.c.project == project, datasets.c.id.in_(list(dataset_ids))
        )
        with self._read() as connection:
            return {row.id: row.name for row in connection.execute(query)}

    def list_datasets(
        self, project: str, limit: int = 20, after: str | None = None, order: str = "desc"
    ) -> Page[DatasetRow]:
        """Without profiles. Raises ``BadCursor``."""
        query = sa.select(*WITHOUT_PROFILE).where(datasets.c.project == project)
        with self._read() as connection:
            return select_page(
                connection, query, datasets, DatasetRow.of, limit=limit, after=after, order=order
            )

    def delete_dataset(self, project: str, dataset_id: str) -> DatasetRow:
        """Take the record away; ``InUse`` while queued or running jobs need it, or ``NotFound``.

        The bytes stay until ``Objects.collect`` finds that no record names them.
        """
        with self._write() as connection:
            query = sa.select(datasets).where(datasets.c.id == dataset_id, datasets.c.project == project)
            row = connection.execute(query.with_for_update()).mappings().one_or_none()
            if row is None:
                raise NotFound(f"there is no data set {dataset_id}")
            if _active_jobs(connection, dataset_id):
                raise InUse(f"queued or running jobs need the data set {dataset_id}: cancel them or wait")
            connection.execute(datasets.delete().where(datasets.c.id == dataset_id))
        return DatasetRow.of(row)

    def stored_bytes(self, project: str) -> int:
        """Bytes as uploaded, summed over the project's data sets and the pieces of unfinished uploads."""
        whole = sa.select(sa.func.coalesce(sa.func.sum(datasets.c.bytes), 0))
        parts = sa.select(sa.func.coalesce(sa.func.sum(uploads.c.received), 0))
        unfinished = (uploads.c.dataset_id.is_(None), uploads.c.error.is_(None))
        with self._read() as connection:
            stored = connection.scalar(whole.where(datasets.c.project == project))
            coming = connection.scalar(parts.where(uploads.c.project == project, *unfinished))
        return int(stored or 0) + int(coming or 0)

    # Work on a data set

    def claim_dataset(self, dataset_id: str, owner: str) -> DatasetRow | None:
        """Take an unread data set; None when it is taken, read or gone."""
        with self._write() as connection:
            row = connection.execute(self._claim_dataset(dataset_id, owner)).mappings().one_or_none()
        return None if row is None else DatasetRow.of(row)

    def claim_next_dataset(self, owner: str) -> DatasetRow | None:
        """Take the one that has waited longest, if any waits."""
        query = sa.select(datasets.c.id).where(*_waiting()).order_by(datasets.c.queued_at).limit(1)
        with self._write() as connection:
            found = connection.scalar(query.with_for_update(skip_locked=True))
            if found is None:
                return None
            row = connection.execute(self._claim_dataset(found, owner)).mappings().one_or_none()
        return None if row is None else DatasetRow.of(row)

    def _claim_dataset(self, dataset_id: str, owner: str) -> Any:
        change = datasets.update().where(datasets.c.id == dataset_id, *_waiting())
        return change.values(
            attempt=datasets.c.attempt + 1,
            fence=datasets.c.fence + 1,
            heartbeat_seq=0,
            lease_owner=owner,
            lease_expires=self.now() + self._lease,
        ).returning(*datasets.c)

    def heartbeat_dataset(self, dataset_id: str, fence: int) -> bool:
        """False: the lease is lost; stop."""
        return self._hold_dataset(
            dataset_id,
            fence,
            heartbeat_seq=datasets.c.heartbeat_seq + 1,
            lease_expires=self.now() + self._lease,
        )

    def finish_dataset(
        self,
        dataset_id: str,
        fence: int,
        parquet_digest: str,
        profile: Mapping[str, Any],
        rows: int,
        columns: Sequence[Mapping[str, Any]],
    ) -> bool:
        """Make it ready; ``columns`` are ``{"name", "type", "missing"}``. False: the lease was lost."""
        return self._hold_dataset(
            dataset_id,
            fence,
            state=DatasetState.READY.value,
            parquet_digest=parquet_digest,
            profile=dict(profile),
            rows=rows,
            columns=[dict(column) for column in columns],
            **self._dataset_end(),
        )

    def reject_dataset(self, dataset_id: str, fence: int, problem: Problem | Mapping[str, Any]) -> bool:
        """Reject it, and fail the jobs that wait for it with ``bad_data``. False: the lease was lost."""
        document = problem.to_json() if isinstance(problem, Problem) else dict(problem)
        held = (datasets.c.fence == fence, datasets.c.lease_owner.is_not(None))
        with self._write() as connection:
            return self._reject_dataset(connection, dataset_id, document, *held)

    def _reject_dataset(
        self, connection: Connection, dataset_id: str, document: dict[str, Any], *held: Any
    ) -> bool:
        ingesting = datasets.c.state == DatasetState.INGESTING.value
        change = datasets.update().where(datasets.c.id == dataset_id, ingesting, *held)
        change = change.values(state=DatasetState.REJECTED.value, error=document, **self._dataset_end())
        if connection.execute(change).rowcount == 0:
            return False
        error = {
            "code": JobErrorCode.BAD_DATA.value,
            "message": f"the data set was rejected: {document.get('detail', '')}",
            "where": {"dataset_id": dataset_id, "errors": document.get("errors", [])},
        }
        waiting = tables.jobs.c.dataset_id == dataset_id
        end_queued_jobs(connection, self.now(), JobState.FAILED, waiting, error=error)
        return True

    def release_dataset(self, dataset_id: str, fence: int) -> bool:
        """Give it back unread, the attempt included."""
        return self._hold_dataset(
            dataset_id,
            fence,
            attempt=datasets.c.attempt - 1,
            queued_at=self.now(),
            lease_owner=None,
            lease_expires=None,
        )

    def requeue_lost_dataset(
        self, dataset_id: str, fence: int, heartbeat_seq: int | None = None, problem: Problem | None = None
    ) -> bool:
        """Take it from a reader that is gone; after the last attempt it is rejected with ``problem``.

        With ``heartbeat_seq``, only if the reader gave no sign since. False: nothing was changed.
        """
        held = [datasets.c.fence == fence, datasets.c.lease_owner.is_not(None)]
        if heartbeat_seq is not None:
            held.append(datasets.c.heartbeat_seq == heartbeat_seq)
        lost = problem or Problem("internal", "the data could not be read: its reader died again and again")
        change = datasets.update().where(
            datasets.c.id == dataset_id,
            datasets.c.state == DatasetState.INGESTING.value,
            datasets.c.attempt < datasets.c.max_attempts,
            *held,
        )
        change = change.values(
            interruptions=datasets.c.interruptions + 1,
            queued_at=self.now(),
            lease_owner=None,
            lease_expires=None,
        )
        with self._write() as connection:
            if connection.execute(change).rowcount:
                return True
            return self._reject_dataset(connection, dataset_id, lost.to_json(), *held)

    def waiting_datasets(self, older_than: float = 0.0, limit: int = 1000) -> list[str]:
        """Ids of data sets that no worker reads yet, longest waiting first."""
        query = sa.select(datasets.c.id).where(*_waiting())
        if older_than:
            query = query.where(datasets.c.queued_at <= self._before(older_than))
        with self._read() as connection:
            return list(connection.scalars(query.order_by(datasets.c.queued_at).limit(limit)))

    def dataset_leases(self) -> list[Lease]:
        """Every held lease, for the reaper."""
        query = sa.select(datasets.c.id, datasets.c.fence, datasets.c.heartbeat_seq).where(
            datasets.c.state == DatasetState.INGESTING.value, datasets.c.lease_owner.is_not(None)
        )
        with self._read() as connection:
            return [Lease(*row) for row in connection.execute(query)]

    def _hold_dataset(self, dataset_id: str, fence: int, **values: Any) -> bool:
        change = datasets.update().where(
            datasets.c.id == dataset_id,
            datasets.c.state == DatasetState.INGESTING.value,
            datasets.c.fence == fence,
            datasets.c.lease_owner.is_not(None),
        )
        with self._write() as connection:
            return connection.execute(change.values(values)).rowcount == 1

    def _dataset_end(self) -> dict[str, Any]:
        return {"ended_at": self.now(), "lease_owner": None, "lease_expires": None}


def _waiting() -> tuple[Any, Any]:
    return datasets.c.state == DatasetState.INGESTING.value, datasets.c.lease_owner.is_(None)


def _active_jobs(connection: Connection, dataset_id: str) -> bool:
    ended = [state.value for state in TERMINAL]
    query = sa.select(tables.jobs.c.id).where(
        tables.jobs.c.dataset_id == dataset_id, tables.jobs.c.state.not_in(ended)
    )
    return connection.execute(query.limit(1)).first() is not None
