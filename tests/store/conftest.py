"""Fixtures of the store's tests: each database and each object store, behind one name."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from gradkeel_store.objects import Objects, open_objects
from gradkeel_store.records import Records
from gradkeel_store.records.tables import metadata
from gradkeel_store.settings import Settings
from making import PEPPER
from servers import S3, Postgres


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.load({}, tmp_path / "data")


@pytest.fixture(params=["sqlite", "postgresql"])
def fresh_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind in turn, without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/records.db"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "records.db"
    Records.open(f"sqlite:///{path}").close()
    return path


@pytest.fixture(scope="session")
def shared_postgres_url(postgres: Postgres) -> str:
    url = postgres.create_database()
    Records.open(url).close()
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind in turn, with this version's tables, empty."""
    if request.param == "sqlite":
        path = shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "records.db")
        return f"sqlite:///{path}"
    url = str(request.getfixturevalue("shared_postgres_url"))
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text(f"TRUNCATE {', '.join(metadata.tables)}"))
    engine.dispose()
    return url


@pytest.fixture
def records(database_url: str) -> Iterator[Records]:
    opened = Records.open(database_url, pepper=PEPPER)
    yield opened
    opened.close()


@pytest.fixture
def project(records: Records) -> str:
    return records.default_project()


@pytest.fixture(params=["folder", "s3"])
def objects_settings(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    """Settings of each object store in turn, empty."""
    if request.param == "folder":
        return settings
    endpoint, bucket = request.getfixturevalue("s3_endpoint"), request.getfixturevalue("s3_bucket")
    return dataclasses.replace(
        settings,
        objects_url=f"s3://{bucket}/some/prefix",
        s3_endpoint=endpoint,
        s3_access_key=S3.ACCESS_KEY,
        s3_secret_key=S3.SECRET_KEY,
    )


@pytest.fixture
def objects(objects_settings: Settings) -> Objects:
    return open_objects(objects_settings)
