"""Batches over HTTP, and what their reader makes of good and bad lines."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx2 as httpx
import jsonschema
import pytest

from gradkeel_service.consumer import batch_reader
from gradkeel_service.consumer.batch_reader import BatchReader
from gradkeel_service.consumer.parts import ConsumerParts
from gradkeel_service.documents import COMPONENTS
from gradkeel_service.jsonl import MAX_LINE_BYTES
from service.conftest import Service, assert_problem

JSONL = {"Content-Type": "application/jsonl"}
Json = dict[str, Any]


@pytest.fixture
def parts(service: Service) -> Iterator[ConsumerParts]:
    opened = ConsumerParts.open(service.settings, "test-reader")
    BatchReader(opened).read_all()  # what other tests left
    yield opened
    opened.records.close()


@pytest.fixture
def reader(parts: ConsumerParts) -> BatchReader:
    """A reader that reads when it is told to."""
    return BatchReader(parts)


@pytest.fixture(scope="module")
def dataset_id(service: Service) -> str:
    return service.ready_dataset().id


@pytest.fixture
def line(dataset_id: str) -> Callable[..., Json]:
    def make(custom_id: Any, **config: Any) -> Json:
        return {"custom_id": custom_id, "config": {"dataset_id": dataset_id, "target": "price", **config}}

    return make


def body_of(*lines: Any) -> bytes:
    """Lines as they are sent; bytes stay as they are."""
    return b"\n".join(x if isinstance(x, bytes) else json.dumps(x).encode() for x in lines) + b"\n"


def submit(client: httpx.Client, *lines: Any, **params: Any) -> Json:
    answer = client.post("/v1/batches", content=body_of(*lines), headers=JSONL, params=params)
    assert answer.status_code == 202, answer.text
    document: Json = answer.json()
    assert answer.headers["Location"] == f"/v1/batches/{document['id']}"
    assert "Retry-After" in answer.headers
    return document


def results(client: httpx.Client, batch_id: str) -> list[Json]:
    answer = client.get(f"/v1/batches/{batch_id}/results")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/jsonl"
    shown = [json.loads(text) for text in answer.text.splitlines()]
    for result in shown:
        jsonschema.validate(result, COMPONENTS["BatchResult"])
    return shown


def finish(service: Service, batch_id: str, state: str = "succeeded") -> None:
    """End the queued jobs of a batch, as a worker does."""
    for result in service.records.batch_results(batch_id):
        if result.job_id is None or (job := service.records.claim_job(result.job_id, "test")) is None:
            continue
        metrics = {"test": {"rmse": 1.5}}
        assert service.records.finish_job(job.id, job.fence, state, metrics=metrics, verdict="healthy")


def test_a_batch_from_its_lines_to_its_results(
    service: Service, client: httpx.Client, reader: BatchReader, line: Callable[..., Json]
) -> None:
    made = submit(
        client, line("a"), line("b", optimizer={"kind": "sgd", "lr": -1}), b"", line("c", labels={"n": "c"})
    )
    assert (made["state"], made["lines"], made["priority"]) == ("reading", 3, -10)
    reader.read_all()
    running = client.get(f"/v1/batches/{made['id']}").json()
    jsonschema.validate(
        running, {"$ref": "#/components/schemas/Batch", "components": {"schemas": COMPONENTS}}
    )
    assert (running["state"], running["rejected"], running["counts"]["queued"]) == ("running", 1, 2)
    jobs = client.get("/v1/jobs", params={"batch_id": made["id"], "order": "asc"}).json()["data"]
    assert [job["labels"] for job in jobs] == [{}, {"n": "c"}]
    assert {(job["batch_id"], job["priority"]) for job in jobs} == {(made["id"], -10)}
    first, bad, last = results(client, made["id"])
    assert (first["custom_id"], first["job_id"], first["state"]) == ("a", jobs[0]["id"], "queued")
    assert (bad["custom_id"], bad["job_id"], bad["state"], bad["line"]) == ("b", None, "rejected", 2)
    [fault] = bad["error"]["errors"]
    assert (bad["error"]["status"], fault["pointer"], fault["line"]) == (422, "/config/optimizer/lr", 2)
    assert (last["custom_id"], last["line"]) == ("c", 4)
    finish(service, made["id"])
    reader.read_all()
    ended = client.get(f"/v1/batches/{made['id']}").json()
    assert (ended["state"], ended["progress"]) == ("ended", {"read": 3, "fraction": 1.0})
    assert ended["counts"]["succeeded"] == 2
    first, _, last = results(client, made["id"])
    assert first == {
        "line": 1, "custom_id": "a", "job_id": jobs[0]["id"], "state": "succeeded",
        "metrics": {"test": {"rmse": 1.5}}, "verdict": "healthy", "error": None,
    }  # fmt: skip


LONG = json.dumps({"custom_id": "x", "config": {"target": "y" * MAX_LINE_BYTES}}).encode()
NOWHERE = {"target": "price", "dataset_id": "ds_" + "0" * 22}
BAD_LINES: dict[str, tuple[Any, int, str, str]] = {
    "no JSON": (b"{custom_id: 1}", 400, "", "bad_json"),
    "cut": (b'{"custom_id": "x", "config": {', 400, "", "bad_json"),
    "bad UTF-8": (b'{"custom_id": "\xff"}', 400, "", "bad_json"),
    "NaN": (b'{"custom_id": "x", "config": {"target": NaN}}', 400, "", "bad_json"),
    "a key twice": (b'{"custom_id": "x", "custom_id": "y"}', 400, "", "bad_json"),
    "too deep": (b'{"custom_id": "x", "config": ' + b"[" * 100_000, 400, "", "bad_json"),
    "an array": (["x"], 422, "", "wrong_type"),
    "a number": (3, 422, "", "wrong_type"),
    "no custom_id": ({"config": {}}, 422, "/custom_id", "required"),
    "custom_id null": ({"custom_id": None, "config": {}}, 422, "/custom_id", "required"),
    "custom_id no text": ({"custom_id": 3, "config": {}}, 422, "/custom_id", "wrong_type"),
    "custom_id empty": ({"custom_id": "", "config": {}}, 422, "/custom_id", "bad_text"),
    "custom_id too long": ({"custom_id": "x" * 201, "config": {}}, 422, "/custom_id", "bad_text"),
    "custom_id with a bell": ({"custom_id": "x\a", "config": {}}, 422, "/custom_id", "bad_text"),
    "NUL": ({"custom_id": "x\0", "config": {}}, 422, "/custom_id", "nul"),
    "no config": ({"custom_id": "x"}, 422, "/config", "required"),
    "config no object": ({"custom_id": "x", "config": []}, 422, "/config", "wrong_type"),
    "unknown field": ({"custom_id": "x", "config": {}, "a/b": 1}, 422, "/a~1b", "unknown_field"),
    "no data set": ({"custom_id": "x", "config": {"target": "price"}}, 422, "/config/dataset_id", "required"),
    "unknown option": ({"custom_id": "x", "config": {"epochs": 3}}, 422, "/config/epochs", "unknown_field"),
    "a data set that is not there": ({"custom_id": "x", "config": NOWHERE}, 404, "", "not_found"),
    "too long": (LONG, 413, "", "too_large"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_bad_line_says_what_is_wrong_and_its_neighbours_run(
    client: httpx.Client, reader: BatchReader, line: Callable[..., Json], name: str
) -> None:
    bad, status, pointer, code = BAD_LINES[name]
    made = submit(client, line("before"), bad, line("after"))
    reader.read_all()
    before, rejected, after = results(client, made["id"])
    assert [before["state"], rejected["state"], after["state"]] == ["queued", "rejected", "queued"]
    problem = rejected["error"]
    jsonschema.validate(problem, COMPONENTS["Problem"])
    assert problem["status"] == status
    told = {(fault.get("pointer", ""), fault["code"]) for fault in problem["errors"]}
    assert (pointer, code) in told or problem["type"].endswith(f":{code}")
    assert {fault["line"] for fault in problem["errors"]} <= {2}


def test_the_data_is_asked_as_for_single_jobs(
    service: Service, client: httpx.Client, reader: BatchReader, line: Callable[..., Json]
) -> None:
    rejected = service.records.create_dataset(service.project, "bad.csv", "ab" * 32, 10)
    claimed = service.records.claim_dataset(rejected.id, "test")
    assert claimed is not None
    assert service.records.reject_dataset(rejected.id, claimed.fence, {"detail": "no"})
    foreign = service.records.create_dataset(service.records.project_named("another"), "x", "ab" * 32, 10)
    waiting = service.records.create_dataset(service.project, "slow.csv", "ab" * 32, 10)
    made = submit(
        client,
        line("no such column", target="prize"),
        line("rejected", dataset_id=rejected.id),
        line("foreign", dataset_id=foreign.id),
        line("being read", dataset_id=waiting.id, target="anything"),
    )
    reader.read_all()
    column, refused, hidden, accepted = results(client, made["id"])
    assert column["error"]["errors"][0]["pointer"] == "/config/target"
    assert (refused["error"]["status"], hidden["error"]["status"]) == (409, 404)
    assert accepted["state"] == "queued"


def test_a_custom_id_stands_once(
    client: httpx.Client, reader: BatchReader, line: Callable[..., Json], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the first is in an earlier chunk and turn."""
    monkeypatch.setattr(batch_reader, "CHUNK_LINES", 2)
    monkeypatch.setattr(batch_reader, "TURN_LINES", 2)
    made = submit(client, line("a"), line("a"), line("b"), line("a"), line("b"), line("c"))
    reader.read_all()
    shown = results(client, made["id"])
    assert [r["state"] for r in shown] == ["queued", "rejected", "queued", "rejected", "rejected", "queued"]
    assert shown[3]["error"]["errors"][0]["code"] == "duplicate"


