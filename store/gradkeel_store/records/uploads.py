"""Resumable uploads: pieces come in one after the other, and become one data set.

One request at a time holds an upload. What it does is bound to the hold (``WHERE holder = mine``), so that
one that was taken for dead and is not changes nothing any more.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gradkeel.contract.ids import UPLOAD, new_id
from gradkeel_store.errors import Gone, Held, NotFound, WrongOffset
from gradkeel_store.records import tables
from gradkeel_store.records.datasets import DatasetRecords
from gradkeel_store.records.idempotency import Answering
from gradkeel_store.records.rows import DatasetRow, Piece, UploadRow

uploads, pieces = tables.uploads, tables.upload_pieces

HOLD_SECONDS = 5.0
"""A holder that gave no sign for so long counts as dead; a live one gives one every two seconds."""

_ASKED_AT_ONCE = 500


class UploadRecords(DatasetRecords):
    """The life of an upload, from its announcement to its data set."""

    def create_upload(
        self,
        project: str,
        name: str,
        length: int,
        *,
        seconds: float,
        metadata: str | None = None,
        options: Mapping[str, Any] | None = None,
        sha256: str | None = None,
        answering: Answering[UploadRow] | None = None,
    ) -> UploadRow:
        """A new upload without bytes, which expires ``seconds`` after the last ones came.

        ``sha256``: the digest that the whole is to have, where the sender declares one.
        """
        now = self.now()
        row = UploadRow(
            id=new_id(UPLOAD),
            project=project,
            name=name,
            length=length,
            received=0,
            metadata=metadata,
            options=dict(options or {}),
            sha256=sha256,
            created_at=now,
            expires_at=now + timedelta(seconds=seconds),
        )
        values = {column.name: getattr(row, column.name) for column in uploads.c}
        with self._write() as connection:
            connection.execute(uploads.insert().values(values))
            if answering is not None:
                answering.keep(connection, row)
        return row

    def get_upload(self, project: str, upload_id: str) -> UploadRow:
        """Raises ``NotFound``, also for another project's; ``Gone`` once it has expired."""
        with self._read() as connection:
            return self._upload(connection, project, upload_id)

    def _upload(self, connection: Connection, project: str, upload_id: str) -> UploadRow:
        query = sa.select(uploads).where(uploads.c.id == upload_id, uploads.c.project == project)
        found = connection.execute(query).mappings().one_or_none()
        if found is None:
            raise NotFound(f"there is no upload {upload_id}")
        row = UploadRow.of(found)
        if row.dataset_id is None and row.expires_at <= self.now():
            raise Gone(f"the upload {upload_id} has expired: nothing came for too long")
        return row

    def hold_upload(self, project: str, upload_id: str, offset: int) -> UploadRow:
        """Take the upload in hand, to add bytes from ``offset`` on or to put all of them together.

        Raises ``NotFound``, ``Gone``, ``WrongOffset``, or ``Held`` while another request holds it.
        """
        row = self.get_upload(project, upload_id)
        if row.error is not None:
            raise Gone(f"the upload {upload_id} was refused: {row.error.get('detail')}")
        if row.received != offset or row.dataset_id is not None:
            raise WrongOffset(f"the upload {upload_id} stands at {row.received}, not at {offset}")
        holder, now = secrets.token_hex(16), self.now()
        free = sa.or_(uploads.c.holder.is_(None), uploads.c.held_at < self._before(HOLD_SECONDS))
        change = uploads.update().where(
            uploads.c.id == upload_id,
            uploads.c.received == offset,
            uploads.c.dataset_id.is_(None),
            uploads.c.error.is_(None),
            free,
        )
        with self._write() as connection:
            if connection.execute(change.values(holder=holder, held_at=now)).rowcount == 0:
                raise Held(f"another request is working on the upload {upload_id}")
        return replace(row, holder=holder, held_at=now)

    def renew_upload(self, held: UploadRow) -> None:
        """Say that the holder lives. Raises ``Held`` where the hold is lost."""
        self._change_held(held, held_at=self.now())

    def release_upload(self, held: UploadRow) -> None:
        """Let go of it; a lost hold is no error."""
        change = uploads.update().where(uploads.c.id == held.id, uploads.c.holder == held.holder)
        with self._write() as connection:
            connection.execute(change.values(holder=None, held_at=None))

    def add_piece(self, held: UploadRow, piece: Piece, seconds: float) -> UploadRow:
        """Count a piece whose bytes are stored; the upload now expires in ``seconds``.

        Raises ``Held`` where the hold is lost; the piece then does not count.
        """
        now = self.now()
        news: dict[str, Any] = {
            "received": piece.start + piece.bytes,
            "held_at": now,
            "expires_at": now + timedelta(seconds=seconds),
        }
        with self._write() as connection:
            self._held(connection, held, uploads.c.received == piece.start, **news)
            connection.execute(
                pieces.insert().values(
                    upload_id=held.id, start=piece.start, bytes=piece.bytes, sha256=piece.sha256
                )
            )
        return replace(held, **news)

    def pieces_of(self, upload_id: str) -> list[Piece]:
        """In their order."""
        query = sa.select(pieces).where(pieces.c.upload_id == upload_id).order_by(pieces.c.start)
        with self._read() as connection:
            return [Piece.of(row) for row in connection.execute(query).mappings()]

    def count_pieces(self, upload_id: str) -> int:
        query = sa.select(sa.func.count()).select_from(pieces).where(pieces.c.upload_id == upload_id)
        with self._read() as connection:
            return connection.scalar(query) or 0

    def finish_upload(self, held: UploadRow, sha256: str) -> DatasetRow:
        """Make the data set of an upload whose bytes lie whole in the object store, and end the upload.

        Both or neither happens. Raises ``Held`` where the hold is lost.
        """
        row = self._new_dataset(held.project, held.name, sha256, held.length, held.options)
        with self._write() as connection:
            connection.execute(tables.datasets.insert().values(row))
            self._held(connection, held, dataset_id=row["id"], sha256=sha256, holder=None, held_at=None)
            connection.execute(pieces.delete().where(pieces.c.upload_id == held.id))
        return DatasetRow.of(row)

    def fail_upload(self, held: UploadRow, problem: Mapping[str, Any]) -> None:
        """End it for a fault of its bytes. The record stays until it expires, to say why."""
        with self._write() as connection:
            self._held(connection, held, error=dict(problem), holder=None, held_at=None)
            connection.execute(pieces.delete().where(pieces.c.upload_id == held.id))

    def delete_upload(self, project: str, upload_id: str) -> None:
        """Take it away. A data set that it became stays. Raises ``NotFound`` or ``Gone``."""
        with self._write() as connection:
            self._upload(connection, project, upload_id)
            _remove(connection, [upload_id])

    def drop_expired_uploads(self, limit: int = 1000) -> int:
        """Take expired uploads away, but for those that are being worked on; how many went."""
        idle = sa.or_(uploads.c.holder.is_(None), uploads.c.held_at < self._before(HOLD_SECONDS))
        query = sa.select(uploads.c.id).where(uploads.c.expires_at <= self.now(), idle).limit(limit)
        with self._write() as connection:
            found = list(connection.scalars(query))
            _remove(connection, found)
        return len(found)

    def uploads_in_work(self, upload_ids: Iterable[str]) -> set[str]:
        """Those of the uploads whose pieces are still needed."""
        asked, found = sorted(upload_ids), set[str]()
        with self._read() as connection:
            for start in range(0, len(asked), _ASKED_AT_ONCE):
                query = sa.select(uploads.c.id).where(
                    uploads.c.id.in_(asked[start : start + _ASKED_AT_ONCE]),
                    uploads.c.dataset_id.is_(None),
                    uploads.c.error.is_(None),
                )
                found.update(connection.scalars(query))
        return found

    def _change_held(self, held: UploadRow, **values: Any) -> None:
        with self._write() as connection:
            self._held(connection, held, **values)

    def _held(self, connection: Connection, held: UploadRow, *conditions: Any, **values: Any) -> None:
        change = uploads.update().where(
            uploads.c.id == held.id,
            uploads.c.holder == held.holder,
            uploads.c.dataset_id.is_(None),
            *conditions,
        )
        if connection.execute(change.values(values)).rowcount == 0:
            raise Held(f"the upload {held.id} was deleted, or another request has taken it over")


def _remove(connection: Connection, upload_ids: list[str]) -> None:
    connection.execute(pieces.delete().where(pieces.c.upload_id.in_(upload_ids)))
    connection.execute(uploads.delete().where(uploads.c.id.in_(upload_ids)))
