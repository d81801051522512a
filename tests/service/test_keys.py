"""Making, listing and revoking keys."""

from __future__ import annotations

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
