"""Every problem code is the answer to some request that a test sends."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx

from gradkeel.contract.problems import PROBLEMS
from gradkeel_service.idempotency import body_digest
from service.conftest import Service, assert_problem

TESTS = Path(__file__).parent.parent
FOLDERS = ("service", "system")
"""Where tests speak HTTP to a running service."""


def words(path: Path) -> Iterator[str]:
    """Every string of a test file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_each_code_is_expected_by_a_test() -> None:
    files = [path for folder in FOLDERS for path in (TESTS / folder).rglob("*.py")]
    found = {word for path in files for word in words(path)}
    assert set(PROBLEMS) <= found, f"no test provokes {sorted(set(PROBLEMS) - found)}"


def test_a_request_that_is_still_running_elsewhere(service: Service, client: httpx.Client) -> None:
    body = json.dumps({"dataset_id": service.ready_dataset().id, "target": "price"}).encode()
    begun = service.records.begin_idempotent(service.project, "slow", "POST /v1/jobs", body_digest(body))
    headers = {"Idempotency-Key": "slow", "Content-Type": "application/json"}
    answer = client.post("/v1/jobs", content=body, headers=headers)
    assert_problem(answer, 409, "in_flight")
    assert answer.headers["Retry-After"] == "1"
    service.records.abandon_idempotent(begun)  # type: ignore[arg-type]
    assert client.post("/v1/jobs", content=body, headers=headers).status_code == 202
