"""The disk of the database runs full under a running service."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest

from service.conftest import assert_problem, running_service

pytestmark = pytest.mark.system


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MiB."""
    if os.getuid() != 0:
        pytest.skip("only root may mount a small tmpfs")
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(place)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def upload(client: httpx.Client, number: int) -> httpx.Response:
    """Small content, and an idempotency key: each upload leaves two rows."""
    key = {"Idempotency-Key": f"full-{number}"}
    return client.post("/v1/datasets?name=" + "x" * 150, content=f"a,b\n{number},1\n".encode(), headers=key)


def test_507_and_nothing_half_written(small_disk: Path) -> None:
    with running_service(GRADKEEL_DATABASE_URL=f"sqlite:///{small_disk}/r.db") as service:
        filler = small_disk / "filler"
        with service.client() as client:
            kept = [upload(client, 0).json()["id"]]
            with filler.open("wb") as file:
                free = os.statvfs(small_disk)
                file.write(bytes(free.f_bavail * free.f_bsize - 200_000))
            for number in range(1, 2000):
                answer = upload(client, number)
                if answer.status_code != 201:
                    break
                kept.append(answer.json()["id"])
            assert_problem(answer, 507, "storage_full")
            assert client.get("/healthz").status_code == 200
            listed = [row.id for row in service.records.list_datasets(service.project, 1000).rows]
            assert sorted(listed) == sorted(kept)
            filler.unlink()
            again = upload(client, number)
            assert again.status_code == 201, "the key of the refused request has to be free again"
            assert "Idempotent-Replayed" not in again.headers
