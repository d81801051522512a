"""schemathesis on the served description: no 5xx, and every answer as described."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.conftest import Service, running_service

CHECKS = "not_a_server_error,content_type_conformance,status_code_conformance,response_schema_conformance"


@pytest.fixture
def service() -> Iterator[Service]:
    """One of its own: other tests leave damaged objects behind, which are rightly answered 500."""
    with running_service() as running:
        running.ended_job()
        yield running


def test_what_a_fuzzer_sends_is_answered_as_described(service: Service, tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{service.url}/openapi.json"),
        *("--header", f"Authorization: Bearer {service.admin}", "--checks", CHECKS),
        # Keys are left out: the fuzzer would revoke its own.
        *("--exclude-path-regex", "keys", "--phases", "fuzzing", "--max-examples", "4", "--seed", "1"),
    ]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
    assert run.returncode == 0, run.stdout[-5000:]
