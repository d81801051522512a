"""schemathesis on the served description, with all checks but a few, each operation alone and along links.

`GRADKEEL_API_EXAMPLES` gives each operation more requests, then with a seed of their own
(`GRADKEEL_API_SEED`).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest

from client.local.conftest import TYPES, make_bundle, make_columns
from gradkeel.contract.problems import Problem
from gradkeel_store.records.submissions import NewSubmission
from service.conftest import Service, running_service

FOLDER = Path(__file__).parent
EXAMPLES = int(os.environ.get("GRADKEEL_API_EXAMPLES", "2"))
SEED = os.environ.get("GRADKEEL_API_SEED", "1")
UNSUITED = ("use_after_free", "ensure_resource_availability")
"""A deleted key is revoked and stays to be read, with the time; and walks go on from what they have just made
with an id of their own making. The tests of each resource look whether what was deleted is gone."""
COPIES = 12
"""Of each thing so many lie there: the fuzzer deletes what it finds."""

COUNTED = re.compile(r'gradkeel_http_requests_total\{method="(\w+)",route="([^"]+)",status="(\d+)"\}')


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """One of its own: others hold damaged objects, which are rightly answered 500."""
    with running_service(GRADKEEL_RATE_LIMIT="0") as running:
        yield running


def furnish(service: Service, bundle: Path) -> dict[str, list[str]]:
    """Make some of everything; ids by the parameter of paths that asks for them."""
    model = {
        "target": "y",
        "task": "regression",
        "columns": [],
        "classes": None,
        "digests": {"bundle": f"sha256:{service.objects.put_file(bundle)}"},
    }
    ended = [service.ended_job(model) for _ in range(COPIES)]
    queued = [service.job() for _ in range(COPIES)]
    with service.client() as client:
        return {
            "job_id": [job.id for job in ended],
            "queued": [job.id for job in queued],
            "model_id": [str(job.model_id) for job in ended],
            "dataset_id": [job.dataset_id for job in ended],
            "sha256": [client.get(f"/v1/datasets/{ended[0].dataset_id}").json()["sha256"]],
            "batch_id": [batch(client, ended[0].dataset_id) for _ in range(3)],
            "upload_id": [announced(client) for _ in range(COPIES)],
            "key_id": [service.records.create_key(service.project, ("read",))[0].id for _ in range(COPIES)],
            "submission_id": [a_submission(service)],
        }


def batch(client: httpx.Client, dataset_id: str) -> str:
    line = json.dumps({"custom_id": "a", "config": {"dataset_id": dataset_id, "target": "price"}})
    answer = client.post("/v1/batches", content=line, headers={"Content-Type": "application/jsonl"})
    return str(answer.raise_for_status().json()["id"])


def a_submission(service: Service) -> str:
    """The record of one that was refused."""
    problem = Problem("invalid", "the config names no target").to_json()
    new = NewSubmission(service.project, "order-1", "0" * 64, error=problem)
    service.records.record_submissions([new], lambda _new, _error: problem)
    return new.submission_id


def announced(client: httpx.Client) -> str:
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": "100"}
    return str(client.post("/v1/uploads", headers=headers).raise_for_status().json()["id"])


def operations(client: httpx.Client) -> set[tuple[str, str]]:
    document = client.get("/openapi.json").json()
    return {
        (method.upper(), path)
        for path, item in document["paths"].items()
        for method in item
        if method != "parameters"
    }


def reached(client: httpx.Client) -> dict[tuple[str, str], set[int]]:
    """The statuses that each operation has answered with, by the service's own count."""
    found: dict[tuple[str, str], set[int]] = defaultdict(set)
    for method, route, status in COUNTED.findall(client.get("/metrics").text):
        found[method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", route)].add(int(status))
    return found


@pytest.mark.timeout(3600)
def test_every_operation_answers_as_described(service: Service, tmp_path: Path) -> None:
    there = furnish(service, make_bundle(tmp_path / "m.gradkeel", make_columns(), **TYPES))
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(FOLDER / "schemathesis.toml")),
        *("run", f"{service.url}/openapi.json", "--header", f"Authorization: Bearer {service.admin}"),
        *("--exclude-checks", ",".join(UNSUITED)),
        *("--checks", "all", "--max-examples", str(EXAMPLES), "--seed", SEED, "--generation-deterministic"),
    ]
    env = os.environ | {"GRADKEEL_OWN_KEY": service.admin.partition(".")[0], "PYTHONPATH": str(FOLDER)}
    env["GRADKEEL_THERE"] = json.dumps(there)
    run = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-12000:] + run.stderr[-2000:] + service.log
    with service.client() as client:
        answered = reached(client)
        missed = {
            operation: sorted(answered[operation])
            for operation in operations(client)
            if not any(200 <= status < 300 for status in answered[operation])
        }
    assert not missed, missed
    assert not any(status in (500, 501, 502) for statuses in answered.values() for status in statuses)
