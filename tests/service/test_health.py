"""Probes and measures."""

from __future__ import annotations

import httpx2 as httpx

from service.conftest import Service, assert_problem


def test_ready_once_a_worker_has_sent_a_heartbeat(service: Service) -> None:
    with service.client("") as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        service.records.remove_worker("worker-1")
        before = client.get("/readyz")
        assert before.status_code == 503
        assert before.json()["missing"] == ["worker"]
        service.records.worker_heartbeat("worker-1", {"devices": ["cpu"]})
        after = client.get("/readyz")
        assert (after.status_code, after.json()["missing"]) == (200, [])
        assert after.json()["checks"]["broker"] is True
        service.records.remove_worker("worker-1")


def test_a_device_that_a_live_worker_offers(service: Service, client: httpx.Client) -> None:
    config = {"dataset_id": service.ready_dataset().id, "target": "price", "device": "cuda"}
    assert_problem(client.post("/v1/jobs", json=config), 422, "invalid")
    service.records.worker_heartbeat("worker-2", {"devices": ["cpu", "cuda:0"]})
    assert client.post("/v1/jobs", json=config).status_code == 202
    service.records.remove_worker("worker-2")


def test_measures_count_requests_by_route(service: Service, client: httpx.Client) -> None:
    client.get("/v1/jobs/job_" + "0" * 22)
    text = client.get("/metrics").text
    assert 'gradkeel_http_requests_total{method="GET",route="/v1/jobs/<job_id>",status="404"}' in text
    assert "gradkeel_workers_live" in text
    queued = service.records.job_counts().get("queued", 0)
    assert f'gradkeel_jobs{{state="queued"}} {queued}.0' in text


def test_headers_of_every_answer(client: httpx.Client) -> None:
    for path in ("/v1/jobs", "/nothing", "/healthz", "/docs"):
        headers = client.get(path).headers
        assert headers["X-Request-Id"].startswith("req_")
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "Access-Control-Allow-Origin" not in headers
