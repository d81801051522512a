"""Resumable uploads: the tus protocol over HTTP, what a cut leaves, and the data set at the end."""

from __future__ import annotations

import base64
import gzip
import hashlib
import pickle
import socket
import threading
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime

import httpx2 as httpx
import pytest

from gradkeel_store.records import Piece, UploadRow, tables
from processes import eventually
from servers import S3
from service.conftest import MAX_UPLOAD, TABLE, Service, assert_problem, running_service

TUS = {"Tus-Resumable": "1.0.0"}
SENDING = TUS | {"Content-Type": "application/offset+octet-stream"}
BODY = TABLE.encode() * 300
SHA = hashlib.sha256(BODY).hexdigest()
UNKNOWN = "/v1/uploads/upl_" + "0" * 22


def metadata(**values: str) -> dict[str, str]:
    pairs = [f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in values.items()]
    return {"Upload-Metadata": ",".join(pairs)}


def announce(client: httpx.Client, size: int = len(BODY), **headers: str) -> str:
    """A new upload's address."""
    answer = client.post("/v1/uploads", headers=TUS | {"Upload-Length": str(size)} | headers)
    assert answer.status_code == 201, answer.text
    return answer.headers["Location"]


def send(client: httpx.Client, upload: str, offset: int, content: bytes) -> httpx.Response:
    return client.patch(upload, headers=SENDING | {"Upload-Offset": str(offset)}, content=content)


def offset_of(client: httpx.Client, upload: str) -> int:
    answer = client.head(upload, headers=TUS)
    assert answer.status_code == 200
    return int(answer.headers["Upload-Offset"])


def row_of(service: Service, upload: str) -> UploadRow:
    return service.records.get_upload(service.project, upload.rpartition("/")[2])


def spaces(service: Service) -> set[str]:
    return set(service.objects.spaces())


# ------------------------------------------------------------------------------------------ the protocol


def test_options_tells_what_is_spoken(client: httpx.Client) -> None:
    answer = client.request("OPTIONS", "/v1/uploads")
    assert answer.status_code == 204
    assert answer.headers["Tus-Version"] == "1.0.0"
    assert answer.headers["Tus-Max-Size"] == str(MAX_UPLOAD)
    assert set(answer.headers["Tus-Extension"].split(",")) == {
        "creation",
        "creation-with-upload",
        "expiration",
        "termination",
    }


def test_pieces_become_a_data_set_bit_for_bit(service: Service, client: httpx.Client) -> None:
    named = metadata(filename="big table.csv", delimiter=",", header="true", filetype="text/csv")
    upload = announce(client, **named)
    answer = None
    for start in range(0, len(BODY), 70_000):
        assert offset_of(client, upload) == start
        answer = send(client, upload, start, BODY[start : start + 70_000])
        assert answer.status_code == 204, answer.text
        assert answer.headers["Upload-Offset"] == str(min(start + 70_000, len(BODY)))
        assert answer.headers["Tus-Resumable"] == "1.0.0"
    assert answer is not None
    dataset_id = answer.headers["Gradkeel-Dataset-Id"]
    assert dataset_id in answer.headers["Link"]
    found = client.get(f"/v1/datasets/{dataset_id}").json()
    assert (found["name"], found["sha256"], found["bytes"]) == ("big table.csv", SHA, len(BODY))
    assert service.objects.read(SHA) == BODY
    row = service.records.get_dataset(service.project, dataset_id)
    assert row.options == {"delimiter": ",", "header": True}
    document = client.get(upload).json()
    assert document["state"] == "done"
    assert (document["dataset_id"], document["sha256"]) == (dataset_id, SHA)
    assert document["id"] not in spaces(service)
    head = client.head(upload, headers=TUS)
    assert head.headers["Gradkeel-Dataset-Id"] == dataset_id
    assert head.headers["Upload-Metadata"] == named["Upload-Metadata"]


def test_head_is_never_cached_and_says_when_the_upload_expires(client: httpx.Client) -> None:
    answer = client.head(announce(client, 5), headers=TUS)
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Upload-Length"] == "5"
    assert answer.headers["Upload-Offset"] == "0"
    assert parsedate_to_datetime(answer.headers["Upload-Expires"]).timestamp() > time.time() + 3600


