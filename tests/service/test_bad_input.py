"""The list of bad input, line by line, over real HTTP: each ends as a problem document and leaves nothing.

What needs a worker (faults inside uploaded tables) is in ``tests/system/test_bad_data.py``; that every route
wants its key, its scope and its project in ``test_auth.py``; ranges, conditions and replays beside what they
belong to.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import pickle
import select
import socket
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import pyarrow
import pytest
import sqlalchemy as sa

from gradkeel_store.records import tables
from processes import children_of
from service.conftest import BODY_TIMEOUT, MAX_UPLOAD, TABLE, Service, assert_problem

KEPT = tuple(tables.metadata.sorted_tables)


def everything(service: Service) -> dict[str, Any]:
    """What the service keeps: its rows, its objects, its temporary files."""
    with service.records.engine.connect() as connection:
        rows = {
            table.name: connection.execute(sa.select(sa.func.count()).select_from(table)).scalar()
            for table in KEPT
        }
    objects = {digest for digest, _ in service.objects.list()}
    return rows | {"objects": objects, "temporary": list(service.objects.temporary.iterdir())}


@pytest.fixture
def table_id(service: Service) -> str:
    """A data set of 40 rows: rooms and price are numbers, zone is text."""
    return service.ready_dataset().id


@pytest.fixture
def nothing_kept(service: Service, table_id: str) -> Iterator[None]:
    """Fails the test when it left anything behind."""
    before = everything(service)
    yield
    assert everything(service) == before


pytestmark = pytest.mark.usefixtures("nothing_kept")


# ------------------------------------------------------------------------------------ transport, raw sockets


def head(service: Service, start: str = "POST /v1/jobs", host: str = "Host: localhost\r\n") -> str:
    return f"{start} HTTP/1.1\r\n{host}Authorization: Bearer {service.admin}\r\n"


def assert_raw_problem(answer: bytes, status: int, code: str) -> None:
    """The one response that ``answer`` holds is this problem."""
    first, _, body = answer.partition(b"\r\n\r\n")
    assert answer.count(b"HTTP/1.1 ") == 1, answer
    assert int(first.split(b" ", 2)[1]) == status, answer
    assert b"application/problem+json" in first
    document = json.loads(body)
    assert (document["status"], document["type"]) == (status, f"urn:gradkeel:problem:{code}")
    assert f"X-Request-Id: {document['request_id']}".encode() in first


JSON = "Content-Type: application/json\r\n"
CHUNKED = "Transfer-Encoding: chunked"

TRANSPORT = {
    "length and chunked": ("Content-Length: 5\r\n" + CHUNKED, b"0\r\n\r\n", 400, "bad_request"),
    "a request smuggled behind chunks": (
        "Content-Length: 4\r\n" + CHUNKED,
        b"0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        400,
        "bad_request",
    ),
    "two lengths": ("Content-Length: 5\r\nContent-Length: 6", b"12345", 400, "bad_request"),
    "a list of lengths": ("Content-Length: 5, 5", b"12345", 400, "bad_request"),
    "signed length": ("Content-Length: +5", b"12345", 400, "bad_request"),
    "negative length": ("Content-Length: -5", b"12345", 400, "bad_request"),
    "hexadecimal length": ("Content-Length: 0x5", b"12345", 400, "bad_request"),
    "length of another script": ("Content-Length: \xb2", b"12", 400, "bad_request"),
    "no number as length": ("Content-Length: ", b"12", 400, "bad_request"),
    "space before the colon": ("Content-Length : 5", b"12345", 400, "bad_request"),
    "length of 400 digits": ("Content-Length: " + "9" * 400, b"12345", 413, "too_large"),
    "unknown coding": ("Transfer-Encoding: sideways", b"", 501, "not_implemented"),
    "a coding under chunked": ("Transfer-Encoding: gzip, chunked", b"0\r\n\r\n", 501, "not_implemented"),
    "chunked twice": ("Transfer-Encoding: chunked, chunked", b"0\r\n\r\n", 400, "bad_request"),
    "folded header": ("X-A: b\r\n c", b"", 400, "bad_request"),
    "NUL in a header": ("X-A: b\0c", b"", 400, "bad_request"),
    "carriage return in a header": ("X-A: b\rc", b"", 400, "bad_request"),
    "header without a colon": ("nonsense", b"", 400, "bad_request"),
    "header without a name": (": x", b"", 400, "bad_request"),
    "64 KiB header": ("X-A: " + "a" * 65536, b"", 431, "headers_too_large"),
    "200 headers": ("\r\n".join(f"X-{i}: 1" for i in range(200)), b"", 431, "headers_too_large"),
    "unknown expectation": ("Expect: miracles\r\nContent-Length: 2", b"{}", 400, "bad_request"),
    "second host": ("Host: evil.example", b"", 400, "bad_request"),
    "bad chunk": (JSON + CHUNKED, b"zz\r\n{}\r\n0\r\n\r\n", 400, "bad_body"),
    "negative chunk": (JSON + CHUNKED, b"-2\r\n{}\r\n0\r\n\r\n", 400, "bad_body"),
    "chunk of 80 bits": (JSON + CHUNKED, b"f" * 20 + b"\r\n{}", 400, "bad_body"),
    "cut chunk": (JSON + CHUNKED, b"9\r\n{}", 400, "bad_body"),
    "chunks without their end": (JSON + CHUNKED, b"2\r\n{}\r\n", 400, "bad_body"),
    "bad trailer": (JSON + CHUNKED, b"2\r\n{}\r\n0\r\nno trailer\r\n\r\n", 400, "bad_body"),
    "short body that is valid JSON": (JSON + "Content-Length: 50", b"{}", 400, "bad_body"),
}


@pytest.mark.parametrize(("headers", "body", "status", "code"), TRANSPORT.values(), ids=TRANSPORT)
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/datasets"])
def test_transport(service: Service, path: str, headers: str, body: bytes, status: int, code: str) -> None:
    request = f"{head(service, f'POST {path}')}{headers}\r\n\r\n".encode("latin-1") + body
    assert_raw_problem(service.raw(request), status, code)


@pytest.mark.parametrize(
    ("line", "status", "code"),
    [
        pytest.param("GET /" + "a" * 20_000 + " HTTP/1.1", 414, "uri_too_long", id="long address"),
        pytest.param("hello", 400, "bad_request", id="no request"),
        pytest.param("GET / HTTP/9.9", 400, "bad_request", id="version"),
        pytest.param("PRI * HTTP/2.0", 400, "bad_request", id="HTTP/2"),
        pytest.param("get /v1/jobs HTTP/1.1", 400, "bad_request", id="lower case method"),
        pytest.param("GET /v1/jobs/\xff HTTP/1.1", 400, "bad_request", id="byte outside ASCII"),
    ],
)
def test_request_lines(service: Service, line: str, status: int, code: str) -> None:
    assert_raw_problem(service.raw(f"{line}\r\nHost: localhost\r\n\r\n".encode("latin-1")), status, code)


@pytest.mark.parametrize(
    "host", ["", "evil.example", "localhost.evil.example", "localhost@evil.example", "localhost:8x"]
)
def test_hosts_that_are_not_trusted(service: Service, host: str) -> None:
    line = f"Host: {host}\r\n" if host else ""
    assert_raw_problem(service.raw(f"{head(service, 'GET /v1/jobs', line)}\r\n".encode()), 400, "bad_host")
    probe = service.raw(f"GET /healthz HTTP/1.0\r\n{line}\r\n".encode())
    assert b" 200 " in probe.split(b"\r\n")[0]


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/datasets"])
@pytest.mark.parametrize("framing", ["Content-Length: 1000\r\n\r\n", f"{CHUNKED}\r\n\r\n4\r\na,b"])
def test_a_body_that_stalls(service: Service, path: str, framing: str) -> None:
    request = f"{head(service, f'POST {path}')}{JSON}{framing}{{}}".encode()
    assert_raw_problem(service.raw(request, finish=False), 408, "timeout")


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/datasets"])
@pytest.mark.parametrize(
    ("framing", "drop"),
    [
        pytest.param("Content-Length: 1000\r\n\r\n", b"1", id="length"),
        pytest.param(f"{CHUNKED}\r\n\r\n", b"1\r\n1\r\n", id="chunks"),
        pytest.param(f"{CHUNKED}\r\n\r\n1;", b"x", id="extension of a chunk"),
        pytest.param(f"{CHUNKED}\r\n\r\n0\r\nX-A: ", b"x", id="trailer"),
    ],
)
def test_a_body_that_drips(service: Service, path: str, framing: str, drop: bytes) -> None:
    """Never silent for long, and never at its end: the whole has its time too."""
    request = f"{head(service, f'POST {path}')}{JSON}{framing}"
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
        connection.sendall(request.encode())
        while not select.select([connection], [], [], BODY_TIMEOUT / 8)[0]:
            connection.sendall(drop)
        assert_raw_problem(b"".join(iter(lambda: connection.recv(65536), b"")), 408, "timeout")


@pytest.mark.parametrize("framing", ["Content-Length: 1000\r\n\r\n", f"{CHUNKED}\r\n\r\nff\r\n"])
def test_an_upload_that_is_cut(service: Service, framing: str) -> None:
    request = f"{head(service, 'POST /v1/datasets')}{framing}a,b\n1,2\n"
    assert_raw_problem(service.raw(request.encode()), 400, "bad_body")


@pytest.mark.parametrize("coding", ["gzip", "br", "identity, GZIP", "x" * 500])
def test_an_encoded_body(client: httpx.Client, coding: str) -> None:
    """Also where the bytes are what the header says: nothing here decodes."""
    for path in ("/v1/jobs", "/v1/jobs?validate_only=true", "/v1/keys", "/v1/datasets"):
        headers = {"Content-Type": "application/json", "Content-Encoding": coding}
        answer = client.post(path, content=gzip.compress(b"{}"), headers=headers)
        document = assert_problem(answer, 415, "unsupported_media_type")
        assert coding[:50] in document["detail"]
        assert answer.headers["Accept-Encoding"] == "identity"


def test_an_encoded_form(client: httpx.Client) -> None:
    form = {"file": ("a.csv.gz", gzip.compress(b"a\n1\n"), "application/gzip")}
    answer = client.post("/v1/datasets", files=form, headers={"Content-Encoding": "gzip"})
    assert_problem(answer, 415, "unsupported_media_type")


def test_identity_is_no_encoding(client: httpx.Client) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "identity"}
    assert_problem(client.post("/v1/jobs", content=b"{}", headers=headers), 422, "invalid")


def test_an_upload_without_a_length(service: Service) -> None:
    request = f"{head(service, 'POST /v1/datasets')}\r\n".encode()
    assert_raw_problem(service.raw(request), 411, "length_required")


def test_what_follows_a_body_is_the_next_request(service: Service) -> None:
    """Bytes past the declared length never become part of the body."""
    first = f"{head(service)}{JSON}Content-Length: 2\r\n\r\n{{}}"
    second = f"{head(service, 'GET /v1/nothing')}Connection: close\r\n\r\n"
    answer = service.raw((first + second).encode())
    assert [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]] == [422, 404]


def test_over_the_limit(service: Service, client: httpx.Client) -> None:
    piece = b"1,2\n" * 1000
    pieces = (piece for _ in range(MAX_UPLOAD // len(piece) + 2))
    assert_problem(client.post("/v1/datasets", content=pieces), 413, "too_large")
    declared = f"{head(service, 'POST /v1/datasets')}Content-Length: {MAX_UPLOAD + 1}\r\n\r\n"
    assert_raw_problem(service.raw(declared.encode()), 413, "too_large")
    assert_problem(client.post("/v1/jobs", json={"target": "x" * 3_000_000}), 413, "too_large")


def test_a_digest_that_does_not_match(client: httpx.Client) -> None:
    for algorithm, hashed in (("sha-256", hashlib.sha256), ("sha-512", hashlib.sha512)):
        digest = base64.b64encode(hashed(b"another body").digest()).decode()
        for header in ("Repr-Digest", "Content-Digest"):
            answer = client.post(
                "/v1/datasets", content=b"a\n1\n", headers={header: f"{algorithm}=:{digest}:"}
            )
            assert_problem(answer, 400, "digest_mismatch")
    malformed = client.post("/v1/datasets", content=b"a\n1\n", headers={"Repr-Digest": "sha-256=nonsense"})
    assert_problem(malformed, 400, "bad_request")


def test_wrong_methods(client: httpx.Client) -> None:
    wrong = (("PUT", "/v1/jobs"), ("DELETE", "/v1/jobs"), ("TRACE", "/v1/models"), ("POST", "/docs"))
    for method, path in wrong:
        answer = client.request(method, path)
        assert_problem(answer, 405, "method_not_allowed")
        assert answer.headers["Allow"]


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/nothing", "/nothing", "/v1/sweeps", "/ui/nothing/here"),
        *("/v1/jobs/%00", "/v1/jobs/%ff%fe", "/docs/..%2f..%2fetc/passwd", "/v1/jobs/", "/v1/schemas/none"),
    ],
)
def test_unknown_paths(client: httpx.Client, path: str) -> None:
    assert_problem(client.get(path), 404, "not_found")


def test_a_refusal_before_a_large_body_closes_the_connection(client: httpx.Client) -> None:
    refused = client.post("/v1/models/none/predict", content=b"x" * 1_000_000)
    assert_problem(refused, 404, "not_found")
    assert refused.headers["Connection"] == "close"
    assert client.get("/v1/jobs").headers["Connection"] == "keep-alive"


# ------------------------------------------------------------------------------------------------------ JSON


NOT_JSON = {
    "empty": b"",
    "blank": b"   ",
    "truncated": b'{"a": ',
    "100,000 lists deep": b"[" * 100_000,
    "100,000 objects deep": b'{"a":' * 100_000,
    "bad UTF-8": b'{"a": "\xff"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "a mark before it": b'\xef\xbb\xbf{"a": 1}',
    "NaN": b'{"a": NaN}',
    "-Infinity": b'{"a": -Infinity}',
    "1e999": b'{"a": 1e999}',
    "5000 digits": b'{"a": ' + b"1" * 5000 + b"}",
    "the same key twice": b'{"a": 1, "a": 2}',
    "the same key twice, once escaped": rb'{"a": 1, "\u0061": 2}',
    "lone surrogate": rb'{"a": "\ud800"}',
    "lone surrogate as a key": rb'{"\udfff": 1}',
    "single quotes": b"{'a': 1}",
    "comma at the end": b'{"a": 1,}',
    "two documents": b"{}{}",
    "control character": b'{"a": "\x01"}',
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON)
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/keys"])
def test_what_is_not_strict_json(client: httpx.Client, path: str, body: bytes) -> None:
    answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert_problem(answer, 400, "bad_json")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""])
def test_wrong_content_types(client: httpx.Client, kind: str) -> None:
    answer = client.post("/v1/jobs", content=b"{}", headers={"Content-Type": kind})
    assert_problem(answer, 415, "unsupported_media_type")


NO_REQUEST = [
    ([], ""),
    ("text", ""),
    ({"target": "a\0b"}, "/target"),
    ({"columns": {"exclude": ["x", "\0"]}}, "/columns/exclude/1"),
    ({"labels": {"a\0": "b"}}, "/labels/a"),
    ({"__class__": 1}, "/__class__"),
    ({"__proto__": {}}, "/__proto__"),
    ({"tarjet": "x"}, "/tarjet"),
    ({"a/b~c": 1}, "/a~1b~0c"),
    ({"model": {"kind": "mlp", "widhts": [1]}}, "/model/widhts"),
]


@pytest.mark.parametrize(("document", "pointer"), NO_REQUEST, ids=[repr(d) for d, _ in NO_REQUEST])
def test_json_that_is_no_request(client: httpx.Client, document: object, pointer: str) -> None:
    problem = assert_problem(client.post("/v1/jobs", json=document), 422, "invalid")
    assert pointer in [error.get("pointer") for error in problem["errors"]]


# ---------------------------------------------------------------------------------------------------- config


CONFIGS: list[tuple[dict[str, Any], str]] = [
    ({"budget": {"epochs": 0}}, "/budget/epochs"),
    ({"budget": {"epochs": -1}}, "/budget/epochs"),
    ({"budget": {"epochs": 1_000_000_000}}, "/budget/epochs"),
    ({"budget": {"epochs": 10**30}}, "/budget/epochs"),
    ({"budget": {"epochs": 3.7}}, "/budget/epochs"),
    ({"budget": {"epochs": "12"}}, "/budget/epochs"),
    ({"budget": {"epochs": "１２"}}, "/budget/epochs"),
    ({"budget": {"epochs": True}}, "/budget/epochs"),
    ({"budget": {"epochs": None}}, "/budget/epochs"),
    ({"budget": {"batch_size": 0}}, "/budget/batch_size"),
    ({"budget": {"batch_size": 10_000}}, "/budget/batch_size"),
    ({"budget": {"max_seconds": 0}}, "/budget/max_seconds"),
    ({"budget": {"max_memory_mb": 1}}, "/budget/max_memory_mb"),
    ({"budget": []}, "/budget"),
    ({"optimizer": {"kind": "sgd", "lr": 0}}, "/optimizer/lr"),
    ({"optimizer": {"kind": "sgd", "lr": -1}}, "/optimizer/lr"),
    ({"optimizer": {"kind": "sgd", "lr": "nan"}}, "/optimizer/lr"),
    ({"optimizer": {"kind": "sgd", "lr": "1_0"}}, "/optimizer/lr"),
    ({"optimizer": {"kind": "adam", "betas": [0.9, 1.0]}}, "/optimizer/betas/1"),
    ({"optimizer": {"kind": "ascent"}}, "/optimizer/kind"),
    ({"optimizer": {"kind": ["sgd"]}}, "/optimizer/kind"),
    ({"optimizer": "sgd"}, "/optimizer"),
    ({"health": {"gradient_check": "yes"}}, "/health/gradient_check"),
    ({"health": {"gradient_check": 1}}, "/health/gradient_check"),
    ({"model": {"kind": "mlp", "widths": [8] * 10_000}}, "/model/widths"),
    ({"model": {"kind": "mlp", "widths": [8192] * 64}}, "/model"),
    ({"model": {"kind": "mlp", "widths": [8192, 8192]}}, "/model"),
    ({"model": {"kind": "mlp", "widths": []}}, "/model/widths"),
    ({"model": {"kind": "sequential", "layers": []}}, "/model/layers"),
    ({"model": {"kind": "sequential", "layers": [{"kind": "warp"}]}}, "/model/layers/0/kind"),
    ({"loss": {"kind": "cross_entropy"}}, "/loss/kind"),
    ({"clips": [{"kind": "norm", "max_norm": 1}] * 200}, "/clips"),
    ({"target": ""}, "/target"),
    ({"target": []}, "/target"),
    ({"target": "nowhere"}, "/target"),
    ({"columns": {"include": ["price"]}}, "/columns/include/0"),
    ({"columns": {"include": ["nowhere"]}}, "/columns/include/0"),
    ({"columns": {"exclude": ["rooms", "zone"]}}, "/columns"),
    ({"columns": {"types": {"rooms": "wrong"}}}, "/columns/types/rooms"),
    ({"split": {"kind": "random", "validation": 0.7, "test": 0.7}}, "/split"),
    ({"split": {"kind": "random", "validation": 1.5}}, "/split/validation"),
    ({"split": {"kind": "random", "validation": -0.1}}, "/split/validation"),
    ({"task": "binary"}, "/task"),
    ({"seed": 2**64}, "/seed"),
    ({"seed": -1}, "/seed"),
    ({"device": "cuda"}, "/device"),
    ({"device": "cuda:0"}, "/device"),
    ({"preset": "bset"}, "/preset"),
    ({"labels": {"a": 1}}, "/labels/a"),
    ({"labels": {"": "no name"}}, "/labels/"),
    ({"labels": {"n" * 201: "long name"}}, "/labels/nnn"),
    ({"labels": {"two\nlines": "x"}}, "/labels/two"),
    ({"labels": {str(index): "many" for index in range(1000)}}, "/labels"),
    ({"dataset_id": None}, "/dataset_id"),
    ({"dataset_id": 5}, "/dataset_id"),
]


@pytest.mark.parametrize(
    ("change", "pointer"), CONFIGS, ids=[f"{pointer} {change}"[:70] for change, pointer in CONFIGS]
)
def test_bad_configs(client: httpx.Client, table_id: str, change: dict[str, Any], pointer: str) -> None:
    config = {"dataset_id": table_id, "target": "price"} | change
    for path in ("/v1/jobs", "/v1/jobs?validate_only=true"):
        document = assert_problem(client.post(path, json=config), 422, "invalid")
        assert any((error.get("pointer") or "").startswith(pointer) for error in document["errors"]), document


@pytest.mark.parametrize("dataset_id", ["ds_" + "0" * 22, "nonsense", "../ds_", "ds_\n", "\u202e"])
def test_unknown_data_sets(client: httpx.Client, dataset_id: str) -> None:
    answer = client.post("/v1/jobs", json={"dataset_id": dataset_id, "target": "price"})
    assert_problem(answer, 404, "not_found")


# --------------------------------------------------------------------------------------------- query and keys


@pytest.mark.parametrize(
    "query",
    [
        *("limit=0", "limit=101", "limit=x", "limit=1.5", "limit=１", "limit="),
        *("limit=1&limit=2", "order=up", "created_after=now"),
        *("state=asleep", "after=nonsense", "after=%00", "after=AAAA", "label==x", "label=%00", "unknown=1"),
        *("created_after=2020-01-01", "dataset_id=%00"),
        *("created_after=0001-01-01T00:00:00%2B14:00", "created_before=9999-12-31T23:59:59-14:00"),
    ],
)
def test_bad_queries(client: httpx.Client, query: str) -> None:
    document = assert_problem(client.get(f"/v1/jobs?{query}"), 422, "invalid")
    assert document["errors"][0]["pointer"] == "/" + query.partition("=")[0]


@pytest.mark.parametrize(
    "query",
    [
        *("delimiter=ab", "decimal=x", "encoding=klingon", "encoding=%00", "header=yes", "path=/x"),
        *("name=a%00b", "name=a%1b[31m", "name=" + "n" * 201),
    ],
)
def test_bad_options_of_uploads(client: httpx.Client, query: str) -> None:
    document = assert_problem(client.post(f"/v1/datasets?{query}", content=b"a\n1\n"), 422, "invalid")
    assert document["errors"][0]["pointer"] == "/" + query.partition("=")[0]


@pytest.mark.parametrize("query", ["wait=-1", "wait=nan", "wait=1e9", "wait=", "weight=1"])
def test_bad_waits(client: httpx.Client, table_id: str, query: str) -> None:
    assert_problem(client.get(f"/v1/datasets/{table_id}?{query}"), 422, "invalid")


@pytest.mark.parametrize("digest", ["zz", "0" * 63, "%00", "0" * 5000, "g" * 64])
def test_bad_digests_name_nothing(client: httpx.Client, digest: str) -> None:
    assert_problem(client.get(f"/v1/datasets/by-digest/{digest}"), 404, "not_found")


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"scopes": []}, "/scopes"),
        ({"scopes": ["root"]}, "/scopes/0"),
        ({"scopes": "read"}, "/scopes"),
        ({"scopes": [["read"]]}, "/scopes/0"),
        ({"name": "n" * 201}, "/name"),
        ({"name": "a\x07"}, "/name"),
        ({"name": None}, "/name"),
        ({"expires_at": "2001-01-01T00:00:00Z"}, "/expires_at"),
        ({"expires_at": "9999-12-31T23:59:59-14:00"}, "/expires_at"),
        ({"expires_at": "2999-01-01T00:00:00"}, "/expires_at"),
        ({"expires_at": 5}, "/expires_at"),
        ({"project": "another"}, "/project"),
    ],
    ids=str,
)
def test_bad_keys(client: httpx.Client, change: dict[str, Any], pointer: str) -> None:
    document = assert_problem(client.post("/v1/keys", json={"scopes": ["read"]} | change), 422, "invalid")
    assert document["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize("key", ["", "x" * 201, "a b"])
@pytest.mark.parametrize("path", ["/v1/datasets", "/v1/jobs"])
def test_bad_idempotency_keys(client: httpx.Client, table_id: str, path: str, key: str) -> None:
    body = json.dumps({"dataset_id": table_id, "target": "price"})
    headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
    assert_problem(client.post(path, content=body.encode(), headers=headers), 422, "invalid")


# ----------------------------------------------------------------------------------------- data sets, at once


def _tar() -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.csv"), io.BytesIO())
    return target.getvalue()


def _zip() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("a.csv", "a\n1\n")
    return target.getvalue()


def _npy() -> bytes:
    target = io.BytesIO()
    np.save(target, np.arange(3))
    return target.getvalue()


def _arrow() -> bytes:
    target = io.BytesIO()
    table = pyarrow.table({"a": [1]})
    with pyarrow.ipc.new_file(target, table.schema) as writer:
        writer.write_table(table)
    return target.getvalue()


def _zstd(inside: bytes) -> bytes:
    return pyarrow.compress(inside, codec="zstd", asbytes=True)  # type: ignore[no-any-return]


NO_TABLE = {
    "zip": _zip(),
    "tar": _tar(),
    "tar in gzip": gzip.compress(_tar()),
    "gzip in gzip": gzip.compress(gzip.compress(b"a\n1\n")),
    "zip in zstd": _zstd(_zip()),
    "pickle": pickle.dumps({"a": 1}),
    "npy": _npy(),
    "Arrow IPC": _arrow(),
    "unknown magic": bytes(range(256)) * 20,
    "NUL past the first kilobyte": TABLE.encode() * 4 + b"\0",
    "damaged gzip": b"\x1f\x8bnot really gzip",
    "encrypted Parquet footer": b"PARE" + b"\x15\0" * 50 + b"PARE",
}


@pytest.mark.parametrize("body", NO_TABLE.values(), ids=NO_TABLE)
@pytest.mark.parametrize("form", [False, True], ids=["raw", "form"])
def test_what_is_no_table(client: httpx.Client, body: bytes, form: bool) -> None:
    if form:
        answer = client.post("/v1/datasets", files={"file": ("a.csv", body, "text/csv")})
    else:
        answer = client.post("/v1/datasets", content=body)
    assert_problem(answer, 415, "unsupported_media_type")


def test_zero_bytes(client: httpx.Client) -> None:
    assert_problem(client.post("/v1/datasets", content=b""), 422, "invalid")
    assert_problem(client.post("/v1/datasets", files={"file": ("a.csv", b"", "text/csv")}), 422, "invalid")


FORM = "multipart/form-data; boundary=x"
PART = b'--x\r\nContent-Disposition: form-data; name="f"; filename="a.csv"\r\n\r\na\n1\n'
MULTIPART = {
    "no boundary": ("multipart/form-data", b"--x\r\n", 400),
    "no part": (FORM, b"--x--\r\n", 422),
    "a field": (FORM, b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1', 422),
    "a field without a name": (FORM, b"--x\r\nContent-Disposition: form-data\r\n\r\n1", 422),
    "a part without a head": (FORM, b"--x\r\n\r\n1", 400),
    "cut": (FORM, PART, 400),
    "two files": (FORM, (PART + b"\r\n") * 2 + b"--x--\r\n", 422),
    "control character in the name": (FORM, PART.replace(b"a.csv", b"a\x1b.csv") + b"\r\n--x--\r\n", 422),
    "name of 201 characters": (FORM, PART.replace(b"a.csv", b"a" * 201) + b"\r\n--x--\r\n", 422),
}


@pytest.mark.parametrize(("kind", "body", "status"), MULTIPART.values(), ids=MULTIPART)
def test_bad_forms(client: httpx.Client, kind: str, body: bytes, status: int) -> None:
    answer = client.post("/v1/datasets", content=body, headers={"Content-Type": kind})
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"


# ---------------------------------------------------------------------------------------------------- access


@pytest.mark.parametrize(
    "authorization",
    [
        *("", "Bearer", "Bearer ", "Basic {key}", "{key}", "Bearer {key}x", "Bearer {id}", "Bearer {id}."),
        *("Bearer {key} {key}", "Bearer key_%00.x", "Bearer " + "k" * 4000, "Bearer \xff\xfe"),
    ],
)
def test_no_valid_key(service: Service, authorization: str) -> None:
    value = authorization.format(key=service.admin, id=service.admin.partition(".")[0])
    request = f"GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: {value}\r\n\r\n"
    answer = service.raw(request.encode("latin-1"))
    assert_raw_problem(answer, 401, "unauthorized")
    assert b"WWW-Authenticate: Bearer" in answer
    assert service.admin.encode() not in answer


def test_a_key_in_the_query(service: Service) -> None:
    with service.client("") as client:
        for name in ("api_key", "key", "access_token", "Authorization"):
            answer = client.get("/v1/jobs", params={name: service.admin})
            assert_problem(answer, 401, "unauthorized")
    assert service.admin.partition(".")[2] not in service.log


@pytest.mark.parametrize(
    "name", ["job_x", "ds_" + "0" * 22, "job_" + "0" * 22, "9" * 500, "job_..%2f", "%ff"]
)
def test_bad_ids(client: httpx.Client, name: str) -> None:
    for kind in ("jobs", "datasets", "models"):
        assert_problem(client.get(f"/v1/{kind}/{name}"), 404, "not_found")


# ---------------------------------------------------------------------------------------------------- memory

LEEWAY_BYTES = 24 << 20
"""What an allocator may keep to itself; the bodies that are sent below hold 150 MB and more."""


def resident(service: Service) -> int:
    """Bytes in memory of the server and its workers."""
    assert service.server is not None
    server = service.server.process.pid
    processes = (server, *children_of(server))
    pages = [Path(f"/proc/{pid}/statm").read_text().split()[1] for pid in processes]
    return sum(int(count) * os.sysconf("SC_PAGE_SIZE") for count in pages)


def storm(client: httpx.Client) -> None:
    """Everything that is large, deep or compressed, once."""
    for body in NOT_JSON.values():
        client.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    for body in NO_TABLE.values():
        client.post("/v1/datasets", content=body)
    table = b"1,2\n" * (MAX_UPLOAD // 4)
    wrong = "sha-256=:" + "A" * 43 + "=:"
    client.post("/v1/datasets", content=table, headers={"Repr-Digest": wrong})
    client.post("/v1/datasets", content=iter([table, table]))
    large = b'{"target": "' + b"x" * 1_900_000 + b'"}'
    client.post("/v1/jobs", content=large, headers={"Content-Type": "application/json"})


def test_memory_stays_flat(service: Service, client: httpx.Client) -> None:
    for _ in range(3):  # what is loaded on first use, and the arenas of each thread
        storm(client)
    before = resident(service)
    for _ in range(15):
        storm(client)
    assert resident(service) - before < LEEWAY_BYTES
