"""The connection to the records: SQLite or PostgreSQL behind two kinds of transaction."""

from __future__ import annotations

import importlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from gradkeel_store.errors import SettingsError, StorageFull, Unavailable
from gradkeel_store.json_text import to_text
from gradkeel_store.migrations import HEAD

BUSY_SECONDS = 30
POSTGRES_OPTIONS = (
    "-c statement_timeout=15000 -c lock_timeout=10000 -c idle_in_transaction_session_timeout=60000"
)


def make_engine(url: str) -> Engine:
    """An engine for ``sqlite:///FILE`` or ``postgresql+psycopg://…``; anything else is a SettingsError."""
    try:
        parsed = make_url(url)
    except sa.exc.ArgumentError as error:
        raise SettingsError("GRADKEEL_DATABASE_URL is not a database URL") from error
    if parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:"):
        return _sqlite(parsed)
    if parsed.get_backend_name() == "postgresql":
        return _postgres(parsed.set(drivername="postgresql+psycopg"))
    raise SettingsError("GRADKEEL_DATABASE_URL must be sqlite:///FILE or postgresql+psycopg://…")


def _sqlite(url: sa.URL) -> Engine:
    Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(
        url,
        json_serializer=to_text,
        connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
        pool_size=8,
        max_overflow=24,
        pool_timeout=BUSY_SECONDS,
    )
    sa.event.listen(engine, "connect", _on_sqlite_connect)
    sa.event.listen(engine, "begin", _on_sqlite_begin)
    return engine


def _on_sqlite_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin in _on_sqlite_begin, not when the driver likes
    cursor = connection.cursor()
    _write_ahead(cursor)
    for pragma in ("synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _write_ahead(cursor: sqlite3.Cursor) -> None:
    """Set the journal mode, which a fresh file keeps for good.

    SQLite does not wait for a lock here, whatever its timeout, and processes that open a fresh file at once
    meet in this.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _on_sqlite_begin(connection: Connection) -> None:
    """Writers queue up at BEGIN: a read lock is never upgraded, so there is nothing to deadlock on."""
    read_only = connection.get_execution_options().get("read_only", False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


def _postgres(url: sa.URL) -> Engine:
    options = {} if "options" in url.query else {"options": POSTGRES_OPTIONS}
    return sa.create_engine(
        url,
        json_serializer=to_text,
        connect_args={"connect_timeout": 5} | options,
        pool_pre_ping=True,
        pool_size=8,
        max_overflow=24,
        pool_timeout=10,
    )


@contextmanager
def _translated() -> Iterator[None]:
    """Failures of the database itself, told from failures of a statement."""
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        if "disk is full" in str(error) or "No space left" in str(error):
            raise StorageFull("the database has no room left") from error
        raise Unavailable("the database does not answer") from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise Unavailable("the database went away") from error
        raise


def utc_now() -> datetime:
    return datetime.now(UTC)


class Database:
    """An engine and a wall clock. The records of each kind build on it."""

    def __init__(
        self,
        engine: Engine,
        *,
        pepper: str = "",
        lease_seconds: float = 60.0,
        max_attempts: int = 3,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.engine = engine
        self.now = clock
        self._reader = engine.execution_options(read_only=True)
        self._pepper = pepper.encode()
        self._lease = timedelta(seconds=lease_seconds)
        self._max_attempts = max_attempts
        self._turn = threading.Lock() if engine.dialect.name == "sqlite" else None

    @classmethod
    def open(cls, url: str, *, migrate: bool = True, **options: Any) -> Self:
        """Connect, and bring the tables to this version first unless ``migrate`` is False.

        Several processes may open a fresh database at once. ``options``: ``pepper`` (needed for keys),
        ``lease_seconds``, ``max_attempts``, ``clock``.
        """
        database = cls(make_engine(url), **options)
        if migrate:
            database.migrate()
        return database

    def migrate(self) -> None:
        """Bring the tables to this version, under a lock. Quick when they are there already."""
        if self.version() == HEAD:
            return
        # Alembic costs time and memory that only this step needs.
        runner = importlib.import_module("gradkeel_store.migrations.upgrade")
        with self._write() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(7246325)"))
            runner.upgrade(connection)

    def version(self) -> str | None:
        """The revision of the tables; None where there are none."""
        with self._read() as connection:
            if not sa.inspect(connection).has_table("alembic_version"):
                return None
            found: str | None = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
            return found

    def _before(self, seconds: float) -> datetime:
        return self.now() - timedelta(seconds=seconds)

    def ping(self) -> None:
        """Raise ``Unavailable`` where the database does not answer."""
        with self._read() as connection:
            connection.execute(sa.text("SELECT 1"))

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with _translated(), self._reader.begin() as connection:
            yield connection

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        """One transaction that may write; it is on disk when the block has ended without an error."""
        with self._taking_turns(), _translated(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def _taking_turns(self) -> Iterator[None]:
        """One writer of this process at a time on SQLite, whose own waiting sleeps and forgets the order."""
        if self._turn is None:
            yield
            return
        if not self._turn.acquire(timeout=BUSY_SECONDS):
            raise Unavailable("the database is busy")
        try:
            yield
        finally:
            self._turn.release()