def test_bytes_may_come_with_the_announcement(service: Service, client: httpx.Client) -> None:
    body = BODY + b"1,A,1\n"
    headers = SENDING | {"Upload-Length": str(len(body))}
    begun = client.post("/v1/uploads", headers=headers, content=body[:1000])
    assert (begun.status_code, begun.headers["Upload-Offset"]) == (201, "1000")
    assert begun.json()["received"] == 1000
    whole = client.post("/v1/uploads", headers=headers, content=body)
    assert (whole.status_code, whole.headers["Upload-Offset"]) == (201, str(len(body)))
    assert whole.json()["state"] == "done"
    dataset = client.get(f"/v1/datasets/{whole.headers['Gradkeel-Dataset-Id']}").json()
    assert dataset["sha256"] == hashlib.sha256(body).hexdigest()


def test_a_chunked_patch_needs_no_length(client: httpx.Client) -> None:
    upload = announce(client)
    answer = client.patch(
        upload, headers=SENDING | {"Upload-Offset": "0"}, content=iter([BODY[:500], BODY[500:900]])
    )
    assert (answer.status_code, answer.headers["Upload-Offset"]) == (204, "900")


def _length(text: str) -> dict[str, str]:
    return TUS | {"Upload-Length": text}


REFUSED_ANNOUNCEMENTS: dict[str, tuple[dict[str, str], int, str]] = {
    "no version": ({"Upload-Length": "5"}, 412, "tus_version"),
    "another version": ({"Tus-Resumable": "0.2.2", "Upload-Length": "5"}, 412, "tus_version"),
    "no length": (TUS, 400, "bad_request"),
    "a length that is no number": (_length("five"), 400, "bad_request"),
    "a negative length": (_length("-5"), 400, "bad_request"),
    "digits of another script": (_length("5²"), 400, "bad_request"),
    "no bytes": (_length("0"), 422, "invalid"),
    "too many bytes": (_length(str(MAX_UPLOAD + 1)), 413, "too_large"),
    "a length to come": (TUS | {"Upload-Defer-Length": "1"}, 400, "bad_request"),
    "metadata that is no base64": (_length("5") | {"Upload-Metadata": "name !!"}, 400, "bad_request"),
    "metadata that is no text": (_length("5") | {"Upload-Metadata": "name /w=="}, 400, "bad_request"),
    "metadata without a key": (_length("5") | {"Upload-Metadata": ", name YQ=="}, 400, "bad_request"),
    "metadata twice": (_length("5") | {"Upload-Metadata": "name YQ==,name Yg=="}, 400, "bad_request"),
    "a name with a control character": (_length("5") | metadata(filename="a\nb"), 422, "invalid"),
    "a name too long": (_length("5") | metadata(name="x" * 201), 422, "invalid"),
    "two delimiters": (_length("5") | metadata(delimiter=";;"), 422, "invalid"),
    "an unknown encoding": (_length("5") | metadata(encoding="klingon"), 422, "invalid"),
    "a header that is no flag": (_length("5") | metadata(header="yes"), 422, "invalid"),
    "a digest that is none": (_length("5") | metadata(sha256="abc"), 422, "invalid"),
    "a malformed Repr-Digest": (_length("5") | {"Repr-Digest": "sha-256=abc"}, 400, "bad_request"),
    "a key that is no key": (_length("5") | {"Idempotency-Key": "a b"}, 422, "invalid"),
}


@pytest.mark.parametrize("case", REFUSED_ANNOUNCEMENTS)
def test_what_is_announced_wrongly_leaves_nothing(client: httpx.Client, case: str) -> None:
    headers, status, code = REFUSED_ANNOUNCEMENTS[case]
    encoded = {name: value.encode() for name, value in headers.items()}
    answer = client.post("/v1/uploads", headers=encoded)
    document = assert_problem(answer, status, code)
    assert "Location" not in answer.headers
    assert answer.headers["Tus-Resumable"] == "1.0.0"
    if code == "tus_version":
        assert answer.headers["Tus-Version"] == "1.0.0"
    if code == "invalid" and "Upload-Metadata" in headers:
        assert document["errors"][0]["pointer"]


REFUSED_PATCHES: dict[str, tuple[dict[str, str], bytes, int, str]] = {
    "no version": ({"Content-Type": SENDING["Content-Type"], "Upload-Offset": "3"}, b"x", 412, "tus_version"),
    "another content type": (
        TUS | {"Content-Type": "text/csv", "Upload-Offset": "3"},
        b"x",
        415,
        "unsupported_media_type",
    ),
    "no offset": (SENDING, b"x", 400, "bad_request"),
    "an offset that is no number": (SENDING | {"Upload-Offset": "x"}, b"x", 400, "bad_request"),
    "an offset behind": (SENDING | {"Upload-Offset": "2"}, b"x", 409, "wrong_offset"),
    "an offset ahead": (SENDING | {"Upload-Offset": "4"}, b"x", 409, "wrong_offset"),
    "more than was announced": (SENDING | {"Upload-Offset": "3"}, b"x" * 100, 413, "too_large"),
    "a content encoding": (
        SENDING | {"Upload-Offset": "3", "Content-Encoding": "gzip"},
        b"x",
        415,
        "unsupported_media_type",
    ),
}


