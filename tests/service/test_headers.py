"""What every answer carries, whatever its kind: pages, JSON, problems, files, streams."""

from __future__ import annotations

import httpx2 as httpx
import pytest
from flask import Flask

from service.conftest import Service
from service.things import things_of_own

ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@pytest.fixture(scope="module")
def things(service: Service) -> dict[str, str]:
    return things_of_own(service) | {"name": "docs.js", "file": "log.jsonl", "form": "bundle"}


def check(answer: httpx.Response) -> None:
    where = f"{answer.request.method} {answer.request.url} {answer.status_code}"
    for name, value in ALWAYS.items():
        assert answer.headers.get(name) == value, where
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"], where
    assert "unsafe" not in answer.headers["Content-Security-Policy"], where
    assert answer.headers["Referrer-Policy"] in ("no-referrer", "same-origin"), where
    assert answer.headers["Cache-Control"], where
    assert answer.headers["X-Request-Id"].startswith("req_"), where
    assert not [name for name in answer.headers if name.lower().startswith("access-control")], where
    if answer.status_code in (401, 403):
        assert answer.headers["WWW-Authenticate"].startswith("Bearer"), where
    if answer.status_code in (429, 503):
        assert int(answer.headers["Retry-After"]) >= 1, where


@pytest.mark.parametrize("origin", [None, "https://evil.example"])
def test_every_address_in_every_method(
    app: Flask, service: Service, things: dict[str, str], origin: str | None
) -> None:
    foreign = {"Origin": origin} if origin else {}
    kinds = set()
    for held in (service.reader, ""):
        with service.client(held) as client:
            for rule in app.url_map.iter_rules():
                address = rule.rule.replace("<path:", "<")
                for name, value in things.items():
                    address = address.replace(f"<{name}>", value)
                for method in sorted({*(rule.methods or ()), "TRACE", "PUT"}):
                    with client.stream(method, address, headers=foreign) as answer:
                        check(answer)
                        kinds.add(answer.headers.get("Content-Type", "").partition(";")[0])
            for name in ("ui.css", "icon.svg"):
                answer = client.get(f"/ui/assets/{name}")
                check(answer)
                kinds.add(answer.headers["Content-Type"].partition(";")[0])
    assert {
        *("application/json", "application/problem+json", "application/zip", "application/jsonl"),
        *("text/html", "text/css", "text/csv", "text/javascript", "text/plain", "image/svg+xml"),
        *("application/vnd.apache.parquet",),
    } <= kinds


def test_a_stream_of_events(service: Service) -> None:
    job = service.running_job()
    with (
        service.client() as client,
        client.stream("GET", f"/v1/jobs/{job.id}/events", headers={"Accept": "text/event-stream"}) as answer,
    ):
        check(answer)


def test_what_the_parser_refuses(service: Service) -> None:
    answer = service.raw(b"GET / HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n").decode()
    assert "X-Content-Type-Options: nosniff" in answer
    assert "X-Request-Id: req_" in answer


@pytest.mark.parametrize(
    "host", ["", "evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "10.0.0.1"]
)
def test_a_host_that_is_not_ours(service: Service, host: str) -> None:
    with service.client() as client:
        for path in ("/v1/jobs", "/ui/sign-in", "/docs", "/metrics", "/openapi.json"):
            answer = client.get(path, headers={"Host": host})
            assert answer.status_code == 400, path
        for path in ("/healthz", "/readyz"):
            assert client.get(path, headers={"Host": host}).status_code in (200, 503)
