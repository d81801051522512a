"""Submitting, reading and steering jobs."""

from __future__ import annotations

import threading

import httpx2 as httpx

from service.conftest import Service, assert_problem


def test_a_job_is_accepted(service: Service, client: httpx.Client) -> None:
    dataset = service.ready_dataset()
    answer = client.post("/v1/jobs", json={"dataset_id": dataset.id, "target": "price", "preset": "fast"})
    assert answer.status_code == 202
    document = answer.json()
    assert document["state"] == "queued"
    assert document["config"]["optimizer"]["kind"]
    assert answer.headers["Location"] == f"/v1/jobs/{document['id']}"
    assert "Retry-After" in answer.headers
    assert client.get(answer.headers["Location"]).json() == document


def test_validate_only_keeps_nothing(service: Service, client: httpx.Client) -> None:
    dataset = service.ready_dataset()
    before = len(client.get("/v1/jobs?limit=100").json()["data"])
    answer = client.post(
        "/v1/jobs?validate_only=true",
        json={"dataset_id": dataset.id, "target": "price", "loss": {"kind": "huber"}},
    )
    assert answer.status_code == 200
    assert answer.json()["loss"] == {"kind": "huber", "delta": 1.0}
    assert len(client.get("/v1/jobs?limit=100").json()["data"]) == before


def test_a_target_that_cannot_be_learnt(service: Service, client: httpx.Client) -> None:
    columns = [
        {"name": "a", "type": "numeric", "missing": 0, "distinct": 9},
        {"name": "same", "type": "numeric", "missing": 0, "distinct": 1},
        {"name": "empty", "type": "categorical", "missing": 40, "distinct": 0},
    ]
    dataset = service.ready_dataset({"rows": 40, "columns": columns})
    for target in ("same", "empty"):
        answer = client.post("/v1/jobs", json={"dataset_id": dataset.id, "target": target})
        assert assert_problem(answer, 422, "invalid")["errors"][0]["pointer"] == "/target"


def test_no_data_set(client: httpx.Client) -> None:
    missing = assert_problem(client.post("/v1/jobs", json={"target": "price"}), 422, "invalid")
    assert missing["errors"][0]["pointer"] == "/dataset_id"
    for dataset_id in ("ds_" + "0" * 22, "nonsense"):
        answer = client.post("/v1/jobs", json={"dataset_id": dataset_id, "target": "price"})
        assert_problem(answer, 404, "not_found")


def test_a_job_may_wait_for_its_data(client: httpx.Client) -> None:
    dataset = client.post("/v1/datasets", content=b"a,b\n1,2\n").json()
    answer = client.post("/v1/jobs", json={"dataset_id": dataset["id"], "target": "b"})
    assert answer.status_code == 202


def test_lists_page_and_filter(service: Service, client: httpx.Client) -> None:
    jobs = [service.job(batch="pages").id for _ in range(5)]
    first = client.get("/v1/jobs?limit=2&order=asc&label=batch=pages").json()
    assert [job["id"] for job in first["data"]] == jobs[:2]
    assert first["has_more"] is True
    second = client.get(f"/v1/jobs?limit=3&order=asc&label=batch&after={first['next_cursor']}").json()
    assert [job["id"] for job in second["data"]] == jobs[2:]
    assert (second["has_more"], second["next_cursor"]) == (False, None)
    client.post(f"/v1/jobs/{jobs[0]}/cancel")
    cancelled = client.get("/v1/jobs?state=cancelled&label=batch=pages").json()["data"]
    assert [job["id"] for job in cancelled] == [jobs[0]]
    later = client.get("/v1/jobs", params={"created_after": "2999-01-01T00:00:00Z"}).json()
    assert later["data"] == []


def test_wait_answers_when_the_state_changes(service: Service, client: httpx.Client) -> None:
    job = service.job()
    answers: list[httpx.Response] = []
    with service.client() as other:
        path = f"/v1/jobs/{job.id}?wait=30"
        thread = threading.Thread(target=lambda: answers.append(other.get(path)))
        thread.start()
        # The request may arrive before or after a change: change the state until the answer is there.
        while thread.is_alive():
            claimed = service.records.claim_job(job.id, "test")
            assert claimed is not None
            thread.join(0.3)
            service.records.release_job(job.id, claimed.fence)
            thread.join(0.3)
    assert answers[0].json()["state"] in ("queued", "running")


def test_wait_ends_with_its_time(service: Service, client: httpx.Client) -> None:
    job = service.job()
    assert client.get(f"/v1/jobs/{job.id}?wait=0.05").json()["state"] == "queued"


def test_cancel(service: Service, client: httpx.Client) -> None:
    queued = service.job()
    answer = client.post(f"/v1/jobs/{queued.id}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (202, "cancelled")
    assert client.post(f"/v1/jobs/{queued.id}/cancel").status_code == 202
    running = service.running_job()
    answer = client.post(f"/v1/jobs/{running.id}/cancel")
    assert (answer.json()["state"], answer.json()["cancel_requested"]) == ("running", True)
    ended = service.ended_job()
    assert_problem(client.post(f"/v1/jobs/{ended.id}/cancel"), 409, "conflict")


def test_retry_makes_a_new_job(service: Service, client: httpx.Client) -> None:
    job = service.job()
    assert_problem(client.post(f"/v1/jobs/{job.id}/retry"), 409, "not_ended")
    client.post(f"/v1/jobs/{job.id}/cancel")
    answer = client.post(f"/v1/jobs/{job.id}/retry")
    assert answer.status_code == 202
    assert answer.json()["retry_of"] == job.id
    assert answer.headers["Location"] == f"/v1/jobs/{answer.json()['id']}"