@pytest.mark.parametrize("case", REFUSED_PATCHES)
def test_what_is_sent_wrongly_changes_nothing(client: httpx.Client, case: str) -> None:
    headers, content, status, code = REFUSED_PATCHES[case]
    upload = announce(client, 10)
    assert send(client, upload, 0, b"a,b").status_code == 204
    assert_problem(client.patch(upload, headers=headers, content=content), status, code)
    assert offset_of(client, upload) == 3


@pytest.mark.parametrize("method", ["HEAD", "GET", "PATCH", "DELETE"])
def test_uploads_of_others_are_not_there(service: Service, client: httpx.Client, method: str) -> None:
    upload = announce(client, 10)
    headers = SENDING | {"Upload-Offset": "0"}
    with service.client(service.stranger) as stranger:
        for address in (upload, UNKNOWN, "/v1/uploads/nonsense"):
            assert stranger.request(method, address, headers=headers).status_code == 404
    assert offset_of(client, upload) == 0


@pytest.mark.parametrize("method", ["HEAD", "GET", "PATCH", "DELETE"])
def test_a_key_that_may_only_read_may_not_upload(service: Service, client: httpx.Client, method: str) -> None:
    upload = announce(client, 10)
    headers = SENDING | {"Upload-Offset": "0", "Upload-Length": "1"}
    with service.client(service.reader) as reader, service.client(service.submitter) as submitter:
        assert reader.request(method, upload, headers=headers).status_code == 403
        assert reader.post("/v1/uploads", headers=headers).status_code == 403
        assert reader.request("OPTIONS", "/v1/uploads").status_code == 403
        assert submitter.request(method, upload, headers=headers).status_code in (200, 204)


def test_a_deleted_upload_is_gone_with_its_bytes(service: Service, client: httpx.Client) -> None:
    upload = announce(client, 10)
    send(client, upload, 0, b"a,b\n")
    upload_id = upload.rpartition("/")[2]
    assert upload_id in spaces(service)
    assert client.delete(upload, headers=TUS).status_code == 204
    assert upload_id not in spaces(service)
    assert client.head(upload, headers=TUS).status_code == 404
    assert send(client, upload, 4, b"1,2\n").status_code == 404
    assert client.delete(upload, headers=TUS).status_code == 404


def test_an_expired_upload_is_gone(service: Service, client: httpx.Client) -> None:
    row = service.records.create_upload(service.project, "t.csv", 10, seconds=0.0)
    upload = f"/v1/uploads/{row.id}"
    assert client.head(upload, headers=TUS).status_code == 410
    assert_problem(client.get(upload), 410, "gone")
    assert_problem(send(client, upload, 0, b"a,b\n"), 410, "gone")


# --------------------------------------------------------------------------- what the bytes turn out to be


def test_a_declared_digest_is_checked(service: Service, client: httpx.Client) -> None:
    good = announce(client, **metadata(sha256=SHA.upper()))
    assert "Gradkeel-Dataset-Id" in send(client, good, 0, BODY).headers
    other = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
    bad = announce(client, **{"Repr-Digest": f"sha-256=:{other}:"})
    assert_problem(send(client, bad, 0, BODY), 400, "digest_mismatch")
    document = client.get(bad).json()
    assert document["state"] == "failed"
    assert document["error"]["type"] == "urn:gradkeel:problem:digest_mismatch"
    assert document["dataset_id"] is None
    assert client.head(bad, headers=TUS).status_code == 410
    assert_problem(send(client, bad, len(BODY), b""), 410, "gone")
    assert document["id"] not in spaces(service)
    disagreeing = metadata(sha256=SHA) | {"Repr-Digest": f"sha-256=:{other}:"}
    answer = client.post("/v1/uploads", headers=_length("5") | disagreeing)
    assert_problem(answer, 422, "invalid")


NO_TABLES = {
    "pickle": pickle.dumps({"a": 1}),
    "zip": b"PK\x03\x04" + bytes(100),
    "gzip in gzip": gzip.compress(gzip.compress(TABLE.encode())),
}


