"""Uploads and downloads: every kind of source, bytes that are already there, digests, cut connections."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fault_server import FaultServer, Reply
from gradkeel import AsyncClient, Client, DatasetRejected, DigestMismatch
from gradkeel.sources import source_of

CSV = b"a,b\n1,2\n3,4\n"
SHA = hashlib.sha256(CSV).hexdigest()
DIGEST = f"sha-256=:{base64.b64encode(hashlib.sha256(CSV).digest()).decode()}:"
READY = {"id": "ds_1", "name": "t.csv", "state": "ready", "rows": 2, "columns": [], "sha256": SHA}


class Unseekable(io.RawIOBase):
    """A stream that can be read once, as from a pipe."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        piece = self._data.read(len(target))
        target[: len(piece)] = piece
        return len(piece)


def from_path(folder: Path) -> Any:
    path = folder / "t.csv"
    path.write_bytes(CSV)
    return path


SOURCES: dict[str, Callable[[Path], Any]] = {
    "path": from_path,
    "path as text": lambda folder: str(from_path(folder)),
    "file": lambda folder: from_path(folder).open("rb"),
    "memory": lambda folder: io.BytesIO(CSV),
    "pipe": lambda folder: Unseekable(CSV),
    "bytes": lambda folder: CSV,
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_is_sent_whole_again_after_a_fault(
    fault_server: Callable[..., FaultServer], tmp_path: Path, kind: str
) -> None:
    server = fault_server(Reply(404), Reply(503), Reply(drop=True), Reply(201, READY), Reply(200, READY))
    told: list[tuple[int, int]] = []
    with Client(server.url, "k") as client:
        data = client.datasets.upload(
            SOURCES[kind](tmp_path), name="t.csv", progress=lambda *sent: told.append(sent)
        )
    posts = server.seen[1:4]
    assert data.id == "ds_1"
    assert data.rows == 2
    assert [seen.body for seen in posts] == [CSV] * 3
    assert {seen.headers["repr-digest"] for seen in posts} == {DIGEST}
    assert {seen.headers["content-length"] for seen in posts} == {str(len(CSV))}
    assert len({seen.headers["idempotency-key"] for seen in posts}) == 1
    assert told[-1] == (len(CSV), len(CSV))


def test_the_asyncio_upload_is_the_same(fault_server: Callable[..., FaultServer], tmp_path: Path) -> None:
    server = fault_server(Reply(404), Reply(503), Reply(201, READY), Reply(200, READY))

    async def upload() -> Any:
        async with AsyncClient(server.url, "k") as client:
            return await client.datasets.upload(from_path(tmp_path))

    assert asyncio.run(upload()).state == "ready"
    assert [seen.body for seen in server.seen[1:3]] == [CSV, CSV]


def test_what_is_there_is_not_sent(fault_server: Callable[..., FaultServer]) -> None:
    server = fault_server(Reply(200, READY))
    with Client(server.url, "k") as client:
        assert client.datasets.upload(CSV).id == "ds_1"
    assert {seen.method for seen in server.seen} == {"HEAD", "GET"}
    assert server.seen[0].path == f"/v1/datasets/by-digest/{SHA}"


def test_bytes_that_were_rejected_are_sent_again(fault_server: Callable[..., FaultServer]) -> None:
    rejected = {**READY, "state": "rejected", "error": {"title": "The data cannot be used"}}
    server = fault_server(Reply(200), Reply(200, rejected), Reply(201, READY), Reply(200, READY))
    with Client(server.url, "k") as client:
        assert client.datasets.upload(CSV).state == "ready"
    assert [seen.method for seen in server.seen] == ["HEAD", "GET", "POST", "GET"]


def test_reading_options_are_sent_and_never_skip(fault_server: Callable[..., FaultServer]) -> None:
    server = fault_server(Reply(201, READY), Reply(200, READY))
    with Client(server.url, "k") as client:
        client.datasets.upload(CSV, name="x.csv", delimiter=";", header=False)
    assert server.seen[0].path == "/v1/datasets?name=x.csv&delimiter=%3B&header=false"


def test_a_rejected_data_set_raises_with_its_place(fault_server: Callable[..., FaultServer]) -> None:
    problem = {
        "title": "The data cannot be used",
        "detail": "a row is ragged",
        "request_id": "req_7",
        "errors": [{"code": "ragged", "detail": "3 cells, not 2", "line": 4, "row": 2}],
    }
    rejected = {**READY, "state": "rejected", "error": problem}
    server = fault_server(Reply(404), Reply(201, {**READY, "state": "ingesting"}), Reply(200, rejected))
    with Client(server.url, "k") as client, pytest.raises(DatasetRejected, match="line 4, row 2") as caught:
        client.datasets.upload(CSV)
    assert caught.value.problem == problem
    assert caught.value.request_id == "req_7"
    assert caught.value.dataset.id == "ds_1"


FRAME = pd.DataFrame({"a": [1, 2], "b": ["x", None]}, index=[7, 8])


@pytest.mark.parametrize("frame", [FRAME, pa.table({"a": [1, 2], "b": ["x", None]})], ids=["pandas", "arrow"])
def test_frames_become_parquet_without_their_index_and_always_the_same_bytes(frame: Any) -> None:
    source, again = source_of(frame), source_of(frame)
    table = pq.read_table(io.BytesIO(b"".join(source.chunks())))
    assert table.to_pydict() == {"a": [1, 2], "b": ["x", None]}
    assert source.sha256 == again.sha256


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(TypeError, match="data frame"):
        source_of(3.0)
    with pytest.raises(TypeError, match="binary mode"):
        source_of(io.StringIO("a,b"))


def model_document(content: bytes) -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return {"id": "mdl_1", "digests": {"bundle": digest}, "columns": [], "metrics": {}}


def test_a_cut_download_starts_over_and_is_verified(
    fault_server: Callable[..., FaultServer], tmp_path: Path
) -> None:
    content = b"weights" * 1000
    server = fault_server(
        Reply(200, model_document(content)), Reply(200, content=content, cut=50), Reply(200, content=content)
    )
    with Client(server.url, "k") as client:
        path = client.models.get("mdl_1").download(tmp_path / "m.gradkeel")
    assert path.read_bytes() == content
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.gradkeel"]


def test_a_download_with_another_digest_leaves_nothing(
    fault_server: Callable[..., FaultServer], tmp_path: Path
) -> None:
    server = fault_server(Reply(200, model_document(b"right")), Reply(200, content=b"wrong"))
    with Client(server.url, "k") as client, pytest.raises(DigestMismatch):
        client.models.get("mdl_1").download(tmp_path / "m.gradkeel")
    assert list(tmp_path.iterdir()) == []


def test_a_download_into_a_folder_that_is_missing(
    fault_server: Callable[..., FaultServer], tmp_path: Path
) -> None:
    server = fault_server(Reply(200, model_document(b"x")), Reply(200, content=b"x"))
    with Client(server.url, "k") as client:
        path = client.models.get("mdl_1").download(f"{tmp_path}/new/models/")
    assert path == tmp_path / "new" / "models" / "model.gradkeel"
    assert path.read_bytes() == b"x"


def test_a_refused_download_leaves_the_former_file(
    fault_server: Callable[..., FaultServer], tmp_path: Path
) -> None:
    held = tmp_path / "m.gradkeel"
    held.write_bytes(b"former")
    server = fault_server(Reply(200, model_document(b"x")), Reply(404, {"title": "gone"}))
    with Client(server.url, "k") as client, pytest.raises(Exception, match="gone"):
        client.models.get("mdl_1").download(held)
    assert held.read_bytes() == b"former"
    assert list(tmp_path.iterdir()) == [held]


def test_lists_page_by_themselves(fault_server: Callable[..., FaultServer]) -> None:
    pages = [
        {"data": [{"id": "job_1"}, {"id": "job_2"}], "has_more": True, "next_cursor": "job_2"},
        {"data": [{"id": "job_3"}], "has_more": False, "next_cursor": None},
    ]
    server = fault_server(*[Reply(200, page) for page in pages])
    with Client(server.url, "k") as client:
        found = client.jobs.list(state="failed", limit=2)
        assert [job.id for job in found] == ["job_1", "job_2", "job_3"]
    assert [seen.path for seen in server.seen] == [
        "/v1/jobs?state=failed&limit=2",
        "/v1/jobs?state=failed&limit=2&after=job_2",
    ]


def test_asyncio_lists_page_too(fault_server: Callable[..., FaultServer]) -> None:
    page = {"data": [{"id": "mdl_1"}], "has_more": False, "next_cursor": None}
    server = fault_server(Reply(200, page))

    async def names() -> list[str]:
        async with AsyncClient(server.url, "k") as client:
            return [model.id async for model in client.models.list()]

    assert asyncio.run(names()) == ["mdl_1"]
