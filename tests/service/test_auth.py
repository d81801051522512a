"""Keys, scopes and the wall between projects, on every route there is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx2 as httpx
import pytest
from flask import Flask

from gradkeel.contract.states import Scope
from gradkeel_service.auth import OPEN, needed_scope
from service.conftest import Service, assert_problem


@pytest.fixture(scope="module")
def routes(app: Flask) -> list[tuple[str, str, str]]:
    """(method, path pattern, endpoint) of every route under /v1 that needs a key."""
    return [
        (method, rule.rule, rule.endpoint)
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/v1/") and rule.endpoint not in OPEN
        for method in sorted(set(rule.methods or ()) - {"OPTIONS", "HEAD"})
    ]


def test_every_route_needs_a_key(service: Service, routes: list[tuple[str, str, str]]) -> None:
    assert len(routes) > 20
    with service.client("") as client:
        for method, rule, _ in routes:
            answer = client.request(method, rule.replace("<", "").replace(">", ""))
            assert_problem(answer, 401, "unauthorized")
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_every_route_needs_its_scope(service: Service, routes: list[tuple[str, str, str]]) -> None:
    held = {Scope.READ: service.admin, Scope.SUBMIT: service.reader, Scope.ADMIN: service.submitter}
    for method, rule, endpoint in routes:
        scope = needed_scope(endpoint, method)
        if scope == Scope.READ:
            continue
        with service.client(held[scope]) as client:
            answer = client.request(method, rule.replace("<", "").replace(">", ""))
        assert_problem(answer, 403, "forbidden")
        assert "insufficient_scope" in answer.headers["WWW-Authenticate"]


def test_things_of_another_project_are_not_there(
    service: Service, routes: list[tuple[str, str, str]]
) -> None:
    model = {
        "target": "price", "task": "regression", "columns": [], "digests": {"bundle": "sha256:" + "0" * 64}
    }  # fmt: skip
    job = service.ended_job(model)
    with service.client(service.admin) as owner:
        key_id = owner.get("/v1/keys").json()["data"][0]["id"]
    ids = {
        "<dataset_id>": job.dataset_id,
        "<job_id>": job.id,
        "<model_id>": str(job.model_id),
        "<key_id>": key_id,
        "<sha256>": service.records.get_dataset(service.project, job.dataset_id).sha256,
    }
    tried = 0
    with service.client(service.stranger) as stranger:
        for method, rule, _ in routes:
            path = rule
            for name, value in ids.items():
                path = path.replace(name, value)
            if path == rule:
                continue
            tried += 1
            assert_problem(stranger.request(method, path, content=b"x"), 404, "not_found")
        assert stranger.get("/v1/jobs").json()["data"] == []
        assert stranger.get("/v1/datasets").json()["data"] == []
        assert stranger.get("/v1/models").json()["data"] == []
    assert tried >= 15


def test_a_foreign_data_set_cannot_be_trained_on(service: Service) -> None:
    dataset = service.ready_dataset()
    with service.client(service.stranger) as stranger:
        answer = stranger.post("/v1/jobs", json={"dataset_id": dataset.id, "target": "price"})
    assert_problem(answer, 404, "not_found")


def test_wrong_expired_and_revoked_keys(service: Service) -> None:
    expired = service.records.create_key(
        service.project, [Scope.READ], expires_at=datetime.now(UTC) - timedelta(seconds=1)
    )[1]
    row, revoked = service.records.create_key(service.project, [Scope.READ])
    service.records.revoke_key(service.project, row.id)
    for key in (expired, revoked, service.admin[:-1] + "!", "nonsense", row.id):
        with service.client(key) as client:
            assert_problem(client.get("/v1/jobs"), 401, "unauthorized")


def test_a_key_in_the_query_is_no_key(service: Service) -> None:
    with service.client("") as client:
        assert_problem(client.get("/v1/jobs", params={"api_key": service.admin}), 401, "unauthorized")


def test_bad_ids(client: httpx.Client) -> None:
    for path in ("datasets/x", "jobs/job_x", "models/mdl_..", "jobs/ds_" + "0" * 22, "jobs/" + "9" * 500):
        assert_problem(client.get(f"/v1/{path}"), 404, "not_found")