@pytest.mark.parametrize("kind", NO_TABLES)
@pytest.mark.parametrize("step", [3, 10_000])
def test_what_is_no_table_is_refused_once_its_first_bytes_are_there(
    service: Service, client: httpx.Client, kind: str, step: int
) -> None:
    content = NO_TABLES[kind][:60]
    upload = announce(client, len(content))
    for start in range(0, len(content) - step, step):
        assert send(client, upload, start, content[start : start + step]).status_code == 204
    answer = send(client, upload, offset_of(client, upload), content[offset_of(client, upload) :])
    assert_problem(answer, 415, "unsupported_media_type")
    assert client.get(upload).json()["state"] == "failed"
    assert upload.rpartition("/")[2] not in spaces(service)


def test_a_large_file_of_a_wrong_kind_is_refused_before_it_is_stored(
    service: Service, client: httpx.Client
) -> None:
    upload = announce(client, 2_000_000)
    answer = send(client, upload, 0, b"\x93NUMPY" + bytes(1_000_000))
    assert_problem(answer, 415, "unsupported_media_type")
    assert client.get(upload).json()["received"] == 0


# -------------------------------------------------------------------------------------- cuts and company


def raw_patch(service: Service, upload: str, offset: int, announced: int) -> bytes:
    return (
        f"PATCH {upload} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {service.admin}\r\n"
        f"Tus-Resumable: 1.0.0\r\nContent-Type: application/offset+octet-stream\r\n"
        f"Upload-Offset: {offset}\r\nContent-Length: {announced}\r\n\r\n"
    ).encode()


def test_what_came_before_a_cut_is_kept(service: Service, client: httpx.Client) -> None:
    upload = announce(client)
    answer = service.raw(raw_patch(service, upload, 0, len(BODY)) + BODY[:100_000])
    assert answer.startswith(b"HTTP/1.1 400")
    assert offset_of(client, upload) == 100_000
    assert "Gradkeel-Dataset-Id" in send(client, upload, 100_000, BODY[100_000:]).headers


def test_what_came_before_a_stall_is_kept(service: Service, client: httpx.Client) -> None:
    upload = announce(client)
    answer = service.raw(raw_patch(service, upload, 0, len(BODY)) + BODY[:50_000], finish=False)
    assert answer.startswith(b"HTTP/1.1 408")
    assert offset_of(client, upload) == 50_000


def test_a_reset_connection_lets_go_of_the_upload(service: Service, client: httpx.Client) -> None:
    upload = announce(client)
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(raw_patch(service, upload, 0, len(BODY)) + BODY[:60_000])
        eventually(lambda: row_of(service, upload).holder)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    eventually(lambda: row_of(service, upload).holder is None)
    stored = offset_of(client, upload)
    assert stored <= 60_000
    assert "Gradkeel-Dataset-Id" in send(client, upload, stored, BODY[stored:]).headers


def test_of_two_at_once_one_is_told_to_wait(service: Service, client: httpx.Client) -> None:
    upload = announce(client)
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(raw_patch(service, upload, 0, len(BODY)) + BODY[:40_000])
        eventually(lambda: row_of(service, upload).holder)
        answer = send(client, upload, 0, b"other,bytes\n" * 10)
        assert_problem(answer, 423, "locked")
        assert answer.headers["Retry-After"] == "1"
        connection.sendall(BODY[40_000:])
        assert connection.recv(4096).startswith(b"HTTP/1.1 204")
    assert client.get(upload).json()["sha256"] == SHA


