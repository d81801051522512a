"""Faults inside uploads, against the whole stack: `rejected` with the problem and its place, or 422."""

from __future__ import annotations

import gzip
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from servers import LoggedProcess

from .conftest import STOP_SECONDS, Stack, own_environment

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

GOOD = "rooms,zone,price\n" + "".join(f"{i % 7},{'AB'[i % 2]},{100 + 3 * i}\n" for i in range(60))


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[httpx.Client]:
    with client_of(stack.url, stack.data) as client:
        yield client


def client_of(url: str, data: Path) -> httpx.Client:
    key = json.loads((data / "profile.json").read_text())["api_key"]
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=120)


def upload(client: httpx.Client, body: bytes, query: str = "") -> dict[str, Any]:
    """The data set that ``body`` became, once it has been read."""
    answer = client.post(f"/v1/datasets{query}", content=body)
    assert answer.status_code == 201, answer.text
    document: dict[str, Any] = answer.json()
    while document["state"] == "ingesting":
        document = client.get(f"/v1/datasets/{document['id']}?wait=60").json()
    return document


def parquet(**columns: Any) -> bytes:
    target = io.BytesIO()
    pq.write_table(pa.table(columns), target)
    return target.getvalue()


def forged_rows() -> bytes:
    """Parquet whose footer claims a million rows; one varint of thrift is another than it was."""
    body = parquet(a=list(range(100)), b=list(range(100)))
    true, forged = b"\x16\xc8\x01", b"\x16\xc8\x7f"
    end = int.from_bytes(body[-8:-4], "little") + 8
    return body[:-end] + body[-end:].replace(true, forged)


def encrypted() -> bytes:
    return b"PAR1" + b"\x15\x04\x15\x00" * 100 + (200).to_bytes(4, "little") + b"PARE"


def bomb() -> bytes:
    """A few hundred KB of Parquet that unpack to 200 MB."""
    target = io.BytesIO()
    table = pa.table({"a": pa.array(["x" * 1000] * 200_000)})
    pq.write_table(table, target, compression="zstd", use_dictionary=False)
    return target.getvalue()


def gzip_bomb() -> bytes:
    return gzip.compress(b"1,2,3\n" * 50_000_000)


def wide() -> bytes:
    names = ",".join(f"c{i}" for i in range(100_000))
    return f"{names}\n{','.join('1' * 100_000)}\n".encode()


Place = dict[str, Any]
REJECTED: dict[str, tuple[Callable[[], bytes], str, Place]] = {
    "header only": (lambda: b"rooms,zone,price\n", "", {}),
    "ragged: too few": (lambda: (GOOD + "1,A\n").encode(), "", {"row": 60, "line": 62}),
    "ragged: too many": (lambda: (GOOD + "1,A,2,9\n" + "1,A,2\n").encode(), "", {"row": 60, "line": 62}),
    "repeated names": (lambda: b"a,b,a\n1,2,3\n", "", {"column": "a"}),
    "100,000 columns": (wide, "", {}),
    "100 MB cell": (lambda: b"a,b\n1,2\n3," + b"x" * 100_000_000 + b"\n", "", {"line": 3}),
    "quote without an end": (lambda: (GOOD + '1,"A,3\n').encode(), "", {"line": 62}),
    "wrong encoding declared": (lambda: "a,b\ncafé,2\n".encode("latin-1"), "?encoding=utf-8", {"line": 2}),
    "truncated Parquet": (lambda: parquet(a=list(range(10_000)))[:-200], "", {}),
    "encrypted Parquet": (encrypted, "", {}),
    "forged row count": (forged_rows, "", {}),
    "marks of Parquet alone": (lambda: b"PAR1....PAR1", "", {}),
    "gzip cut short": (lambda: gzip.compress(GOOD.encode() * 500)[:-20], "", {}),
    "broken JSON line": (lambda: b'{"a": 1}\n{"a": \n', "", {"line": 2}),
    "the same key twice in a line": (lambda: b'{"a": 1}\n{"a": 1, "a": 2}\n', "", {"line": 2}),
}


