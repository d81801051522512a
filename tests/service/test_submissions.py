"""/v1/submissions, and that the queue judges as HTTP does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx2 as httpx
import pytest

from consuming import item
from gradkeel.contract.states import Scope
from gradkeel_service.consumer.parts import ConsumerParts
from gradkeel_service.consumer.submitting import BROAD_KEY, Submitting
from gradkeel_store.deliveries.envelope import delivery_of_item
from gradkeel_store.errors import Unavailable
from service.conftest import Service, assert_problem

LIMIT = 2_000_000


@pytest.fixture(scope="module")
def parts(service: Service) -> Iterator[ConsumerParts]:
    opened = ConsumerParts.open(service.settings, "tests")
    yield opened
    opened.records.close()


@pytest.fixture
def desk(parts: ConsumerParts) -> Submitting:
    return Submitting(parts)


@pytest.fixture(scope="module")
def submit_only(service: Service) -> str:
    return service.records.create_key(service.project, [Scope.SUBMIT])[1]


@pytest.fixture(scope="module")
def dataset_id(service: Service) -> str:
    return service.ready_dataset().id


def take_in(desk: Submitting, *texts: str) -> int:
    """Hand over messages; how many have to wait."""
    return len(desk.take_in([delivery_of_item(text.encode(), text, LIMIT) for text in texts]))


def message(key: str, submission_id: str, config: Any) -> str:
    return item({"submission_id": submission_id, "api_key": key, "config": config})


def raw_message(key: str, submission_id: str, config: str) -> str:
    """With a config that Python would not write."""
    envelope = json.loads(message(key, submission_id, "HERE"))
    return json.dumps(envelope | {"body": envelope["body"].replace('"HERE"', config)})


# Each once by the queue and once by HTTP, which must say the same of it. "DS" stands for a data set.
REFUSED = {
    "no data set": '{"target": "price"}',
    "no target": '{"dataset_id": "DS"}',
    "another data set": '{"dataset_id": "ds_0000000000000000000000", "target": "price"}',
    "no id": '{"dataset_id": "../x", "target": "price"}',
    "unknown option": '{"dataset_id": "DS", "target": "price", "colour": "red"}',
    "dunder": '{"dataset_id": "DS", "target": "price", "__class__": 1}',
    "several faults": '{"dataset_id": "DS", "target": "nowhere", "seed": -1, "budget": {"max_epochs": 3.7}}',
    "missing column": '{"dataset_id": "DS", "target": "prise"}',
    "cuda": '{"dataset_id": "DS", "target": "price", "device": "cuda"}',
    "not an object": "[1, 2]",
    "NUL": '{"dataset_id": "DS", "target": "a\\\\u0000"}',
    "NaN": '{"dataset_id": "DS", "target": "price", "seed": NaN}',
    "infinite": '{"dataset_id": "DS", "target": "price", "seed": 1e999}',
    "twice": '{"dataset_id": "DS", "target": "price", "target": "rooms"}',
    "surrogate": '{"dataset_id": "DS", "target": "\\\\ud800"}',
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_same_problem_as_by_http(
    desk: Submitting, client: httpx.Client, submit_only: str, dataset_id: str, name: str
) -> None:
    config = REFUSED[name].replace("DS", dataset_id).replace("\\\\", "\\")
    headers = {"Content-Type": "application/json"}
    by_http = client.post("/v1/jobs", content=config.encode(), headers=headers).json()
    take_in(desk, raw_message(submit_only, f"same {name}", config))
    found = client.get(f"/v1/submissions/{quote(f'same {name}')}").json()
    assert (found["state"], found["job_id"]) == ("rejected", None)
    by_queue = found["error"]
    assert by_queue.pop("instance") == f"/v1/submissions/{quote(f'same {name}')}"
    assert by_queue.pop("request_id").startswith("req_")
    expected = {key: by_http[key] for key in by_http if key not in ("instance", "request_id")}
    assert json.dumps(by_queue) == json.dumps(expected)


def test_a_key_without_the_scope(
    desk: Submitting, client: httpx.Client, service: Service, dataset_id: str
) -> None:
    config = {"dataset_id": dataset_id, "target": "price"}
    take_in(desk, message(service.reader, "reader", config))
    found = client.get("/v1/submissions/reader").json()
    with service.client(service.reader) as reader:
        by_http = assert_problem(reader.post("/v1/jobs", json=config), 403, "forbidden")
    assert (found["error"]["status"], found["error"]["detail"]) == (403, by_http["detail"])


def test_one_that_is_accepted(
    desk: Submitting, client: httpx.Client, service: Service, submit_only: str, dataset_id: str
) -> None:
    config = {"dataset_id": dataset_id, "target": "price", "labels": {"from": "queue"}}
    text = message(submit_only, "good/ä 1", config)
    assert take_in(desk, text, text) == 0
    take_in(desk, message(submit_only, "good/ä 1", config | {"seed": 5}))
    found = client.get(f"/v1/submissions/{quote('good/ä 1', safe='')}").json()
    assert set(found) == {"submission_id", "state", "job_id", "error", "warnings", "created_at"}
    assert (found["submission_id"], found["state"], found["error"]) == ("good/ä 1", "accepted", None)
    assert found["warnings"] == []
    job = client.get(f"/v1/jobs/{found['job_id']}").json()
    assert (job["state"], job["submitted"], job["labels"]) == ("queued", config, {"from": "queue"})
    assert [row["id"] for row in client.get("/v1/jobs?label=from=queue").json()["data"]] == [job["id"]]
    assert {name: count for name, count in desk.counts.items() if count} == {
        "accepted": 1,
        "repeated": 1,
        "contradicted": 1,
    }


def test_a_broad_key_is_warned_of(
    desk: Submitting, client: httpx.Client, service: Service, dataset_id: str
) -> None:
    take_in(desk, message(service.admin, "broad", {"dataset_id": dataset_id, "target": "price"}))
    found = client.get("/v1/submissions/broad").json()
    assert (found["state"], found["warnings"]) == ("accepted", [BROAD_KEY])


def test_each_project_has_its_own(
    desk: Submitting, client: httpx.Client, service: Service, dataset_id: str
) -> None:
    config = {"dataset_id": dataset_id, "target": "price"}
    take_in(desk, message(service.stranger, "shared", config), message(service.admin, "shared", config))
    with service.client(service.stranger) as stranger:
        theirs = stranger.get("/v1/submissions/shared").json()
        assert theirs["error"]["type"].endswith("not_found")  # the data set is not theirs
        assert_problem(stranger.get("/v1/submissions/broad"), 404, "not_found")
        assert [row["submission_id"] for row in stranger.get("/v1/submissions").json()["data"]] == ["shared"]
    assert client.get("/v1/submissions/shared").json()["state"] == "accepted"


@pytest.mark.parametrize("name", ["unknown", "%00", "x" * 201, "a%0Ab", "%F0%9F%98%80"])
def test_there_is_no_such_submission(client: httpx.Client, name: str) -> None:
    assert_problem(client.get(f"/v1/submissions/{name}"), 404, "not_found")


def test_lists_in_pages(desk: Submitting, client: httpx.Client, submit_only: str) -> None:
    names = [f"page {number}" for number in range(5)]
    take_in(desk, *(message(submit_only, name, {}) for name in names))
    seen: list[str] = []
    after = ""
    while True:
        page = client.get(f"/v1/submissions?limit=2&state=rejected{after}").json()
        seen += [row["submission_id"] for row in page["data"]]
        if not page["has_more"]:
            break
        after = f"&after={page['next_cursor']}"
    assert set(names) <= set(seen)
    assert len(set(seen)) == len(seen)
    assert_problem(client.get("/v1/submissions?state=lost"), 422, "invalid")
    assert_problem(client.get("/v1/submissions?after=xyz"), 422, "invalid")


def test_reading_needs_a_key_that_reads(service: Service, submit_only: str) -> None:
    with service.client(submit_only) as client:
        assert_problem(client.get("/v1/submissions"), 403, "forbidden")
    with service.client("") as client:
        assert_problem(client.get("/v1/submissions/x"), 401, "unauthorized")


def test_a_data_set_that_goes_in_between(
    parts: ConsumerParts, client: httpx.Client, service: Service, submit_only: str
) -> None:
    """It is there when the config is checked, and gone when the job is written."""
    dataset = service.ready_dataset()
    text = message(submit_only, "in between", {"dataset_id": dataset.id, "target": "price"})
    desk = Submitting(parts)
    record = desk._record
    desk._record = lambda new: client.delete(f"/v1/datasets/{dataset.id}") and record(new)  # type: ignore[method-assign]
    take_in(desk, text)
    found = client.get("/v1/submissions/in%20between").json()
    assert found["error"]["type"] == "urn:gradkeel:problem:not_found"


def test_what_consumers_count_stands_in_the_measures(service: Service, client: httpx.Client) -> None:
    counts = {"accepted": 3, "unauthorized": 2}
    service.records.worker_heartbeat("consumer-1", {"host": "x", "submissions": counts}, "consumer")
    text = client.get("/metrics").text
    assert 'gradkeel_submissions_total{consumer="consumer-1",outcome="unauthorized"} 2.0' in text
    ready = client.get("/readyz").json()
    assert (ready["checks"]["consumer"], ready["checks"]["workers"]) == (True, 0)
    service.records.remove_worker("consumer-1")
    ready = client.get("/readyz").json()
    assert (ready["checks"]["consumer"], "consumer" in ready["missing"]) == (False, False)


def test_a_database_that_is_away_changes_nothing(
    parts: ConsumerParts, submit_only: str, dataset_id: str
) -> None:
    desk = Submitting(parts)
    text = message(submit_only, "later", {"dataset_id": dataset_id, "target": "price"})

    def away(new: Any) -> Any:
        raise Unavailable("the database does not answer")

    kept, desk._record = desk._record, away  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        take_in(desk, text)
    assert sum(desk.counts.values()) == 0
    desk._record = kept  # type: ignore[method-assign]
    take_in(desk, text)
    assert desk.counts["accepted"] == 1
