"""ETag and 304, Range with 206 and 416, Repr-Digest."""

from __future__ import annotations

import base64
import hashlib

import httpx2 as httpx
import pytest

from service.conftest import Service, assert_problem

CONTENT = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def artifact(service: Service) -> str:
    """The path of a stored artefact."""
    digest = f"sha256:{service.objects.put_bytes(CONTENT)}"
    model = {"target": "price", "task": "regression", "columns": [], "digests": {"bundle": digest}}
    return f"/v1/models/{service.ended_job(model).model_id}/artifact"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/jobs",
        "/v1/datasets",
        "/v1/models",
        "/v1/keys",
        "/openapi.json",
        "/docs",
        "/v1/schemas/config.json",
    ],
)
def test_gets_are_revalidated(client: httpx.Client, path: str) -> None:
    first = client.get(path)
    again = client.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get(path, headers={"If-None-Match": '"another"'}).status_code == 200


def test_the_tag_changes_with_the_thing(service: Service, client: httpx.Client) -> None:
    job = service.job()
    tag = client.get(f"/v1/jobs/{job.id}").headers["ETag"]
    client.post(f"/v1/jobs/{job.id}/cancel")
    assert client.get(f"/v1/jobs/{job.id}", headers={"If-None-Match": tag}).status_code == 200


def test_the_whole_artefact(client: httpx.Client, artifact: str) -> None:
    answer = client.get(artifact)
    digest = hashlib.sha256(CONTENT).digest()
    assert answer.content == CONTENT
    assert answer.headers["Repr-Digest"] == f"sha-256=:{base64.b64encode(digest).decode()}:"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="model.gradkeel"'
    assert answer.headers["Accept-Ranges"] == "bytes"
    again = client.get(artifact, headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304
    head = client.head(artifact)
    assert (head.content, head.headers["Content-Length"]) == (b"", str(len(CONTENT)))


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-99", 0, 100),
        ("bytes=100-", 100, 10240),
        ("bytes=-5", 10235, 10240),
        ("bytes=9-9999999", 9, 10240),
    ],
)
def test_ranges(client: httpx.Client, artifact: str, asked: str, start: int, end: int) -> None:
    answer = client.get(artifact, headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.content == CONTENT[start:end]
    assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(CONTENT)}"


@pytest.mark.parametrize(
    "asked", ["bytes=10240-", "bytes=9-3", "bytes=-", "bytes=a-b", "items=0-1", "bytes=0-1,3-4"]
)
def test_bad_ranges(client: httpx.Client, artifact: str, asked: str) -> None:
    answer = client.get(artifact, headers={"Range": asked})
    assert_problem(answer, 416, "range_not_satisfiable")
    assert answer.headers["Content-Range"] == f"bytes */{len(CONTENT)}"


def test_a_range_is_asked_of_get_alone(client: httpx.Client, artifact: str) -> None:
    head = client.head(artifact, headers={"Range": "bytes=0-9"})
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(CONTENT)))
    assert client.get(artifact, headers={"Range": "BYTES=0-9"}).content == CONTENT[:10]


def test_a_tag_that_a_proxy_made_weak_still_revalidates(client: httpx.Client, artifact: str) -> None:
    for path in (artifact, "/v1/models"):
        weak = f"W/{client.get(path).headers['ETag']}"
        assert client.get(path, headers={"If-None-Match": f'"other", {weak}'}).status_code == 304
        assert client.get(path, headers={"If-None-Match": "*"}).status_code == 304
    asked = {"Range": "bytes=0-9", "If-Range": f"W/{client.head(artifact).headers['ETag']}"}
    assert client.get(artifact, headers=asked).status_code == 200


def test_if_range(client: httpx.Client, artifact: str) -> None:
    tag = client.head(artifact).headers["ETag"]
    assert client.get(artifact, headers={"Range": "bytes=0-9", "If-Range": tag}).status_code == 206
    assert client.get(artifact, headers={"Range": "bytes=0-9", "If-Range": '"old"'}).status_code == 200


def test_a_form_that_is_not_there(client: httpx.Client, artifact: str) -> None:
    assert_problem(client.get(f"{artifact}?format=onnx"), 404, "not_found")
    assert_problem(client.get(f"{artifact}?format=pickle"), 422, "invalid")


def test_damaged_bytes_are_never_handed_out(service: Service, client: httpx.Client) -> None:
    content = b"whole and sound"
    digest = service.objects.put_bytes(content)
    model = {
        "target": "price",
        "task": "regression",
        "columns": [],
        "digests": {"bundle": f"sha256:{digest}"},
    }
    path = f"/v1/models/{service.ended_job(model).model_id}/artifact"
    stored = service.objects.local_path(digest)
    assert stored is not None
    stored.write_bytes(b"whole and wrong")
    assert_problem(client.get(path), 500, "internal")
