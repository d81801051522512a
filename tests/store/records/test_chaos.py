"""Workers and reapers killed and frozen at random while jobs pour in: each job ends exactly once.

`GRADKEEL_CHAOS_JOBS` and `GRADKEEL_CHAOS_KILLS` make it larger, `GRADKEEL_CHAOS_SEED` repeats a run. The
whole stack under the same treatment is ``make chaos``.
"""

from __future__ import annotations

import os
import random
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from gradkeel_store.records import DatasetRow, Records
from gradkeel_store.records.tables import job_events, jobs
from making import CONFIG, ready_dataset
from servers import die_with_parent

PROGRAM = Path(__file__).with_name("chaos.py")
JOBS = int(os.environ.get("GRADKEEL_CHAOS_JOBS", "80"))
KILLS = int(os.environ.get("GRADKEEL_CHAOS_KILLS", "4"))
SEED = os.environ.get("GRADKEEL_CHAOS_SEED") or secrets.token_hex(4)
ROLES = ("work", "work", "reap", "reap")
PATIENCE_SECONDS = 2.0
DEADLINE_SECONDS = 60 + JOBS / 5 + 5 * KILLS


class Crowd:
    """Processes of every role; one that is killed is followed by another of its role."""

    def __init__(self, url: str, dice: random.Random) -> None:
        self.url, self.dice = url, dice
        self.started = 0
        self.members = [self.start(role) for role in ROLES]

    def start(self, role: str) -> tuple[str, subprocess.Popen[str]]:
        self.started += 1
        command = [sys.executable, str(PROGRAM), self.url, role, f"{role}-{self.started}"]
        process = subprocess.Popen(
            [*command, f"{SEED}-{self.started}"],
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return role, process

    def strike(self) -> str:
        """kill -9 a member, or freeze one past its lease and let it go on as if nothing had been."""
        index = self.dice.randrange(len(self.members))
        role, process = self.members[index]
        if self.dice.random() < 0.25:
            process.send_signal(signal.SIGSTOP)
            return f"froze {role}"
        process.kill()
        process.wait()
        self.members[index] = self.start(role)
        return f"killed {role}"

    def thaw(self) -> None:
        for _, process in self.members:
            process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        for _, process in self.members:
            process.kill()
            process.wait()


def unended(records: Records) -> int:
    counts = records.job_counts()
    return counts["queued"] + counts["running"]


def settle(records: Records, crowd: Crowd, left: int, deadline: float) -> None:
    """Wait until no more than ``left`` jobs have not ended."""
    thaw = time.monotonic() + PATIENCE_SECONDS
    while unended(records) > left:
        assert time.monotonic() < deadline, f"seed {SEED}: {records.job_counts()}"
        if time.monotonic() > thaw:  # one frozen inside its transaction keeps all of SQLite waiting
            crowd.thaw()
        time.sleep(0.02)


@pytest.mark.timeout(DEADLINE_SECONDS + 120)
def test_each_job_ends_once_whoever_is_killed(records: Records, project: str, database_url: str) -> None:
    print(f"GRADKEEL_CHAOS_SEED={SEED}")
    dice = random.Random(SEED)
    dataset = ready_dataset(records, project)
    made = pour(records, project, dataset)
    crowd = Crowd(database_url, dice)
    deadline = time.monotonic() + DEADLINE_SECONDS
    try:
        for strike in range(KILLS):
            # Struck at moments that the jobs' own progress gives, so that every phase is met.
            settle(records, crowd, JOBS - 1 - strike * JOBS // (KILLS + 1), deadline)
            print(crowd.strike())
            if dice.random() < 0.5:
                crowd.thaw()
        crowd.thaw()
        settle(records, crowd, 0, deadline)
    finally:
        crowd.close()
    check(records, made)


def pour(records: Records, project: str, dataset: DatasetRow) -> set[str]:
    # More attempts than there are kills: what is tested is that none is lost, not that poison ends.
    made = {records.create_job(project, dataset.id, CONFIG, CONFIG).id for _ in range(JOBS)}
    with records.engine.begin() as connection:
        connection.execute(jobs.update().values(max_attempts=1_000_000))
    return made


def check(records: Records, made: set[str]) -> None:
    """Every job is there and has ended by one terminal event; each claim raised a fence by one."""
    with records.engine.connect() as connection:
        rows = {row.id: row for row in connection.execute(sa.select(jobs))}
        events = connection.execute(
            sa.select(job_events).order_by(job_events.c.job_id, job_events.c.id)
        ).all()
    assert set(rows) == made
    assert {row.state for row in rows.values()} == {"succeeded"}
    ends = [event.job_id for event in events if event.terminal]
    assert sorted(ends) == sorted(made)
    claims = sum(event.data["state"] == "running" for event in events)
    assert claims == sum(row.fence for row in rows.values())
    print(f"{len(made)} jobs, {claims} claims, {KILLS} strikes: none lost, none ended twice")