def test_of_many_at_once_one_makes_the_data_set(service: Service, client: httpx.Client) -> None:
    upload = announce(client)
    statuses: list[int] = []
    with service.client() as other:
        threads = [
            threading.Thread(target=lambda: statuses.append(send(other, upload, 0, BODY).status_code))
            for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert statuses.count(204) == 1
    assert set(statuses) <= {204, 409, 423}
    assert client.get(upload).json()["sha256"] == SHA


def test_an_upload_deleted_under_the_hand_takes_nothing_more(service: Service, client: httpx.Client) -> None:
    upload = announce(client)
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(raw_patch(service, upload, 0, len(BODY)) + BODY[:40_000])
        eventually(lambda: row_of(service, upload).holder)
        assert client.delete(upload, headers=TUS).status_code == 204
        connection.sendall(BODY[40_000:])
        assert connection.recv(4096).startswith(b"HTTP/1.1 423")
    assert client.head(upload, headers=TUS).status_code == 404


def whole_but_unfinished(service: Service) -> UploadRow:
    """An upload as a server leaves it that was killed when the last byte was in."""
    made = service.records.create_upload(service.project, "t.csv", len(BODY), seconds=3600.0)
    held = service.records.hold_upload(service.project, made.id, 0)
    space = service.objects.apart(made.id)
    for start in (0, 100_000):
        content = BODY[start : start + 100_000] if start == 0 else BODY[start:]
        held = service.records.add_piece(held, Piece(start, len(content), space.put_bytes(content)), 3600.0)
    service.records.release_upload(held)
    return held


def test_an_upload_in_too_many_crumbs_is_refused(service: Service, client: httpx.Client) -> None:
    """What it has stays until it is deleted or expires."""
    upload = announce(client)
    assert send(client, upload, 0, BODY[:70_000]).status_code == 204
    crumbs = [
        {"upload_id": row_of(service, upload).id, "start": n, "bytes": 1, "sha256": SHA}
        for n in range(1, 9999)
    ]
    with service.records.engine.begin() as connection:
        connection.execute(tables.upload_pieces.insert(), crumbs)
    assert send(client, upload, 70_000, BODY[70_000:70_001]).status_code == 204
    document = assert_problem(send(client, upload, 70_001, BODY[70_001:]), 413, "too_large")
    assert "10000 pieces" in document["detail"]
    assert offset_of(client, upload) == 70_001
    assert row_of(service, upload).holder is None
    assert client.delete(upload, headers=TUS).status_code == 204
    assert service.records.count_pieces(crumbs[0]["upload_id"]) == 0


def ask_by_head(client: httpx.Client, upload: str) -> httpx.Response:
    return client.head(upload, headers=TUS)


def ask_by_get(client: httpx.Client, upload: str) -> httpx.Response:
    return client.get(upload)


def ask_by_patch(client: httpx.Client, upload: str) -> httpx.Response:
    return send(client, upload, len(BODY), b"")


@pytest.mark.parametrize("ask", [ask_by_head, ask_by_get, ask_by_patch])
def test_what_was_killed_before_its_end_is_finished_by_the_next_who_asks(
    service: Service, client: httpx.Client, ask: Callable[[httpx.Client, str], httpx.Response]
) -> None:
    left = whole_but_unfinished(service)
    upload = f"/v1/uploads/{left.id}"
    assert ask(client, upload).status_code < 300
    document = client.get(f"{upload}?wait=20").json()
    assert document["state"] == "done"
    assert service.records.get_dataset(service.project, document["dataset_id"]).sha256 == SHA
    again = send(client, upload, len(BODY), b"")
    assert (again.status_code, again.headers["Gradkeel-Dataset-Id"]) == (204, document["dataset_id"])


def test_the_same_key_announces_once(service: Service, client: httpx.Client) -> None:
    headers = SENDING | {"Upload-Length": str(len(BODY)), "Idempotency-Key": "once-only"}
    first = client.post("/v1/uploads", headers=headers, content=BODY[:1000])
    again = client.post("/v1/uploads", headers=headers, content=BODY[:1000])
    assert first.headers["Location"] == again.headers["Location"]
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (again.status_code, again.headers["Upload-Offset"]) == (201, "1000")
    other = client.post("/v1/uploads", headers=headers | {"Upload-Length": "7"})
    assert_problem(other, 422, "key_reused")


def test_pieces_count_towards_the_storage_quota() -> None:
    with running_service(GRADKEEL_MAX_STORAGE_BYTES="100000") as small, small.client() as client:
        first, second = announce(client, 90_000), announce(client, 80_000)
        assert send(client, first, 0, BODY[:60_000]).status_code == 204
        assert_problem(send(client, second, 0, BODY[:50_000]), 507, "storage_full")
        assert_problem(client.post("/v1/uploads", headers=_length("50000")), 507, "storage_full")
        assert_problem(client.post("/v1/datasets", content=BODY[:50_000]), 507, "storage_full")
        assert client.delete(first, headers=TUS).status_code == 204
        assert send(client, second, 0, BODY[:50_000]).status_code == 204


def test_pieces_and_the_whole_lie_in_a_bucket_where_that_is_the_store(
    s3_endpoint: str, s3_bucket: str
) -> None:
    bucket = {
        "GRADKEEL_OBJECTS_URL": f"s3://{s3_bucket}/gradkeel",
        "GRADKEEL_S3_ENDPOINT": s3_endpoint,
        "GRADKEEL_S3_ACCESS_KEY": S3.ACCESS_KEY,
        "GRADKEEL_S3_SECRET_KEY": S3.SECRET_KEY,
    }
    with running_service(**bucket) as remote, remote.client() as client:
        upload = announce(client)
        assert send(client, upload, 0, BODY[:100_000]).status_code == 204
        assert spaces(remote) == {upload.rpartition("/")[2]}
        answer = send(client, upload, 100_000, BODY[100_000:])
        assert client.get(f"/v1/datasets/{answer.headers['Gradkeel-Dataset-Id']}").json()["sha256"] == SHA
        assert remote.objects.read(SHA) == BODY
        assert spaces(remote) == set()
