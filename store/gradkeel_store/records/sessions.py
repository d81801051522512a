"""Sessions of people who signed in on the pages with a key. Only an HMAC of a session's token is kept."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import datetime

import sqlalchemy as sa

from gradkeel_store.records import tables
from gradkeel_store.records.keys import SECRET_BYTES, KeyRecords
from gradkeel_store.records.rows import KeyRow

PREFIX = "ses_"


class SessionRecords(KeyRecords):
    """A session stands for its key: it opens what the key opens, and ends with it."""

    def open_session(self, key: KeyRow, expires_at: datetime) -> str:
        """The token of a new session of this key. Sessions that are over are swept along the way."""
        sessions = tables.sessions
        token = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        now = self.now()
        row = {
            "token_hmac": self._session_hmac(token),
            "key_id": key.id,
            "created_at": now,
            "expires_at": expires_at,
        }
        with self._write() as connection:
            connection.execute(sessions.delete().where(sessions.c.expires_at <= now))
            connection.execute(sessions.insert().values(row))
        return token

    def key_of_session(self, token: str) -> KeyRow | None:
        """The key that the session stands for; None when it is unknown or over, or the key has ended."""
        keys, sessions = tables.keys, tables.sessions
        now = self.now()
        query = sa.select(keys).join(sessions, sessions.c.key_id == keys.c.id)
        query = query.where(
            sessions.c.token_hmac == self._session_hmac(token),
            sessions.c.expires_at > sa.literal(now, tables.UtcDateTime()),
        )
        with self._read() as connection:
            row = connection.execute(query).mappings().one_or_none()
        key = None if row is None else KeyRow.of({**row, "scopes": tuple(row["scopes"])})
        return key if key is not None and key.is_live(now) else None

    def close_session(self, token: str) -> None:
        """End a session; one that is unknown is no error."""
        sessions = tables.sessions
        with self._write() as connection:
            connection.execute(sessions.delete().where(sessions.c.token_hmac == self._session_hmac(token)))

    def _session_hmac(self, token: str) -> str:
        return hmac.new(self._pepper, f"session.{token}".encode(), hashlib.sha256).hexdigest()
