"""Keys, scopes and the wall between projects, on every route and method there is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import combinations

import httpx2 as httpx
import pytest
from flask import Flask

from gradkeel.contract.states import Scope
from gradkeel_service.auth import OPEN, needed_scope
from service.conftest import Service, assert_problem, running_service
from service.things import TUS, things_of_own

OPEN_ADDRESSES = frozenset(
    {"/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/docs/assets/<path:name>"}
)
"""What is served outside /v1 without a key, the pages of /ui apart: test_ui.py walks those."""

AS_ASKED_FOR = TUS | {
    "Content-Type": "application/offset+octet-stream",
    "Upload-Offset": "0",
    "Upload-Length": "10",
    "Accept": "*/*",
}
"""Headers without which some routes would refuse a request for its form alone."""


@dataclass(frozen=True)
class Route:
    """One method of one address under /v1."""

    method: str
    rule: str
    endpoint: str

    @property
    def places(self) -> list[str]:
        return re.findall(r"<(?:\w+:)?(\w+)>", self.rule)

    def address(self, things: dict[str, str] | None = None) -> str:
        """The address with ids filled in: those given, else some that do not exist."""
        return re.sub(r"<(?:\w+:)?(\w+)>", lambda found: (things or {}).get(found[1], "0" * 22), self.rule)

    def ask(
        self, client: httpx.Client, things: dict[str, str] | None = None, **params: str
    ) -> httpx.Response:
        answer = client.request(
            self.method, self.address(things), headers=AS_ASKED_FOR, params=params, content=b""
        )
        assert answer.status_code < 500, (self, answer.text)
        return answer

    def refusal(self, answer: httpx.Response, status: int, code: str) -> None:
        """Assert that the answer is this problem; an answer to HEAD has no body to look into."""
        if self.method == "HEAD":
            assert answer.status_code == status, self
        else:
            assert answer.status_code == status, (self, answer.text)
            assert_problem(answer, status, code)


@pytest.fixture(scope="module")
def routes(app: Flask) -> list[Route]:
    """Every route under /v1 that needs a key, in every method that it answers."""
    return [
        Route(method, rule.rule, rule.endpoint)
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/v1/") and rule.endpoint not in OPEN
        for method in sorted(rule.methods or ())
        if not (method == "OPTIONS" and rule.provide_automatic_options)
    ]


@pytest.fixture(scope="module")
def things(service: Service) -> dict[str, str]:
    return things_of_own(service)


def test_nothing_is_open_by_oversight(app: Flask) -> None:
    rules = {rule.rule: rule for rule in app.url_map.iter_rules()}
    outside = {rule for rule in rules if not rule.startswith(("/v1/", "/ui"))}
    assert outside == OPEN_ADDRESSES
    assert {rule.rule for rule in rules.values() if rule.endpoint in OPEN} == {
        "/v1/schemas/config.json",
        "/v1/schemas/report.json",
    }


def bad_keys(service: Service) -> Iterator[tuple[str, dict[str, str]]]:
    """What does not open anything: (description, headers)."""
    past = datetime.now(UTC) - timedelta(seconds=1)
    _, expired = service.records.create_key(service.project, list(Scope), expires_at=past)
    row, revoked = service.records.create_key(service.project, list(Scope))
    service.records.revoke_key(service.project, row.id)
    key_id, _, secret = service.admin.partition(".")
    yield "none", {}
    yield "of another kind", {"Authorization": f"Basic {service.admin}"}
    yield "malformed", {"Authorization": "Bearer nonsense"}
    yield "wrong", {"Authorization": f"Bearer {key_id}.{secret[:-1]}!"}
    yield "expired", {"Authorization": f"Bearer {expired}"}
    yield "revoked", {"Authorization": f"Bearer {revoked}"}


def test_every_route_needs_a_key_that_is_good(
    service: Service, routes: list[Route], things: dict[str, str]
) -> None:
    assert len(routes) > 50
    for kind, headers in bad_keys(service):
        with httpx.Client(base_url=service.url, headers=headers, timeout=30) as client:
            for route in routes:
                answer = route.ask(client, things)
                assert answer.status_code == 401, (kind, route)
                route.refusal(answer, 401, "unauthorized")
                assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_what_an_address_answers_is_told_to_nobody_without_a_key(
    service: Service, routes: list[Route]
) -> None:
    with service.client("") as client:
        for address in {route.address() for route in routes}:
            assert_problem(client.options(address), 401, "unauthorized")


def test_a_key_in_the_query_is_no_key(service: Service, routes: list[Route]) -> None:
    with service.client("") as client:
        for route in routes:
            for name in ("api_key", "key", "token", "access_token"):
                route.refusal(route.ask(client, **{name: service.admin}), 401, "unauthorized")


def test_every_route_needs_its_scope(service: Service, routes: list[Route], things: dict[str, str]) -> None:
    keys = {
        scopes: service.records.create_key(service.project, scopes)[1]
        for size in (1, 2)
        for scopes in combinations(Scope, size)
    }
    for scopes, key in keys.items():
        with service.client(key) as client:
            for route in routes:
                if needed_scope(route.endpoint, route.method) in scopes:
                    continue
                answer = route.ask(client, things)
                route.refusal(answer, 403, "forbidden")
                assert "insufficient_scope" in answer.headers["WWW-Authenticate"]


def test_its_scope_is_all_that_a_route_needs(service: Service, routes: list[Route]) -> None:
    for scope in Scope:
        _, key = service.records.create_key(service.project, [scope])
        with service.client(key) as client:
            for route in routes:
                if needed_scope(route.endpoint, route.method) == scope and route.places:
                    answer = route.ask(client)
                    assert answer.status_code not in (401, 403), (route, answer.text)


def test_things_of_another_project_are_not_there(
    service: Service, routes: list[Route], things: dict[str, str]
) -> None:
    with service.client(service.stranger) as stranger, service.client() as owner:
        for route in routes:
            if not route.places:
                continue
            assert set(route.places) <= set(things), f"{route}: tests/service/things.py makes none"
            route.refusal(route.ask(stranger, things), 404, "not_found")
        for route in routes:
            if route.places and route.method == "GET":
                answer = owner.head(route.address(things), headers=TUS)
                assert answer.status_code == 200, (route, "the stranger left a trace")
        for path in ("jobs", "datasets", "models", "batches", "keys"):
            listed = stranger.get(f"/v1/{path}").json()["data"]
            assert not {row["id"] for row in listed} & set(things.values())
        usage = stranger.get("/v1/usage").json()
        assert sum(usage["jobs"].values()) == 0


def test_a_foreign_data_set_cannot_be_trained_on(service: Service) -> None:
    dataset = service.ready_dataset()
    with service.client(service.stranger) as stranger:
        answer = stranger.post("/v1/jobs", json={"dataset_id": dataset.id, "target": "price"})
    assert_problem(answer, 404, "not_found")


def test_bad_ids(client: httpx.Client) -> None:
    for path in ("datasets/x", "jobs/job_x", "models/mdl_..", "jobs/ds_" + "0" * 22, "jobs/" + "9" * 500):
        assert_problem(client.get(f"/v1/{path}"), 404, "not_found")


# ------------------------------------------------------------------------------------------------ guessing


TRIES = 20


@pytest.fixture(scope="module")
def wary() -> Iterator[Service]:
    """A service that takes twenty wrong keys a minute from one address."""
    with running_service(GRADKEEL_FAILED_KEY_LIMIT=str(TRIES)) as running:
        yield running


def guess(service: Service) -> httpx.Response:
    with service.client(service.admin[:-1] + "!") as client:
        return client.get("/v1/jobs")


def guess_until_refused(service: Service) -> httpx.Response:
    """The first answer that is not 401; there is one among so many, even when a minute ends in between."""
    answers = (guess(service) for _ in range(2 * TRIES + 1))
    return next(answer for answer in answers if answer.status_code != 401)


def test_who_guesses_keys_has_to_wait(wary: Service) -> None:
    with wary.client(wary.reader) as client:
        assert client.get("/v1/jobs").status_code == 200
        refused = guess_until_refused(wary)
        document = assert_problem(refused, 429, "rate_limited")
        assert str(TRIES) in document["detail"]
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        # A key that proved right before goes on, from the same address.
        assert client.get("/v1/jobs").status_code == 200


def test_a_right_guess_cannot_be_told_from_a_wrong_one_while_waiting(wary: Service) -> None:
    _, fresh = wary.records.create_key(wary.project, [Scope.READ])
    guess_until_refused(wary)
    with wary.client(fresh) as client:
        answer = client.get("/v1/jobs")
    if answer.status_code != 200:  # unless the minute just ended
        assert_problem(answer, 429, "rate_limited")


def test_requests_without_a_key_are_not_counted_as_guesses(wary: Service) -> None:
    with wary.client("") as client:
        assert {client.get("/v1/jobs").status_code for _ in range(3 * TRIES)} == {401}
