"""API keys: ``id.secret``, of which only an HMAC is kept."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from gradkeel.contract.ids import KEY, PROJECT, is_id, new_id
from gradkeel.contract.states import Scope
from gradkeel_store.errors import Conflict, NotFound, SettingsError
from gradkeel_store.records import tables
from gradkeel_store.records.database import Database
from gradkeel_store.records.pages import select_page
from gradkeel_store.records.rows import KeyRow, Page, ProjectRow

DEFAULT_PROJECT = "default"
SECRET_BYTES = 32

USE_SECONDS = 60
"""``last_used_at`` is written once in so many seconds at most."""


class KeyRecords(Database):
    """Projects and their keys."""

    def default_project(self) -> str:
        """The id of the project that a single-user installation works in; made when missing."""
        return self.project_named(DEFAULT_PROJECT)

    def project_named(self, name: str) -> str:
        """The id of the project called ``name``; made when missing."""
        query = sa.select(tables.projects.c.id).where(tables.projects.c.name == name)
        with self._read() as connection:
            found = connection.scalar(query)
        if found is not None:
            return str(found)
        try:
            with self._write() as connection:
                row = {"id": new_id(PROJECT), "name": name, "created_at": self.now()}
                connection.execute(tables.projects.insert().values(row))
                return str(row["id"])
        except IntegrityError:  # another process made it in between
            with self._read() as connection:
                return str(connection.execute(query).scalar_one())

    def create_key(
        self, project: str, scopes: Iterable[str], name: str = "", expires_at: datetime | None = None
    ) -> tuple[KeyRow, str]:
        """A new key and its token ``id.secret``, which is never shown again (secret: 43 characters)."""
        secret = secrets.token_urlsafe(SECRET_BYTES)
        key_id = new_id(KEY)
        row = {
            "id": key_id,
            "project": project,
            "name": name,
            "scopes": [Scope(scope).value for scope in scopes],
            "secret_hmac": self._hmac(key_id, secret),
            "created_at": self.now(),
            "expires_at": expires_at,
        }
        connection.execute(tables.keys.insert().values(row))
        return _key(row), f"{key_id}.{secret}"

    def authenticate(self, token: str) -> KeyRow | None:
        """The key that ``token`` proves, or None: unknown, wrong, expired and revoked look alike."""
        key_id, _, secret = token.partition(".")
        row = self._key_row(key_id) if is_id(key_id, KEY) else None
        offered = self._hmac(key_id, secret)
        if not hmac.compare_digest(offered, row["secret_hmac"] if row else "0" * 64) or row is None:
            return None
        expired = row["expires_at"] is not None and row["expires_at"] <= self.now()
        return None if expired or row["revoked_at"] is not None else _key(row)

    def list_keys(self, project: str) -> list[KeyRow]:
        """All keys, oldest first, revoked ones included."""
        query = sa.select(tables.keys).where(tables.keys.c.project == project)
        with self._read() as connection:
            found = connection.execute(query.order_by(tables.keys.c.created_at, tables.keys.c.id))
            return [_key(row) for row in found.mappings()]

    def revoke_key(self, project: str, key_id: str) -> KeyRow:
        """End a key, for good; again is no error. Raises ``NotFound``.

        Raises ``Conflict`` for a live key with the scope admin that no other one outlives: without it nobody
        could make keys for the project any more.
        """
        keys = tables.keys
        with self._write() as connection:
            row = connection.execute(change.returning(*keys.c)).mappings().one_or_none()
        if row is None:
            raise NotFound(f"there is no key {key_id}")
        return _key(row)

    def _now_value(self) -> sa.BindParameter[datetime]:
        return sa.literal(self.now(), tables.UtcDateTime())

    def _key_row(self, key_id: str) -> Any:
        with self._read() as connection:
            query = sa.select(tables.keys).where(tables.keys.c.id == key_id)
            return connection.execute(query).mappings().one_or_none()

    def _hmac(self, key_id: str, secret: str) -> str:
        if not self._pepper:
            raise SettingsError(
                "keys need a pepper: open the records with gradkeel_store.records.open_records"
            )
        return hmac.new(self._pepper, f"{key_id}.{secret}".encode(), hashlib.sha256).hexdigest()


def _key(row: Any) -> KeyRow:
    return KeyRow.of({**row, "scopes": tuple(row["scopes"])})
