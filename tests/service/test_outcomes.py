"""What ended jobs leave behind."""

from __future__ import annotations

import io

import httpx2 as httpx
import jsonschema
import pyarrow.parquet
import pytest

from service.conftest import Service, assert_problem

FORMS = ("report", "series", "predictions", "metrics", "logs")


@pytest.mark.parametrize("form", FORMS)
def test_nothing_before_the_end(service: Service, client: httpx.Client, form: str) -> None:
    for job in (service.job(), service.running_job()):
        assert_problem(client.get(f"/v1/jobs/{job.id}/{form}"), 409, "not_ended")


def test_what_a_job_that_succeeded_left(service: Service, client: httpx.Client) -> None:
    job = service.ended_job()
    assert client.get(f"/v1/jobs/{job.id}/report").json()["summary"] == "All went well."
    assert client.get(f"/v1/jobs/{job.id}/metrics").json() == {"test": {"rmse": 1.5}}
    assert client.get(f"/v1/jobs/{job.id}/logs").text == '{"event":"done"}\n'
    predictions = client.get(f"/v1/jobs/{job.id}/predictions")
    assert predictions.headers["Content-Type"].startswith("text/csv")
    assert predictions.text.splitlines()[0] == "row,actual,prediction"
    assert client.get(f"/v1/jobs/{job.id}/series").content == b"PAR1 series"


def test_the_report_as_a_page(service: Service, client: httpx.Client) -> None:
    job = service.ended_job()
    page = client.get(f"/v1/jobs/{job.id}/report", headers={"Accept": "text/html"})
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.text.startswith("<!doctype html>")
    dataset = service.records.get_dataset(service.project, job.dataset_id)
    assert f"<title>{dataset.name}: {job.config['target']} ·" in page.text
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy


def test_the_report_as_markdown_and_as_a_picture(service: Service, client: httpx.Client) -> None:
    job = service.ended_job()
    words = client.get(f"/v1/jobs/{job.id}/report", headers={"Accept": "text/markdown"})
    assert words.headers["Content-Type"] == "text/markdown; charset=utf-8"
    assert words.text.startswith("# ") and "All went well." in words.text
    picture = client.get(f"/v1/jobs/{job.id}/report", headers={"Accept": "image/png"})
    assert picture.headers["Content-Type"] == "image/png"
    assert picture.content.startswith(b"\x89PNG\r\n")


def test_a_job_cancelled_while_queued_has_a_report_with_no_steps(
    service: Service, client: httpx.Client
) -> None:
    job = service.job()
    client.post(f"/v1/jobs/{job.id}/cancel")
    report = client.get(f"/v1/jobs/{job.id}/report").json()
    jsonschema.validate(report, client.get("/v1/schemas/report.json").json())
    assert report["series"]["steps"] == []
    assert report["verdict"] is None
    assert "cancelled" in report["summary"]
    page = client.get(f"/v1/jobs/{job.id}/report", headers={"Accept": "text/html"})
    assert page.status_code == 200
    assert client.get(f"/v1/jobs/{job.id}/metrics").json() == {}
    assert client.get(f"/v1/jobs/{job.id}/logs").content == b""
    assert client.get(f"/v1/jobs/{job.id}/predictions").text == "row,actual,prediction\n"
    series = client.get(f"/v1/jobs/{job.id}/series").content
    assert pyarrow.parquet.read_table(io.BytesIO(series)).num_rows == 0


def test_a_job_whose_worker_left_no_readings_says_no_more_than_that(
    service: Service, client: httpx.Client
) -> None:
    """It was begun, and may have trained: nobody knows."""
    job = service.running_job()
    while job.state == "running":
        lost = service.records.requeue_lost(job.id, job.fence)
        assert lost is not None
        job = service.records.claim_job(job.id, "test") or lost
    report = client.get(f"/v1/jobs/{job.id}/report").json()
    jsonschema.validate(report, client.get("/v1/schemas/report.json").json())
    assert report["summary"].startswith(
        "The job failed: the training process or its worker died. No readings"
    )
    assert "before its first step" not in report["summary"]
    told = report["provenance"]
    assert (told["status"], told["attempts"], told["rests_on"]) == ("worker_lost", 3, [])


def test_a_job_whose_data_was_rejected_has_a_report(service: Service, client: httpx.Client) -> None:
    dataset = client.post("/v1/datasets", content=b"a,b\n1\n").json()
    job = client.post("/v1/jobs", json={"dataset_id": dataset["id"], "target": "b"}).json()
    claimed = service.records.claim_dataset(dataset["id"], "test")
    assert claimed is not None
    service.records.reject_dataset(dataset["id"], claimed.fence, {"detail": "row 0 is short"})
    assert client.get(f"/v1/jobs/{job['id']}").json()["error"]["code"] == "bad_data"
    report = client.get(f"/v1/jobs/{job['id']}/report").json()
    jsonschema.validate(report, client.get("/v1/schemas/report.json").json())
    assert "row 0 is short" in report["summary"]


def test_impossible_accept(service: Service, client: httpx.Client) -> None:
    job = service.ended_job()
    for path in ("report", "events"):
        answer = client.get(f"/v1/jobs/{job.id}/{path}", headers={"Accept": "image/gif"})
        assert_problem(answer, 406, "not_acceptable")


def test_no_accept_header_means_anything(service: Service, client: httpx.Client) -> None:
    job = service.ended_job()
    del client.headers["Accept"]
    assert client.get(f"/v1/jobs/{job.id}/report").headers["Content-Type"] == "application/json"
    assert client.get(f"/v1/jobs/{job.id}/events").headers["Content-Type"].startswith("text/event-stream")
