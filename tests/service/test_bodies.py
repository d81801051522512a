"""Bad transport and bad JSON: a problem document, never a 5xx but 501."""

from __future__ import annotations

import json

import httpx2 as httpx
import pytest

from service.conftest import Service, assert_problem


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def post(service: Service, headers: str, body: bytes = b"", path: str = "/v1/jobs") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {service.admin}\r\n"
    return service.raw(f"{head}{headers}\r\n\r\n".encode("latin-1") + body)


JSON = "Content-Type: application/json\r\n"


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        pytest.param("Content-Length: 5\r\nTransfer-Encoding: chunked", b"0\r\n\r\n", 400, id="both"),
        pytest.param("Content-Length: 5\r\nContent-Length: 6", b"12345", 400, id="two lengths"),
        pytest.param("Content-Length: +5", b"12345", 400, id="signed length"),
        pytest.param("Transfer-Encoding: sideways", b"", 501, id="unknown coding"),
        pytest.param("X-A: b\r\n c", b"", 400, id="folded header"),
        pytest.param("X-A: b\0c", b"", 400, id="NUL in a header"),
        pytest.param("X-A: " + "a" * 65536, b"", 431, id="64 KiB header"),
        pytest.param(JSON + "Transfer-Encoding: chunked", b"zz\r\n{}\r\n0\r\n\r\n", 400, id="bad chunk"),
        pytest.param(JSON + "Transfer-Encoding: chunked", b"9\r\n{}", 400, id="cut chunk"),
        pytest.param(JSON + "Content-Length: 50", b"{}", 400, id="short body that is valid JSON"),
    ],
)
def test_transport_faults(service: Service, headers: str, body: bytes, status: int) -> None:
    answer = post(service, headers, body)
    head, _, document = answer.partition(b"\r\n\r\n")
    assert status_of(answer) == status
    assert b"application/problem+json" in head
    assert b"X-Request-Id: req_" in head
    assert json.loads(document)["status"] == status


def test_a_long_address(service: Service) -> None:
    answer = service.raw(b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert status_of(answer) == 414


def test_a_stalled_body(service: Service) -> None:
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {service.admin}\r\n"
    request = f"{head}{JSON}Content-Length: 50\r\n\r\n{{}}".encode()
    assert status_of(service.raw(request, finish=False)) == 408


@pytest.mark.parametrize("host", ["", "Host: evil.example\r\n"])
def test_the_host_must_be_trusted(service: Service, host: str) -> None:
    assert status_of(service.raw(f"GET /v1/jobs HTTP/1.0\r\n{host}\r\n".encode())) == 400
    assert status_of(service.raw(f"GET /healthz HTTP/1.0\r\n{host}\r\n".encode())) == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b'{"a": ',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a": "\xff"}',
        '{"a": 1}'.encode("utf-16"),
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": ' + b"1" * 5000 + b"}",
        b'{"a": 1, "a": 2}',
        rb'{"a": "\ud800"}',
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_is_not_strict_json(client: httpx.Client, body: bytes) -> None:
    answer = client.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    assert_problem(answer, 400, "bad_json")


def test_a_wrong_content_type(client: httpx.Client) -> None:
    answer = client.post("/v1/jobs", content=b"{}", headers={"Content-Type": "text/plain"})
    assert_problem(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ([], ""),
        ("text", ""),
        ({"target": "a\0b"}, "/target"),
        ({"columns": {"exclude": ["x", "\0"]}}, "/columns/exclude/1"),
        ({"__class__": 1}, "/__class__"),
        ({"tarjet": "x"}, "/tarjet"),
    ],
)
def test_json_that_is_no_request(client: httpx.Client, document: object, pointer: str) -> None:
    answer = client.post("/v1/jobs", json=document)
    problem = assert_problem(answer, 422, "invalid")
    assert pointer in [error.get("pointer") for error in problem["errors"]]


def test_a_large_json_body(client: httpx.Client) -> None:
    answer = client.post("/v1/jobs", json={"target": "x" * 3_000_000})
    assert_problem(answer, 413, "too_large")


def test_wrong_method_and_unknown_path(client: httpx.Client) -> None:
    answer = client.put("/v1/jobs")
    assert_problem(answer, 405, "method_not_allowed")
    assert "POST" in answer.headers["Allow"]
    for path in (
        "/v1/nothing",
        "/nothing",
        "/v1/uploads",
        "/v1/batches",
        "/v1/sweeps",
        "/v1/preflights",
        "/ui",
    ):
        assert_problem(client.get(path), 404, "not_found")


def test_impossible_accept(service: Service, client: httpx.Client) -> None:
    job = service.ended_job()
    for path in ("report", "events"):
        answer = client.get(f"/v1/jobs/{job.id}/{path}", headers={"Accept": "image/png"})
        assert_problem(answer, 406, "not_acceptable")


def test_no_accept_header_means_anything(service: Service, client: httpx.Client) -> None:
    job = service.ended_job()
    del client.headers["Accept"]
    assert client.get(f"/v1/jobs/{job.id}/report").headers["Content-Type"] == "application/json"
    assert client.get(f"/v1/jobs/{job.id}/events").headers["Content-Type"].startswith("text/event-stream")


def test_a_refusal_before_a_large_body_closes_the_connection(service: Service, client: httpx.Client) -> None:
    large = b"x" * 1_000_000
    refused = client.post("/v1/models/none/predict", content=large)
    assert_problem(refused, 404, "not_found")
    assert refused.headers["Connection"] == "close"
    assert client.get("/v1/jobs").headers["Connection"] == "keep-alive"