@pytest.mark.parametrize(("make", "query", "place"), REJECTED.values(), ids=REJECTED)
def test_rejected_with_its_place(
    client: httpx.Client, make: Callable[[], bytes], query: str, place: Place
) -> None:
    dataset = upload(client, make(), query)
    assert dataset["state"] == "rejected", dataset
    problem = dataset["error"]
    assert problem["status"] < 500
    assert problem["detail"]
    assert len(json.dumps(problem)) < 10_000, "a cell of the file stands whole in the problem"
    shown = problem["errors"][0] if problem["errors"] else {}
    assert {name: shown.get(name) for name in place} == place
    assert client.get(f"/v1/datasets/{dataset['id']}/profile").status_code == 409
    job = client.post("/v1/jobs", json={"dataset_id": dataset["id"], "target": "a"})
    assert job.status_code == 409


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A stack that takes at most 50 MB of unpacked data."""
    folder = tmp_path_factory.mktemp("strict")
    env = own_environment(folder, [("GRADKEEL_MAX_UNPACKED_BYTES", "50000000")])
    command = [sys.executable, "-m", "gradkeel", "up", "--data", str(folder / "data"), "--port", "0"]
    server = LoggedProcess(command, r"ready at (http://\S+)", env=env)
    try:
        url = server.wait_ready()[1]
        with client_of(url, folder / "data") as client:
            yield client
        server.process.terminate()
        assert server.process.wait(STOP_SECONDS) == 0, "\n".join(server.tail)
    finally:
        server.kill()


@pytest.mark.parametrize("make", [gzip_bomb, bomb])
def test_bombs(strict: httpx.Client, make: Callable[[], bytes]) -> None:
    """Counted while unpacking: what a footer claims is never believed. The worker lives on."""
    body = make()
    assert len(body) < 2_000_000
    dataset = upload(strict, body)
    assert dataset["state"] == "rejected", dataset
    assert "50" in dataset["error"]["detail"]
    assert upload(strict, GOOD.encode())["state"] == "ready"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("=cmd(),+1,@x\n" + "".join(f"={i},-{i},@{i}\n" for i in range(20)), id="formulas"),
        pytest.param(
            "a,b\n" + "".join(f'"<script>alert({i})</script>",{i}\n' for i in range(20)), id="markup"
        ),
        pytest.param("a,a b,\u202eb\n" + "1,2,3\n4,5,6\n", id="strange names"),
    ],
)
def test_strange_but_fine(client: httpx.Client, body: str) -> None:
    dataset = upload(client, body.encode(), "?name=../../x")
    assert (dataset["state"], dataset["name"]) == ("ready", "../../x")


TARGETS = {
    "all missing": ("a,y\n" + "".join(f"{i},\n" for i in range(30)), "target_missing"),
    "constant": ("a,y\n" + "".join(f"{i},7\n" for i in range(30)), "target_constant"),
    "one class": ("a,y\n" + "".join(f"{i},cat\n" for i in range(30)), "target_constant"),
}


@pytest.mark.parametrize(("table", "code"), TARGETS.values(), ids=TARGETS)
def test_targets_that_cannot_be_learnt(client: httpx.Client, table: str, code: str) -> None:
    """422 on the job once the data is ready; a job sent before ends as failed(bad_data)."""
    made = client.post("/v1/datasets", content=table.encode()).json()
    early = client.post("/v1/jobs", json={"dataset_id": made["id"], "target": "y"})
    dataset = upload(client, table.encode())
    late = client.post("/v1/jobs", json={"dataset_id": dataset["id"], "target": "y"})
    assert late.status_code == 422
    assert [(e["pointer"], e["code"]) for e in late.json()["errors"]] == [("/target", code)]
    if early.status_code == 202:
        job = early.json()
        while job["state"] in ("queued", "running"):
            job = client.get(f"/v1/jobs/{job['id']}?wait=60").json()
        assert (job["state"], job["error"]["code"]) == ("failed", "bad_data"), job["error"]
        assert client.get(f"/v1/jobs/{job['id']}/report").status_code == 200
    else:
        assert early.status_code == 422


def test_text_where_numbers_are_declared(client: httpx.Client) -> None:
    table = "a,y\n" + "".join(f"{'oops' if i == 20 else i},{i * 2}\n" for i in range(40))
    dataset = upload(client, table.encode())
    config = {"dataset_id": dataset["id"], "target": "y", "columns": {"types": {"a": "numeric"}}}
    answer = client.post("/v1/jobs", json=config)
    assert answer.status_code == 202, answer.text
    job = answer.json()
    while job["state"] in ("queued", "running"):
        job = client.get(f"/v1/jobs/{job['id']}?wait=60").json()
    assert job["error"]["code"] == "bad_data", job["error"]
    place = job["error"]["where"]
    assert (place["column"], place["row"], place["line"]) == ("a", 20, 22)
