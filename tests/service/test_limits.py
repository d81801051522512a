"""How much a project may use and how often a key may call, on services with little room."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2 as httpx
import pytest

from service.conftest import Service, assert_problem, running_service

RATE = 30


@pytest.fixture(scope="module")
def hurried() -> Iterator[Service]:
    """A service whose keys may send 30 requests a minute."""
    with running_service(GRADKEEL_RATE_LIMIT=str(RATE)) as running:
        yield running


def send_until_refused(client: httpx.Client) -> httpx.Response:
    """The first answer that is not 200; there is one among so many, even when a minute ends in between."""
    answers = (client.get("/v1/jobs") for _ in range(2 * RATE + 1))
    return next(answer for answer in answers if answer.status_code != 200)


def test_too_many_requests_of_a_key(hurried: Service) -> None:
    with hurried.client(hurried.admin) as client:
        document = assert_problem(refused := send_until_refused(client), 429, "rate_limited")
        assert str(RATE) in document["detail"]
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
    with hurried.client(hurried.stranger) as another:
        assert another.get("/v1/jobs").status_code == 200


def test_probes_and_schemas_are_not_counted(hurried: Service) -> None:
    with hurried.client(hurried.submitter) as client:
        for path in ("/healthz", "/v1/schemas/config.json"):
            assert {client.get(path).status_code for _ in range(2 * RATE + 1)} == {200}


def test_the_limit_holds_without_redis(hurried: Service) -> None:
    hurried.broker.kill()
    try:
        with hurried.client(hurried.reader) as client:
            assert_problem(send_until_refused(client), 429, "rate_limited")
    finally:
        hurried.broker.start()
