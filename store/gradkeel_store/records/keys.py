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

    def get_project(self, project: str) -> ProjectRow:
        """The project; raises ``NotFound``."""
        query = sa.select(tables.projects).where(tables.projects.c.id == project)
        with self._read() as connection:
            row = connection.execute(query).mappings().one_or_none()
        if row is None:
            raise NotFound(f"there is no project {project}")
        return ProjectRow.of(row)

    def create_key(
        self, project: str, scopes: Iterable[str], name: str = "", expires_at: datetime | None = None
    ) -> tuple[KeyRow, str]:
        """A new key and its token ``id.secret``, which is never shown again (secret: 43 characters)."""
        with self._write() as connection:
            return self._insert_key(connection, project, scopes, name, expires_at)

    def _insert_key(
        self,
        connection: Connection,
        project: str,
        scopes: Iterable[str],
        name: str,
        expires_at: datetime | None,
    ) -> tuple[KeyRow, str]:
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

    def rotate_key(self, project: str, key_id: str, overlap: timedelta) -> tuple[KeyRow, str]:
        """A new key of the same project, name, scopes and lifetime; the old one ends after ``overlap``.

        Raises ``NotFound``, and ``Conflict`` for a key that has ended.
        """
        keys = tables.keys
        with self._write() as connection:
            old = self._locked_key(connection, project, key_id)
            now = self.now()
            if not old.is_live(now):
                raise Conflict(f"the key {key_id} has ended; make a new one")
            end = now + overlap if old.expires_at is None else min(old.expires_at, now + overlap)
            connection.execute(keys.update().where(keys.c.id == key_id).values(expires_at=end))
            renewed = None if old.expires_at is None else now + (old.expires_at - old.created_at)
            return self._insert_key(connection, project, old.scopes, old.name, renewed)

    def authenticate(self, token: str) -> KeyRow | None:
        """The key that ``token`` proves, or None: unknown, wrong, expired and revoked look alike."""
        key_id, _, secret = token.partition(".")
        row = self._key_row(key_id) if is_id(key_id, KEY) else None
        offered = self._hmac(key_id, secret)
        if not hmac.compare_digest(offered, row["secret_hmac"] if row else "0" * 64) or row is None:
            return None
        key = _key(row)
        return key if key.is_live(self.now()) else None

    def get_key(self, project: str, key_id: str) -> KeyRow:
        """The key, ended or not; raises ``NotFound``."""
        row = self._key_row(key_id)
        if row is None or row["project"] != project:
            raise NotFound(f"there is no key {key_id}")
        return _key(row)

    def note_use(self, key_id: str) -> None:
        """Write down that the key is used now, unless that was done less than ``USE_SECONDS`` ago."""
        keys = tables.keys
        stale = keys.c.last_used_at.is_(None) | (keys.c.last_used_at <= self._before(USE_SECONDS))
        with self._write() as connection:
            connection.execute(
                keys.update().where(keys.c.id == key_id, stale).values(last_used_at=self.now())
            )

    def page_keys(
        self, project: str, *, limit: int = 20, after: str | None = None, order: str = "desc"
    ) -> Page[KeyRow]:
        """A page of the project's keys, ended ones included."""
        query = sa.select(tables.keys).where(tables.keys.c.project == project)
        with self._read() as connection:
            return select_page(connection, query, tables.keys, _key, limit=limit, after=after, order=order)

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
            key = self._locked_key(connection, project, key_id)
            if key.revoked_at is not None:
                return key
            if Scope.ADMIN in key.scopes and key.is_live(self.now()):
                self._keep_an_admin(connection, key)
            change = keys.update().where(keys.c.id == key_id).values(revoked_at=self.now())
            return _key(connection.execute(change.returning(*keys.c)).mappings().one())

    def _keep_an_admin(self, connection: Connection, key: KeyRow) -> None:
        query = sa.select(tables.keys).where(
            tables.keys.c.project == key.project,
            tables.keys.c.id != key.id,
            tables.keys.c.revoked_at.is_(None),
        )
        others = [_key(row) for row in connection.execute(query).mappings()]
        if not any(_outlives(other, key, self.now()) for other in others if Scope.ADMIN in other.scopes):
            raise Conflict(
                f"{key.id} is the last key of the project with the scope admin; make or rotate one first"
            )

    def _locked_key(self, connection: Connection, project: str, key_id: str) -> KeyRow:
        """The key, with its project locked until the transaction ends; raises ``NotFound``."""
        projects, keys = tables.projects, tables.keys
        connection.execute(sa.select(projects.c.id).where(projects.c.id == project).with_for_update())
        query = sa.select(keys).where(keys.c.id == key_id, keys.c.project == project)
        row = connection.execute(query).mappings().one_or_none()
        if row is None:
            raise NotFound(f"there is no key {key_id}")
        return _key(row)

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


def _outlives(other: KeyRow, key: KeyRow, now: datetime) -> bool:
    """Whether ``other`` lives, and lasts at least as long as ``key``."""
    if not other.is_live(now):
        return False
    return other.expires_at is None or (key.expires_at is not None and other.expires_at >= key.expires_at)
