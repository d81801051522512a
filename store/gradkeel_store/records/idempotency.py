"""Idempotency-Key: one answer per key, whatever happens to the server in between."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from gradkeel_store.errors import IdempotencyMismatch, InFlight
from gradkeel_store.records import tables
from gradkeel_store.records.database import Database

Made = TypeVar("Made")

answers = tables.idempotency
ABANDONED_SECONDS = 10.0
"""A request that began so long ago and has no answer counts as dead: another may take it over."""


@dataclass(frozen=True)
class Replay:
    """The answer that was given before."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Started:
    """This request is the one that runs.

    Hand it to ``finish_idempotent`` or ``abandon_idempotent``, or in an ``Answering`` to its record.
    """

    project: str
    key: str
    holder: str


@dataclass(frozen=True)
class Answering(Generic[Made]):
    """The answer to keep in the transaction that makes the record which it shows."""

    started: Started
    render: Callable[[Made], Replay]

    def keep(self, connection: Connection, made: Made) -> None:
        _keep(connection, self.started, self.render(made))


def _keep(connection: Connection, started: Started, answer: Replay) -> bool:
    change = answers.update().where(*_holder(started), answers.c.status.is_(None))
    done = connection.execute(
        change.values(status=answer.status, headers=dict(answer.headers), body=answer.body)
    )
    return done.rowcount == 1


class IdempotencyRecords(Database):
    """Answers by (project, key)."""

    def begin_idempotent(self, project: str, key: str, operation: str, body_sha256: str) -> Replay | Started:
        """Start a request (``operation`` such as ``"POST /v1/jobs"``), or replay its answer.

        Raises ``IdempotencyMismatch`` (same key, another request) or ``InFlight`` (still running). A
        request whose server died is taken over: at once when it had made its job, data set or batch,
        which the key then finds again, else after 10 s.
        """
        started = Started(project, key, secrets.token_hex(16))
        row = {
            "project": project,
            "key": key,
            "operation": operation,
            "body_sha256": body_sha256,
            "holder": started.holder,
            "started_at": self.now(),
        }
        try:
            with self._write() as connection:
                connection.execute(answers.insert().values(row))
            return started
        except IntegrityError:
            with self._write() as connection:
                return self._replay_or_take(connection, row) or started

    def _replay_or_take(self, connection: Connection, row: Mapping[str, Any]) -> Replay | None:
        """The stored answer, or None when this request has taken the key over."""
        which = (answers.c.project == row["project"], answers.c.key == row["key"])
        found = (
            connection.execute(sa.select(answers).where(*which).with_for_update()).mappings().one_or_none()
        )
        if found is None:
            raise InFlight("the same request was running a moment ago and was given up: repeat this one")
        if (found["operation"], found["body_sha256"]) != (row["operation"], row["body_sha256"]):
            raise IdempotencyMismatch("this Idempotency-Key was used for another request")
        if found["status"] is not None:
            return Replay(found["status"], found["headers"] or {}, bytes(found["body"] or b""))
        if found["started_at"] > self._before(ABANDONED_SECONDS) and not _has_made(connection, row):
            raise InFlight("the same request is still running")
        taken = answers.update().where(*which)
        connection.execute(taken.values(holder=row["holder"], started_at=row["started_at"]))
        return None

    def finish_idempotent(
        self, started: Started, status: int, headers: Mapping[str, str], body: bytes
    ) -> bool:
        """Keep the answer. False when another request has taken the key over."""
        with self._write() as connection:
            return _keep(connection, started, Replay(status, dict(headers), body))

    def abandon_idempotent(self, started: Started) -> None:
        """Forget a request that had no effect, so that it may be tried again."""
        with self._write() as connection:
            connection.execute(answers.delete().where(*_holder(started), answers.c.status.is_(None)))

    def purge_idempotent(self, older_than: float = 86400.0) -> int:
        """Drop answers older than so many seconds; how many went."""
        with self._write() as connection:
            change = answers.delete().where(answers.c.started_at < self._before(older_than))
            return connection.execute(change).rowcount


def _holder(started: Started) -> tuple[Any, ...]:
    return (
        answers.c.project == started.project,
        answers.c.key == started.key,
        answers.c.holder == started.holder,
    )


def _has_made(connection: Connection, row: Mapping[str, Any]) -> bool:
    """Whether the earlier request came as far as its record."""
    for table in (tables.jobs, tables.datasets, tables.batches):
        made = (table.c.project == row["project"], table.c.idempotency_key == row["key"])
        if connection.execute(sa.select(table.c.id).where(*made).limit(1)).first() is not None:
            return True
    return False
