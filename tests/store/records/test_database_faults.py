"""The database stops, restarts, dies or runs full under open records."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gradkeel_store.errors import Unavailable
from gradkeel_store.records import Records
from making import CONFIG, queued_job, ready_dataset, running_job
from servers import Postgres, running_postgres


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A server that this test may stop."""
    with running_postgres() as server:
        yield server


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_restart_is_survived(own_postgres: Postgres, end: str) -> None:
    records = Records.open(own_postgres.create_database())
    project = records.default_project()
    job = running_job(records, project)
    own_postgres.stop() if end == "stop" else own_postgres.kill()
    for attempt in (records.ping, records.leases, lambda: records.heartbeat_job(job.id, job.fence)):
        with pytest.raises(Unavailable):
            attempt()
    own_postgres.start()
    assert records.heartbeat_job(job.id, job.fence)
    assert records.finish_job(job.id, job.fence, "succeeded")
    assert records.get_job(project, job.id).state == "succeeded"


FILL = """
import sys
from pathlib import Path
from gradkeel_store.errors import StorageFull
from gradkeel_store.records import Records
place = Path(sys.argv[1])
records = Records.open(f"sqlite:///{place}/r.db")
project = records.default_project()
(place / "filler").write_bytes(bytes(3 * 1024 * 1024))
made = []
try:
    while True:
        made.append(records.create_dataset(project, "x.csv", "0" * 64, 1, {"note": "x" * 100_000}).id)
except StorageFull:
    print("full", flush=True)
(place / "filler").unlink()
assert {row.id for row in records.list_datasets(project, 1000).rows} == set(made)
records.create_dataset(project, "y.csv", "1" * 64, 1)
print(len(made) > 0)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount a small tmpfs")
def test_a_full_disk_keeps_what_was_acknowledged_and_nothing_else(tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(place)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount here: {mounted.stderr.strip()}")
    try:
        said = subprocess.run([sys.executable, "-c", FILL, str(place)], capture_output=True, text=True)
        assert said.stdout.split() == ["full", "True"], said.stderr
    finally:
        subprocess.run(["umount", str(place)], check=True)


WRITE = """
import sys
from gradkeel_store.records import Records
records = Records.open(sys.argv[1])
while True:
    print(records.create_job(sys.argv[2], sys.argv[3], {"n": "x" * 5000}, {}).id, flush=True)
"""


def test_a_killed_writer_loses_nothing_it_acknowledged(
    records: Records, project: str, database_url: str
) -> None:
    dataset = ready_dataset(records, project)
    command = [sys.executable, "-c", WRITE, database_url, project, dataset.id]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        said = [writer.stdout.readline() for _ in range(20)]
        writer.send_signal(signal.SIGKILL)
        said += writer.stdout.readlines()
    acknowledged = {line.strip() for line in said if line.endswith("\n")}
    stored = {row.id for row in records.list_jobs(project, limit=1000).rows}
    assert acknowledged <= stored
    assert len(stored - acknowledged) <= 1  # committed, but killed before it could say so
    for job_id in stored:
        assert [event.name for event in records.lifecycle_events(job_id)] == ["state"]
    assert queued_job(records, project, dataset).config == CONFIG
