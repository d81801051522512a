"""POST /v1/preflights: a job of another kind, refused and replayed as other jobs are."""

from __future__ import annotations

import httpx2 as httpx

from service.conftest import Service, assert_problem


def config(service: Service, **more: object) -> dict[str, object]:
    return {"dataset_id": service.ready_dataset().id, "target": "price", "preset": "fast"} | more


def test_a_preflight_is_a_job(service: Service, client: httpx.Client) -> None:
    answer = client.post("/v1/preflights?priority=3", json=config(service, labels={"for": "preflights"}))
    assert answer.status_code == 202
    document = answer.json()
    assert (document["kind"], document["state"], document["priority"]) == ("preflight", "queued", 3)
    assert answer.headers["Location"] == f"/v1/jobs/{document['id']}"
    assert client.get(answer.headers["Location"]).json() == document
    listed = client.get("/v1/jobs?label=for=preflights").json()["data"]
    assert [job["id"] for job in listed] == [document["id"]]


def test_validate_only_keeps_nothing(service: Service, client: httpx.Client) -> None:
    body = config(service, labels={"for": "validation"})
    answer = client.post("/v1/preflights?validate_only=true", json=body)
    assert answer.status_code == 200 and answer.json()["preset"] == "fast"
    assert client.get("/v1/jobs?label=for=validation").json()["data"] == []


def test_the_same_key_makes_one_and_is_not_a_jobs(service: Service, client: httpx.Client) -> None:
    body, key = config(service), {"Idempotency-Key": "a-look"}
    first = client.post("/v1/preflights", json=body, headers=key)
    again = client.post("/v1/preflights", json=body, headers=key)
    assert again.json() == first.json() and again.headers["Idempotent-Replayed"] == "true"
    assert_problem(client.post("/v1/jobs", json=body, headers=key), 422, "key_reused")


def test_there_is_no_scaling_to_choose_where_a_model_is_gone_on_from(
    service: Service, client: httpx.Client
) -> None:
    body = config(service, model_id="mdl_" + "0" * 22)
    problem = assert_problem(client.post("/v1/preflights", json=body), 422, "invalid")
    [fault] = problem["errors"]
    assert fault["pointer"] == "/model_id" and "leave model_id out" in fault["detail"]


def test_faults_are_those_of_jobs(service: Service, client: httpx.Client) -> None:
    unknown = assert_problem(
        client.post("/v1/preflights", json=config(service, optimizer={"kind": "x"})), 422, "invalid"
    )
    assert unknown["errors"][0]["pointer"] == "/optimizer/kind"
    missing = assert_problem(client.post("/v1/preflights", json={"target": "price"}), 422, "invalid")
    assert missing["errors"][0]["pointer"] == "/dataset_id"


def test_cancel_retry_and_the_report_of_one_that_never_ran(service: Service, client: httpx.Client) -> None:
    job = client.post("/v1/preflights", json=config(service)).json()["id"]
    assert client.get(f"/v1/jobs/{job}/report").status_code == 409
    assert client.post(f"/v1/jobs/{job}/cancel").json()["state"] == "cancelled"
    report = client.get(f"/v1/jobs/{job}/report").json()
    assert report["summary"] == "The preflight was cancelled before it was done."
    others = report.keys() - {"schema_version", "summary"}
    assert all(report[key] in (None, []) for key in others)
    page = client.get(f"/v1/jobs/{job}/report", headers={"Accept": "text/html"}).text
    assert "Nothing was measured" in page
    again = client.post(f"/v1/jobs/{job}/retry").json()
    assert (again["kind"], again["retry_of"], again["state"]) == ("preflight", job, "queued")
