"""Making, listing and revoking keys."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2 as httpx
import pytest

from service.conftest import Service, assert_problem


def test_the_secret_is_shown_once_and_works(service: Service, client: httpx.Client) -> None:
    made = client.post("/v1/keys", json={"name": "ci", "scopes": ["read"]})
    assert made.status_code == 201
    document = made.json()
    key_id, _, secret = document["key"].partition(".")
    assert (key_id, len(secret)) == (document["id"], 43)
    with service.client(document["key"]) as reader:
        assert reader.get("/v1/jobs").status_code == 200
        assert_problem(reader.get("/v1/keys"), 403, "forbidden")
    assert secret not in client.get("/v1/keys").text


def test_a_revoked_key_ends_at_once(service: Service, client: httpx.Client) -> None:
    document = client.post("/v1/keys", json={"scopes": ["read"]}).json()
    assert client.delete(f"/v1/keys/{document['id']}").status_code == 204
    with service.client(document["key"]) as reader:
        assert_problem(reader.get("/v1/jobs"), 401, "unauthorized")


def make(client: httpx.Client, **fields: object) -> dict[str, Any]:
    made = client.post("/v1/keys", json={"scopes": ["read"]} | fields)
    assert made.status_code == 201, made.text
    document: dict[str, Any] = made.json()
    assert made.headers["Location"] == f"/v1/keys/{document['id']}"
    return document


def wait_for(look: Callable[[], Any], seconds: float = 30) -> Any:
    """The first answer of ``look`` that is not empty; each look is a request, so this does not spin."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline
    return found


def moment(text: object) -> datetime:
    return datetime.fromisoformat(str(text))


def test_a_key_may_end_after_some_seconds(service: Service, client: httpx.Client) -> None:
    made = make(client, expires_in=3600)
    assert moment(made["expires_at"]) - moment(made["created_at"]) == pytest.approx(
        timedelta(hours=1), abs=timedelta(seconds=5)
    )
    with service.client(made["key"]) as reader:
        assert reader.get("/v1/jobs").status_code == 200


def test_rotation_with_an_overlap(service: Service, client: httpx.Client) -> None:
    old = make(client, name="ci", scopes=["read", "submit"])
    answer = client.post(f"/v1/keys/{old['id']}/rotate", json={"overlap_seconds": 600})
    assert answer.status_code == 201, answer.text
    new = answer.json()
    assert answer.headers["Location"] == f"/v1/keys/{new['id']}"
    assert (new["name"], new["scopes"]) == ("ci", ["read", "submit"])
    assert new["key"] != old["key"]
    for key in (old["key"], new["key"]):
        with service.client(key) as holder:
            assert holder.get("/v1/jobs").status_code == 200
    ends = moment(client.get(f"/v1/keys/{old['id']}").json()["expires_at"])
    assert ends - datetime.now(UTC) == pytest.approx(timedelta(minutes=10), abs=timedelta(seconds=20))


@pytest.mark.parametrize("body", [None, {}, {"overlap_seconds": 0}])
def test_rotation_without_an_overlap(service: Service, client: httpx.Client, body: Any) -> None:
    old = make(client)
    answer = client.post(f"/v1/keys/{old['id']}/rotate", json=body)
    assert answer.status_code == 201, answer.text
    with service.client(old["key"]) as holder:
        assert_problem(holder.get("/v1/jobs"), 401, "unauthorized")
    assert_problem(client.post(f"/v1/keys/{old['id']}/rotate", json={}), 409, "conflict")


@pytest.mark.parametrize("overlap", [-1, 1.5, "60", True, None, 10**9])
def test_bad_overlaps(client: httpx.Client, overlap: object) -> None:
    key = make(client)
    answer = client.post(f"/v1/keys/{key['id']}/rotate", json={"overlap_seconds": overlap})
    assert assert_problem(answer, 422, "invalid")["errors"][0]["pointer"] == "/overlap_seconds"
    assert client.get(f"/v1/keys/{key['id']}").json()["expires_at"] is None


