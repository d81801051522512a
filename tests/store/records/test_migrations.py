import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from gradkeel_store.errors import SettingsError, StoreError, Unavailable
from gradkeel_store.migrations import HEAD
from gradkeel_store.migrations.upgrade import config, downgrade, upgrade
from gradkeel_store.records import Records
from gradkeel_store.records.tables import metadata
from making import PEPPER, queued_job


@pytest.fixture
def records(fresh_database_url: str) -> Iterator[Records]:
    opened = Records.open(fresh_database_url)
    yield opened
    opened.close()


def test_the_migrations_make_the_tables(records: Records) -> None:
    with records.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_head_is_the_newest_revision(records: Records) -> None:
    assert ScriptDirectory.from_config(config()).get_current_head() == HEAD
    assert records.version() == HEAD


def test_there_and_back(records: Records) -> None:
    with records.engine.begin() as connection:
        downgrade(connection, "base")
        left = set(sa.inspect(connection).get_table_names())
    assert left == {"alembic_version"}
    with records.engine.begin() as connection:
        upgrade(connection)
    assert queued_job(records, records.default_project()).state == "queued"


def test_opening_again_changes_nothing(fresh_database_url: str) -> None:
    first = Records.open(fresh_database_url, pepper=PEPPER)
    project = first.default_project()
    assert Records.open(fresh_database_url, migrate=False).default_project() == project
    assert Records.open(fresh_database_url).default_project() == project


def test_an_upgrade_that_fails_leaves_nothing(fresh_database_url: str) -> None:
    records = Records.open(fresh_database_url, migrate=False)
    with records.engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE workers (id INTEGER)"))
    with pytest.raises((sa.exc.DBAPIError, StoreError)):
        records.migrate()
    with records.engine.connect() as connection:
        assert sa.inspect(connection).get_table_names() == ["workers"]


OPEN = """
import sys
from gradkeel_store.records import Records
print(Records.open(sys.argv[1]).default_project())
"""


def test_several_may_open_a_fresh_database_at_once(fresh_database_url: str) -> None:
    starts = [
        subprocess.Popen([sys.executable, "-c", OPEN, fresh_database_url], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    projects = {start.communicate()[0].strip() for start in starts}
    assert [start.returncode for start in starts] == [0] * 4
    assert len(projects) == 1


def test_sqlite_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    records = Records.open(f"sqlite:///{tmp_path}/r.db")
    with records.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL


def test_readers_of_sqlite_do_not_wait_for_a_writer(tmp_path: Path) -> None:
    records = Records.open(f"sqlite:///{tmp_path}/r.db")
    project = records.default_project()
    with sqlite3.connect(tmp_path / "r.db", isolation_level=None) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert records.list_jobs(project).rows == ()


@pytest.mark.parametrize("url", ["", "mysql://x/y", "sqlite://", "sqlite:///:memory:", "not a url"])
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="GRADKEEL_DATABASE_URL"):
        Records.open(url)


def test_a_database_that_is_away_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        Records.open(f"postgresql+psycopg://x@/x?host={tmp_path}")
