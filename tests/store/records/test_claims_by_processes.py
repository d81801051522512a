"""Several processes at one database: each job is claimed once and ends once."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from gradkeel_store.records import Records
from making import queued_job, ready_dataset

WORKER = Path(__file__).parent / "claimer.py"
JOBS, PROCESSES = 60, 4


def run(database_url: str, *arguments: str) -> list[dict[str, list[str]]]:
    """Start the workers, let them go at once, and collect what each says it did."""
    command = [sys.executable, str(WORKER), database_url, *arguments]
    started = [
        subprocess.Popen([*command, f"worker-{n}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for n in range(PROCESSES)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    said = []
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in started:
        said.append(json.loads(process.communicate()[0]))
        assert process.returncode == 0
    return said


@pytest.mark.parametrize("how", ["next", "by-id"])
def test_each_job_is_claimed_and_ended_once(
    records: Records, project: str, database_url: str, how: str
) -> None:
    dataset = ready_dataset(records, project)
    made = {queued_job(records, project, dataset).id for _ in range(JOBS)}
    said = run(database_url, how)
    claimed = Counter(job_id for one in said for job_id in one["claimed"])
    finished = Counter(job_id for one in said for job_id in one["finished"])
    assert claimed == finished == Counter(made)
    for job_id in made:
        job = records.get_job(project, job_id)
        assert (job.state, job.attempt, job.fence) == ("succeeded", 1, 1)
        assert [event.terminal for event in records.lifecycle_events(job_id)] == [False, False, True]


def test_two_reapers_requeue_once(records: Records, project: str, database_url: str) -> None:
    dataset = ready_dataset(records, project)
    made = [queued_job(records, project, dataset).id for _ in range(JOBS)]
    for job_id in made:
        assert records.claim_job(job_id, "gone")
    said = run(database_url, "reap")
    assert Counter(job_id for one in said for job_id in one["reaped"]) == Counter(made)
    for job_id in made:
        job = records.get_job(project, job_id)
        assert (job.state, job.interruptions) == ("queued", 1)


def test_one_key_makes_one_job_whoever_asks(records: Records, project: str, database_url: str) -> None:
    dataset = ready_dataset(records, project)
    said = run(database_url, "create", project, dataset.id)
    assert len({job_id for one in said for job_id in one["created"]}) == 1
    assert records.job_counts(project)["queued"] == 1
