"""Fixtures that start real servers; see servers.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from servers import S3, Postgres, Rabbit, Valkey, running_postgres, running_rabbit

# The same examples in every run, however fast the machine is: a test that fails, fails for everyone.
settings.register_profile(
    "same everywhere", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("same everywhere")


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    """A fresh broker of this test's own: `.url`, `.kill()`, `.start()`, `.freeze()`, `.process`."""
    server = Valkey()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def rabbit() -> Iterator[Rabbit]:
    """One RabbitMQ for the whole run. Skipped where it is not installed (a failure when CI is set)."""
    with running_rabbit() as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL for the whole run. Skipped where it is not installed (a failure when CI is set)."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """The SQLAlchemy URL of a fresh, empty database, which is dropped afterwards."""
    url = postgres.create_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3]:
    server = S3()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def s3_endpoint(s3_server: S3) -> str:
    """`http://127.0.0.1:<port>` of an S3-speaking server."""
    return s3_server.endpoint


@pytest.fixture
def s3_bucket(s3_server: S3) -> str:
    """A fresh, empty bucket on `s3_endpoint`; any access key is taken."""
    return s3_server.create_bucket()
