"""The types that the SDK promises: a user's script passes mypy --strict, a wrong one does not."""

from __future__ import annotations

from pathlib import Path

import pytest
from mypy import api

GOOD = """
from gradkeel import AsyncClient, Client, JobFailed, ProgressLine
from gradkeel.testing import FakeService

with Client(transport=FakeService()) as client:
    data = client.datasets.upload(b"a,b\\n1,2\\n2,3\\n")
    rows: int | None = data.rows
    job = client.jobs.create(data, target="b", preset="fast")
    try:
        job.wait(on_event=ProgressLine())
    except JobFailed as error:
        print(error.problem, error.request_id)
    names: list[str] = [event.name for event in job.stream()]
    for found in client.jobs.list():
        print(found.id.upper())


async def work(client: AsyncClient) -> float:
    job = await client.jobs.get("job_1")
    async for event in job.stream():
        print(event.id + 1)
    return job.progress.fraction if job.progress else 0.0
"""
BAD = """
from gradkeel import Client

client = Client(retries=3)
rows: str = client.datasets.get("ds_1").rows
client.jobs.get("job_1").state = "failed"
for event in client.jobs.get("job_1").stream():
    event.name + 1
"""


@pytest.mark.parametrize(("script", "faults"), [(GOOD, []), (BAD, [4, 5, 6, 8])], ids=["good", "bad"])
def test_a_users_script(tmp_path: Path, script: str, faults: list[int]) -> None:
    path = tmp_path / "script.py"
    path.write_text(script)
    cache = Path(__file__).parents[2] / ".mypy_cache"
    said, trouble, _ = api.run(["--strict", "--config-file=", f"--cache-dir={cache}", str(path)])
    assert trouble == ""
    lines = sorted({int(line.split(":")[1]) for line in said.splitlines() if "script.py:" in line})
    assert lines == faults, said