def test_who_rotates_their_own_key_goes_on_with_the_new_one(service: Service, client: httpx.Client) -> None:
    own = make(client, scopes=["admin"])
    with service.client(own["key"]) as holder:
        new = holder.post(f"/v1/keys/{own['id']}/rotate").json()
        assert_problem(holder.get("/v1/keys"), 401, "unauthorized")
    with service.client(new["key"]) as holder:
        assert holder.get("/v1/keys").status_code == 200


def test_the_last_admin_key_cannot_be_revoked(service: Service) -> None:
    project = service.records.project_named("lonely")
    row, token = service.records.create_key(project, ["admin"])
    with service.client(token) as admin:
        document = assert_problem(admin.delete(f"/v1/keys/{row.id}"), 409, "conflict")
        assert "last key" in document["detail"]
        second = make(admin, scopes=["admin"])
        assert admin.delete(f"/v1/keys/{row.id}").status_code == 204
    with service.client(second["key"]) as admin:
        shown = {key["id"]: key["revoked_at"] for key in admin.get("/v1/keys").json()["data"]}
    assert shown[row.id] is not None
    assert shown[second["id"]] is None


def test_a_list_tells_when_a_key_was_used(service: Service, client: httpx.Client) -> None:
    key = make(client)
    assert client.get(f"/v1/keys/{key['id']}").json()["last_used_at"] is None
    with service.client(key["key"]) as reader:
        reader.get("/v1/jobs")
    used = wait_for(lambda: client.get(f"/v1/keys/{key['id']}").json()["last_used_at"])
    assert abs(datetime.now(UTC) - moment(used)) < timedelta(seconds=60)
    with service.client(key["key"]) as reader:
        reader.get("/v1/jobs")
    assert client.get(f"/v1/keys/{key['id']}").json()["last_used_at"] == used


def test_keys_are_listed_in_pages(service: Service) -> None:
    project = service.records.project_named("many keys")
    _, token = service.records.create_key(project, ["admin"])
    for _ in range(4):
        service.records.create_key(project, ["read"])
    with service.client(token) as admin:
        first = admin.get("/v1/keys", params={"limit": 3}).json()
        rest = admin.get("/v1/keys", params={"limit": 3, "after": first["next_cursor"]}).json()
    assert (len(first["data"]), first["has_more"]) == (3, True)
    assert (len(rest["data"]), rest["has_more"]) == (2, False)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/scopes"),
        ({"scopes": []}, "/scopes"),
        ({"scopes": ["root"]}, "/scopes/0"),
        ({"scopes": ["read"], "name": "a\nb"}, "/name"),
        ({"scopes": ["read"], "name": "n" * 201}, "/name"),
        ({"scopes": ["read"], "expires_at": "2001-01-01T00:00:00Z"}, "/expires_at"),
        ({"scopes": ["read"], "expires_at": "tomorrow"}, "/expires_at"),
        ({"scopes": ["read"], "expires_in": 0}, "/expires_in"),
        ({"scopes": ["read"], "expires_in": 1.5}, "/expires_in"),
        ({"scopes": ["read"], "expires_in": 10**12}, "/expires_in"),
        ({"scopes": ["read"], "expires_in": 60, "expires_at": "2099-01-01T00:00:00Z"}, "/expires_in"),
        ({"scopes": ["read"], "admin": True}, "/admin"),
    ],
)
def test_bad_requests(client: httpx.Client, body: dict[str, object], pointer: str) -> None:
    document = assert_problem(client.post("/v1/keys", json=body), 422, "invalid")
    assert document["errors"][0]["pointer"] == pointer


def test_keys_never_reach_the_log(service: Service, client: httpx.Client) -> None:
    document = client.post("/v1/keys", json={"scopes": ["read"]}).json()
    client.get("/v1/jobs", params={"api_key": document["key"]})
    secret = document["key"].partition(".")[2]
    assert secret not in service.log
    assert service.admin.partition(".")[2] not in service.log
