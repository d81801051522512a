"""One real thing of every kind that an address may name. A new kind of place in an address is added here."""

from __future__ import annotations

import json

from gradkeel.contract.problems import Problem
from gradkeel_store.records.submissions import NewSubmission
from service.conftest import Service

TUS = {"Tus-Resumable": "1.0.0"}


def things_of_own(service: Service) -> dict[str, str]:
    """Place in an address → the id of something that the service's own project has."""
    bundle = service.objects.put_bytes(b"a bundle, as far as this goes")
    job = service.ended_job(
        {"target": "price", "task": "regression", "columns": [], "digests": {"bundle": f"sha256:{bundle}"}}
    )
    key, _ = service.records.create_key(service.project, ["read"])
    return {
        "job_id": job.id,
        "dataset_id": job.dataset_id,
        "sha256": service.records.get_dataset(service.project, job.dataset_id).sha256,
        "model_id": str(job.model_id),
        "key_id": key.id,
        "batch_id": _batch(service, job.dataset_id),
        "upload_id": _upload(service),
        "submission_id": _submission(service, job.id),
    }


def _batch(service: Service, dataset_id: str) -> str:
    line = {"custom_id": "one", "config": {"dataset_id": dataset_id, "target": "price"}}
    with service.client() as client:
        answer = client.post(
            "/v1/batches", content=json.dumps(line) + "\n", headers={"Content-Type": "application/jsonl"}
        )
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def _upload(service: Service) -> str:
    with service.client() as client:
        answer = client.post("/v1/uploads", headers=TUS | {"Upload-Length": "10"})
    assert answer.status_code == 201, answer.text
    return answer.headers["Location"].rpartition("/")[2]


def _submission(service: Service, job_id: str) -> str:
    name = f"of-{job_id}"
    problem = Problem("invalid", "rejected, for the tests").to_json()
    service.records.record_submissions(
        [NewSubmission(service.project, name, "0" * 64, error=problem)],
        lambda _, error: {"detail": str(error)},
    )
    return name