def test_reading_goes_on_where_it_stopped(
    service: Service,
    client: httpx.Client,
    reader: BatchReader,
    parts: ConsumerParts,
    line: Callable[..., Json],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The reader fails between any two chunks, and another goes on: each line is read once."""
    monkeypatch.setattr(batch_reader, "CHUNK_LINES", 3)
    lines = [line(f"n{number}") if number % 4 else b"{" for number in range(20)]
    made = submit(client, *lines)
    write = parts.records.add_lines
    calls = iter(range(1000))

    def failing(*args: Any, **kwargs: Any) -> Any:
        if next(calls) % 2:
            raise RuntimeError("the reader dies here")
        return write(*args, **kwargs)

    monkeypatch.setattr(parts.records, "add_lines", failing)
    deaths = 0
    while client.get(f"/v1/batches/{made['id']}").json()["state"] == "reading":
        try:
            reader.read_all()
        except RuntimeError:
            deaths += 1
            [lease] = [lease for lease in service.records.batch_leases() if lease.id == made["id"]]
            assert service.records.requeue_lost_batch(lease)
    assert deaths > 3
    shown = results(client, made["id"])
    assert [r["line"] for r in shown] == list(range(1, 21))
    assert [r["custom_id"] for r in shown if r["job_id"]] == [f"n{n}" for n in range(20) if n % 4]
    assert len({r["job_id"] for r in shown}) == 16


def test_lines_wait_while_the_queue_is_full(
    service: Service, client: httpx.Client, parts: ConsumerParts, line: Callable[..., Json]
) -> None:
    queued = service.records.queued_jobs(service.project)
    settings = dataclasses.replace(parts.settings, max_queued_jobs=queued + 3)
    reader = BatchReader(dataclasses.replace(parts, settings=settings))
    made = submit(client, *[line(str(number)) for number in range(5)])
    reader.read_all()
    waiting = client.get(f"/v1/batches/{made['id']}").json()
    assert (waiting["state"], waiting["progress"]["read"], waiting["rejected"]) == ("reading", 3, 0)
    finish(service, made["id"])
    reader.read_all()
    assert client.get(f"/v1/batches/{made['id']}").json()["progress"]["read"] == 5


def test_a_data_set_deleted_while_lines_are_read(
    service: Service,
    client: httpx.Client,
    reader: BatchReader,
    parts: ConsumerParts,
    line: Callable[..., Json],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    doomed = service.ready_dataset()
    made = submit(client, line("a", dataset_id=doomed.id), line("b"))
    write = parts.records.add_lines

    def late(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(parts.records, "add_lines", write)
        service.records.delete_dataset(service.project, doomed.id)
        return write(*args, **kwargs)

    monkeypatch.setattr(parts.records, "add_lines", late)
    reader.read_all()
    gone, kept = results(client, made["id"])
    assert (gone["state"], gone["error"]["status"], kept["state"]) == ("rejected", 404, "queued")


def test_a_file_that_is_lost_ends_the_batch(
    service: Service, client: httpx.Client, reader: BatchReader, line: Callable[..., Json]
) -> None:
    made = submit(client, line("only in this test"))
    service.objects.delete(service.records.get_batch(service.project, made["id"]).sha256)
    reader.read_all()
    ended = client.get(f"/v1/batches/{made['id']}").json()
    assert (ended["state"], ended["error"]["status"]) == ("ended", 500)
    assert results(client, made["id"]) == []


def test_a_batch_that_kills_its_readers_is_given_up(
    service: Service, client: httpx.Client, reader: BatchReader, line: Callable[..., Json]
) -> None:
    made = submit(client, line("a"))
    for _ in range(3):
        assert service.records.claim_next_batch("dies") is not None
        [lease] = service.records.batch_leases()
        assert service.records.requeue_lost_batch(lease)
    reader.read_all()
    ended = client.get(f"/v1/batches/{made['id']}").json()
    assert ended["state"] == "ended"
    assert "again and again" in ended["error"]["detail"]


def test_cancelling(
    service: Service, client: httpx.Client, reader: BatchReader, line: Callable[..., Json]
) -> None:
    made = submit(client, line("a"), line("b"))
    reader.read_all()
    running = service.records.claim_job(results(client, made["id"])[0]["job_id"], "test")
    assert running is not None
    answer = client.post(f"/v1/batches/{made['id']}/cancel")
    assert answer.status_code == 202
    assert answer.json()["cancel_requested"]
    assert answer.json()["counts"] | {"running": 1, "cancelled": 1} == answer.json()["counts"]
    assert service.records.get_job(service.project, running.id).cancel_requested
    assert service.records.finish_job(running.id, running.fence, "cancelled")
    reader.read_all()
    assert client.get(f"/v1/batches/{made['id']}").json()["state"] == "ended"
    assert client.post(f"/v1/batches/{made['id']}/cancel").status_code == 202, "again is no error"


def test_cancelled_before_it_was_read(
    client: httpx.Client, reader: BatchReader, line: Callable[..., Json]
) -> None:
    made = submit(client, line("a"), line("b", target="no such column"), {"custom_id": 3})
    assert client.post(f"/v1/batches/{made['id']}/cancel").status_code == 202
    reader.read_all()
    assert [r["state"] for r in results(client, made["id"])] == ["cancelled", "cancelled", "rejected"]
    ended = client.get(f"/v1/batches/{made['id']}").json()
    assert (ended["state"], ended["counts"]["cancelled"], ended["rejected"]) == ("ended", 2, 1)


def test_cancelling_after_the_end(
    service: Service, client: httpx.Client, reader: BatchReader, line: Callable[..., Json]
) -> None:
    made = submit(client, line("a"))
    reader.read_all()
    finish(service, made["id"])
    reader.read_all()
    assert_problem(client.post(f"/v1/batches/{made['id']}/cancel"), 409, "conflict")


def test_a_thread_reads_what_comes(
    service: Service, client: httpx.Client, parts: ConsumerParts, line: Any
) -> None:
    reader = BatchReader(parts)
    reader.start()
    try:
        made = submit(client, *[line(str(number)) for number in range(300)])
        reader.wake()
        document = client.get(f"/v1/batches/{made['id']}?wait=30").json()
        assert (document["state"], document["counts"]["queued"]) == ("running", 300)
        client.post(f"/v1/batches/{made['id']}/cancel")
        assert client.get(f"/v1/batches/{made['id']}?wait=30").json()["state"] == "ended"
    finally:
        reader.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "batch reader"]


def test_one_key_one_batch(client: httpx.Client, line: Callable[..., Json]) -> None:
    headers = JSONL | {"Idempotency-Key": "batch-once"}
    first = client.post("/v1/batches", content=body_of(line("a")), headers=headers)
    again = client.post("/v1/batches", content=body_of(line("a")), headers=headers)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (again.status_code, again.json()) == (202, first.json())
    other = client.post("/v1/batches", content=body_of(line("b")), headers=headers)
    assert_problem(other, 422, "key_reused")


def test_the_digest_is_checked(client: httpx.Client, line: Callable[..., Json]) -> None:
    body = body_of(line("a"))
    right = base64.b64encode(hashlib.sha256(body).digest()).decode()
    wrong = base64.b64encode(hashlib.sha256(b"").digest()).decode()
    for digest, status in ((right, 202), (wrong, 400)):
        headers = JSONL | {"Repr-Digest": f"sha-256=:{digest}:"}
        assert client.post("/v1/batches", content=body, headers=headers).status_code == status


@pytest.mark.parametrize(
    ("body", "headers", "query", "status", "code"),
    [
        (b"", JSONL, "", 422, "invalid"),
        (b" \n\r\n\n", JSONL, "", 422, "invalid"),
        (b"{}", {"Content-Type": "application/json"}, "", 415, "unsupported_media_type"),
        (b"{}", {}, "", 415, "unsupported_media_type"),
        (b"{}", JSONL | {"Content-Encoding": "gzip"}, "", 415, "unsupported_media_type"),
        (b"{}\n" * 50_001, JSONL, "", 413, "too_large"),
        (b"{}", JSONL, "?priority=101", 422, "invalid"),
        (b"{}", JSONL, "?priority=-101", 422, "invalid"),
        (b"{}", JSONL, "?priority=1.5", 422, "invalid"),
        (b"{}", JSONL, "?what=1", 422, "invalid"),
        (b"{}", JSONL | {"Idempotency-Key": "a b"}, "", 422, "invalid"),
    ],
)
def test_refused_as_a_whole(
    service: Service, client: httpx.Client, body: bytes, headers: Json, query: str, status: int, code: str
) -> None:
    before = client.get("/v1/batches?limit=1").json()
    assert_problem(client.post(f"/v1/batches{query}", content=body, headers=headers), status, code)
    assert client.get("/v1/batches?limit=1").json() == before


def test_most_lines_and_the_last_without_a_line_break(client: httpx.Client) -> None:
    answer = client.post("/v1/batches", content=b"{}\n" * 49_999 + b"{}", headers=JSONL)
    assert answer.json()["lines"] == 50_000
    client.post(f"/v1/batches/{answer.json()['id']}/cancel")


def test_lists_come_in_pages(client: httpx.Client, line: Callable[..., Json]) -> None:
    made = [submit(client, line("a"), priority=number)["id"] for number in range(3)]
    page = client.get("/v1/batches?limit=2").json()
    assert [batch["id"] for batch in page["data"]] == [made[2], made[1]]
    following = client.get("/v1/batches", params={"limit": 1, "after": page["next_cursor"]}).json()
    assert [batch["id"] for batch in following["data"]] == [made[0]]


def test_what_is_known_is_not_sent_again(
    service: Service, client: httpx.Client, reader: BatchReader, line: Callable[..., Json]
) -> None:
    made = submit(client, line("a"))
    reader.read_all()
    finish(service, made["id"])
    reader.read_all()
    for path in (f"/v1/batches/{made['id']}", f"/v1/batches/{made['id']}/results", "/v1/batches"):
        etag = client.get(path).headers["ETag"]
        assert client.get(path, headers={"If-None-Match": etag}).status_code == 304
    assert client.head(f"/v1/batches/{made['id']}/results").content == b""
    refused = client.get(f"/v1/batches/{made['id']}/results", headers={"Accept": "application/json"})
    assert_problem(refused, 406, "not_acceptable")


def test_another_projects_batch_is_not_there(
    service: Service, client: httpx.Client, line: Callable[..., Json]
) -> None:
    made = submit(client, line("a"))
    with service.client(service.stranger) as stranger:
        for method, path in (("GET", ""), ("GET", "/results"), ("POST", "/cancel")):
            assert_problem(stranger.request(method, f"/v1/batches/{made['id']}{path}"), 404, "not_found")
        assert stranger.get("/v1/batches").json()["data"] == []
    assert_problem(client.get("/v1/batches/bat_x"), 404, "not_found")


def test_scopes(service: Service, line: Callable[..., Json]) -> None:
    with service.client(service.reader) as reading:
        assert_problem(reading.post("/v1/batches", content=b"{}", headers=JSONL), 403, "forbidden")
        assert reading.get("/v1/batches").status_code == 200


def test_single_jobs_have_a_priority_too(client: httpx.Client, line: Callable[..., Json]) -> None:
    config = line("x")["config"]
    answer = client.post("/v1/jobs?priority=7", json=config)
    assert (answer.status_code, answer.json()["priority"], answer.json()["batch_id"]) == (202, 7, None)
    assert client.post("/v1/jobs", json=config).json()["priority"] == 0
    assert_problem(client.post("/v1/jobs?priority=1000", json=config), 422, "invalid")
