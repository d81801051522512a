"""Resumable uploads of the SDK, against a script of answers: what is asked, sent, tried again, remembered."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fault_server import FaultServer, Reply
from gradkeel import APIConnectionError, AsyncClient, Client, ConflictError
from gradkeel.bookmarks import OLD_SECONDS, FileBookmark, bookmarks_folder
from gradkeel.errors import APIStatusError, BadRequestError
from gradkeel.sansio.commands import Answer, Failure
from gradkeel.sansio.retry import RetryPolicy
from gradkeel.sansio.uploads import RESUMABLE_BYTES, pause
from gradkeel.sources import source_of

CSV = b"a,b\n1,2\n3,4\n"
SHA = hashlib.sha256(CSV).hexdigest()
READY = {"id": "ds_1", "name": "t.csv", "state": "ready", "rows": 2, "columns": [], "sha256": SHA}
ANNOUNCED = Reply(201, {}, headers={"Location": "/v1/uploads/upl_1", "Upload-Offset": "0"})
DONE = Reply(204, headers={"Upload-Offset": str(len(CSV)), "Gradkeel-Dataset-Id": "ds_1"})
DATASET = Reply(200, READY)
UNKNOWN = Reply(404)


def standing(offset: int, **headers: str) -> Reply:
    return Reply(200, headers={"Upload-Offset": str(offset)} | headers)


def upload(server: FaultServer, **options: Any) -> Any:
    with Client(server.url, "k") as client:
        return client.datasets.upload(CSV, name="t.csv", resumable=True, **options)


def asked(server: FaultServer) -> list[str]:
    return [f"{seen.method} {seen.path.removeprefix('/v1')}" for seen in server.seen]


def test_the_whole_goes_in_one_request_where_the_line_holds(
    fault_server: Callable[..., FaultServer],
) -> None:
    server = fault_server(UNKNOWN, ANNOUNCED, DONE, DATASET)
    assert upload(server).id == "ds_1"
    announcement, patch = server.seen[1:3]
    assert asked(server)[1:3] == ["POST /uploads", "PATCH /uploads/upl_1"]
    assert announcement.headers["upload-length"] == str(len(CSV))
    assert announcement.headers["upload-metadata"] == f"name {base64.b64encode(b't.csv').decode()}"
    assert announcement.headers["repr-digest"] == source_of(CSV).repr_digest
    assert announcement.headers["idempotency-key"]
    assert patch.headers["content-type"] == "application/offset+octet-stream"
    assert {seen.headers["tus-resumable"] for seen in (announcement, patch)} == {"1.0.0"}
    assert patch.body == CSV


def test_after_a_cut_only_the_rest_is_sent(fault_server: Callable[..., FaultServer]) -> None:
    told: list[tuple[int, int]] = []
    server = fault_server(UNKNOWN, ANNOUNCED, Reply(drop=True), standing(5), DONE, DATASET)
    assert upload(server, progress=lambda *sent: told.append(sent)).id == "ds_1"
    patches = [seen for seen in server.seen if seen.method == "PATCH"]
    assert [seen.headers["upload-offset"] for seen in patches] == ["0", "5"]
    assert [seen.body for seen in patches] == [CSV, CSV[5:]]
    assert told[-1] == (len(CSV), len(CSV))


def test_asyncio_goes_the_same_way(fault_server: Callable[..., FaultServer]) -> None:
    server = fault_server(UNKNOWN, ANNOUNCED, Reply(drop=True), standing(5), DONE, DATASET)

    async def main() -> Any:
        async with AsyncClient(server.url, "k") as client:
            return await client.datasets.upload(CSV, name="t.csv", resumable=True)

    assert asyncio.run(main()).id == "ds_1"
    assert [seen.body for seen in server.seen if seen.method == "PATCH"] == [CSV, CSV[5:]]


@pytest.mark.parametrize(
    "fault",
    [
        Reply(drop=True),
        Reply(400, {"type": "urn:gradkeel:problem:bad_body"}),
        Reply(408),
        Reply(409, {"type": "urn:gradkeel:problem:wrong_offset"}),
        Reply(423),
        Reply(503, headers={"Retry-After": "0"}),
    ],
    ids=["cut", "cut, told", "stall", "offset", "locked", "away"],
)
def test_what_may_pass_is_tried_again_from_what_is_stored(
    fault_server: Callable[..., FaultServer], fault: Reply
) -> None:
    server = fault_server(UNKNOWN, ANNOUNCED, fault, standing(3), DONE, DATASET)
    assert upload(server).id == "ds_1"
    assert [seen.body for seen in server.seen if seen.method == "PATCH"] == [CSV, CSV[3:]]


def test_tries_are_counted_anew_when_bytes_got_through(fault_server: Callable[..., FaultServer]) -> None:
    cuts = [reply for offset in range(1, 12) for reply in (Reply(drop=True), standing(offset))]
    server = fault_server(UNKNOWN, ANNOUNCED, *cuts, DONE, DATASET)
    assert upload(server).id == "ds_1"


def test_a_line_that_brings_nothing_through_is_given_up(fault_server: Callable[..., FaultServer]) -> None:
    stuck = [reply for _ in range(30) for reply in (Reply(drop=True), standing(0))]
    server = fault_server(UNKNOWN, ANNOUNCED, *stuck)
    with pytest.raises(APIConnectionError):
        upload(server)
    assert asked(server).count("PATCH /uploads/upl_1") == 11


def test_a_refusal_is_not_tried_again_and_is_forgotten(
    fault_server: Callable[..., FaultServer], bare_home: Path
) -> None:
    problem = {"type": "urn:gradkeel:problem:unsupported_media_type", "title": "no", "detail": "a zip"}
    server = fault_server(UNKNOWN, ANNOUNCED, Reply(415, problem))
    with pytest.raises(APIStatusError, match="a zip"):
        upload(server)
    assert list(bookmarks_folder().iterdir()) == []


def test_the_end_is_waited_for_where_it_takes_long(fault_server: Callable[..., FaultServer]) -> None:
    assembling = {"id": "upl_1", "state": "assembling", "dataset_id": None, "error": None}
    done = {**assembling, "state": "done", "dataset_id": "ds_1"}
    stored = Reply(204, headers={"Upload-Offset": str(len(CSV))})
    server = fault_server(UNKNOWN, ANNOUNCED, stored, Reply(200, assembling), Reply(200, done), DATASET)
    assert upload(server).id == "ds_1"


def test_an_upload_that_fails_at_its_end_says_why(fault_server: Callable[..., FaultServer]) -> None:
    problem = {"status": 400, "title": "The body does not match its digest", "detail": "another digest"}
    failed = {"id": "upl_1", "state": "failed", "dataset_id": None, "error": problem}
    stored = Reply(204, headers={"Upload-Offset": str(len(CSV))})
    server = fault_server(UNKNOWN, ANNOUNCED, stored, Reply(200, failed))
    with pytest.raises(BadRequestError, match="another digest") as caught:
        upload(server)
    assert caught.value.problem == problem


def test_a_later_process_goes_on(fault_server: Callable[..., FaultServer], bare_home: Path) -> None:
    """The first one ends in the middle; its id is in a file that only its owner reads, and holds no key."""
    server = fault_server(UNKNOWN, ANNOUNCED, Reply(408))

    def interrupted(sent: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upload(server, progress=interrupted)
    (kept,) = bookmarks_folder().iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.read_text() == '{"upload": "upl_1"}'
    deadline = time.monotonic() + 10.0
    while len(server.seen) < 3:  # the interrupted request arrives when it likes
        assert time.monotonic() < deadline
    server.replies = [UNKNOWN, standing(7), DONE, DATASET]
    server.seen.clear()
    assert upload(server).id == "ds_1"
    assert asked(server)[1:3] == ["HEAD /uploads/upl_1", "PATCH /uploads/upl_1"]
    assert server.seen[2].body == CSV[7:]
    assert list(bookmarks_folder().iterdir()) == []


@pytest.mark.parametrize("status", [404, 410])
def test_an_upload_that_is_gone_begins_anew(fault_server: Callable[..., FaultServer], status: int) -> None:
    server = fault_server(UNKNOWN, Reply(status), ANNOUNCED, DONE, DATASET)
    FileBookmark.of(server.url, SHA, "t.csv", dict.fromkeys(OPTIONS)).remember("upl_old")
    assert upload(server).id == "ds_1"
    assert asked(server)[1:3] == ["HEAD /uploads/upl_old", "POST /uploads"]


OPTIONS = ("delimiter", "decimal", "encoding", "header")


def test_bookmarks_are_told_apart_and_old_ones_go(bare_home: Path) -> None:
    marks = [
        FileBookmark.of(url, sha, name, options)
        for url in ("http://a", "http://b")
        for sha in ("1", "2")
        for name in ("x", "y")
        for options in ({}, {"header": True})
    ]
    for index, mark in enumerate(marks):
        mark.remember(f"upl_{index}")
    assert [mark.read() for mark in marks] == [f"upl_{index}" for index in range(len(marks))]
    old = marks[0].path
    os.utime(old, (old.stat().st_mtime - OLD_SECONDS - 1,) * 2)
    marks[1].remember("upl_again")
    assert (marks[0].read(), marks[1].read()) == (None, "upl_again")
    marks[1].forget("upl_1")
    assert marks[1].read() == "upl_again"


def test_a_folder_that_cannot_be_written_forbids_nothing(
    bare_home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    mark = FileBookmark.of("http://a", SHA, "x", {})
    mark.remember("upl_1")
    assert mark.read() is None
    mark.forget("upl_1")


def test_small_sources_go_in_one_post_unless_asked_for(fault_server: Callable[..., FaultServer]) -> None:
    server = fault_server(UNKNOWN, Reply(201, READY), DATASET)
    with Client(server.url, "k") as client:
        client.datasets.upload(CSV, name="t.csv")
    assert asked(server)[1] == "POST /datasets?name=t.csv"


def test_large_sources_go_resumably_unless_asked_for(
    fault_server: Callable[..., FaultServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert RESUMABLE_BYTES == 64 * 1024 * 1024
    monkeypatch.setattr("gradkeel.sansio.uploads.RESUMABLE_BYTES", len(CSV))
    server = fault_server(UNKNOWN, ANNOUNCED, DONE, DATASET)
    with Client(server.url, "k") as client:
        client.datasets.upload(CSV, name="t.csv")
        assert asked(server)[1] == "POST /uploads"
        server.replies = [UNKNOWN, Reply(201, READY), DATASET]
        server.seen.clear()
        client.datasets.upload(CSV, name="t.csv", resumable=False)
    assert asked(server)[1] == "POST /datasets?name=t.csv"


def test_hashing_is_told_too(fault_server: Callable[..., FaultServer], tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(CSV)
    server = fault_server(DATASET)
    told: list[tuple[int, int]] = []
    with Client(server.url, "k") as client:
        client.datasets.upload(path, hashing=lambda *read: told.append(read))
    assert told == [(len(CSV), len(CSV))]


def test_a_source_is_read_from_any_byte_on(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"skipped" + CSV)
    with path.open("rb") as file:
        file.seek(7)
        from_file = source_of(file, "t.csv")
        for source in (source_of(CSV), from_file):
            part = source.part(5)
            assert (part.size, b"".join(part.chunks()), b"".join(part.chunks())) == (
                len(CSV) - 5,
                CSV[5:],
                CSV[5:],
            )


def test_the_pause_follows_the_policy() -> None:
    policy = RetryPolicy(3, random=lambda: 1.0)
    assert pause(policy, 3, Failure("cut")) is None
    assert pause(policy, 0, Failure("cut")) == policy.backoff(0)
    assert pause(policy, 0, Answer(423, {"retry-after": "1"})) == 1.0
    assert pause(policy, 0, Answer(503, {"retry-after": "999"})) is None
    for status in (400, 403, 404, 410, 413, 415):
        assert pause(policy, 0, Answer(status, {})) is None


def test_an_early_refusal_of_the_announcement_is_raised(fault_server: Callable[..., FaultServer]) -> None:
    server = fault_server(UNKNOWN, Reply(409, {"title": "no"}))
    with pytest.raises(ConflictError):
        upload(server)
