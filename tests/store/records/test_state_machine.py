"""The job record against a model of it, on each database: whatever the order of calls, the promise holds.

Each job ends at most once, a stale fence changes nothing, and the events tell the same story as the row.
`GRADKEEL_STATE_EXAMPLES` gives the machine more runs, then with fresh random numbers.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gradkeel.contract.problems import Problem
from gradkeel_store.errors import (
    AlreadyEnded,
    DatasetRejected,
    IdempotencyMismatch,
    InUse,
    NotEnded,
    NotFound,
    StoreError,
)
from gradkeel_store.records import Lease, Records
from gradkeel_store.records.tables import metadata
from making import COLUMNS, CONFIG, MODEL, PARQUET, PROFILE, SHA, Clock

T = TypeVar("T")

ENDS = ("succeeded", "failed", "cancelled")
OWNERS = ("first", "second")
ATTEMPTS = 3
EXAMPLES = int(os.environ.get("GRADKEEL_STATE_EXAMPLES", "0"))
NTH = st.integers(0, 3)
OWNER = st.sampled_from(OWNERS)
BAD_DATA = Problem("bad_data", "the third line is short")


def late(known: Iterable[T], nth: int) -> T:
    """One of the last few; 0 is the last."""
    listed = list(known)
    return listed[-1 - nth % len(listed)]


@dataclass
class Data:
    """What the model knows of one data set. ``state`` may also be "deleted"."""

    project: str
    state: str = "ingesting"
    fence: int = 0
    attempt: int = 0
    held: bool = False


@dataclass
class Job:
    """What the model knows of one job."""

    project: str
    dataset: str
    priority: int
    run_after: datetime | None
    queued_at: datetime
    retry_of: str | None = None
    state: str = "queued"
    owner: str | None = None
    fence: int = 0
    heartbeats: int = 0
    attempt: int = 0
    interruptions: int = 0
    cancel: bool = False
    model: bool = False
    checkpoint: str | None = None
    story: list[str] = field(default_factory=lambda: ["queued"])

    def go(self, state: str, now: datetime) -> None:
        self.state = state
        self.story.append(state)
        self.owner = self.owner if state == "running" else None
        if state == "queued":
            self.queued_at = now

    def back(self, now: datetime) -> None:
        self.go("queued", now)
        if self.cancel:
            self.go("cancelled", now)

    @property
    def ended(self) -> bool:
        return self.state in ENDS


class JobMachine(RuleBasedStateMachine):
    """Calls of workers, reapers and users in any order, stale ones among them, under a clock that jumps."""

    def __init__(self, records: Records, clock: Clock) -> None:
        super().__init__()
        self.records, self.clock = records, clock
        self.data: dict[str, Data] = {}
        self.readings: list[tuple[str, int]] = []
        self.claims: list[tuple[str, int]] = []
        self.sightings: list[Lease] = []
        self.expected: dict[str, Job] = {}
        self.keys: dict[tuple[str, str], str] = {}
        self.touched: set[str] = set()

    @initialize()
    def begin(self) -> None:
        with self.records.engine.begin() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(table.delete())
        self.clock.__init__()  # type: ignore[misc]
        self.projects = (self.records.default_project(), self.records.project_named("another"))
        for number in (0, 1):
            self.upload_and_read(number)
            self.make(late(self.data, 0), run_after=self.clock() + timedelta(minutes=30))
            self.make(late(self.data, 0))
        self.claim(0, OWNERS[0])
        self.look_at_leases()

    def teardown(self) -> None:
        self.touched = set(self.expected)
        self.rows_and_events_tell_the_same()

    # What the model can say

    def holds(self, claim: tuple[str, int]) -> Job | None:
        job = self.expected[claim[0]]
        self.touched.add(claim[0])
        return job if (job.state, job.fence) == ("running", claim[1]) else None

    def claimable(self, job: Job) -> bool:
        due = job.run_after is None or job.run_after <= self.clock()
        return job.state == "queued" and due and self.data[job.dataset].state == "ready"

    def running(self, project: str) -> int:
        return sum(job.state == "running" for job in self.expected.values() if job.project == project)

    def refusal(self, dataset: str) -> type[StoreError] | None:
        """What a new job on this data set is refused with."""
        return {"deleted": NotFound, "rejected": DatasetRejected}.get(self.data[dataset].state)

    def claimed(self, job_id: str, owner: str, fence: int) -> None:
        job = self.expected[job_id]
        job.owner, job.heartbeats = owner, 0
        job.fence += 1
        job.attempt += 1
        job.go("running", self.clock())
        self.touched.add(job_id)
        assert fence == job.fence
        self.claims.append((job_id, fence))

    # Users

    @rule(nth=NTH, priority=st.integers(-1, 1), wait=st.sampled_from((None, -1, 1)))
    def create(self, nth: int, priority: int, wait: int | None) -> None:
        run_after = None if wait is None else self.clock() + timedelta(hours=wait)
        self.make(late(self.data, nth), priority=priority, run_after=run_after)

    @rule(nth=NTH, key=st.sampled_from("ab"))
    def create_under_a_key(self, nth: int, key: str) -> None:
        dataset = late(self.data, nth)
        place = (self.data[dataset].project, key)
        before = self.keys.get(place)
        if before is None:
            if made := self.make(dataset, idempotency_key=key):
                self.keys[place] = made
            return
        again = {"idempotency_key": key}
        if self.expected[before].dataset == dataset:
            assert self.records.create_job(place[0], dataset, CONFIG, CONFIG, **again).id == before
        else:
            with pytest.raises(IdempotencyMismatch):
                self.records.create_job(place[0], dataset, CONFIG, CONFIG, **again)

    def make(self, dataset: str, **options: Any) -> str | None:
        project = self.data[dataset].project
        if refusal := self.refusal(dataset):
            with pytest.raises(refusal):
                self.records.create_job(project, dataset, CONFIG, CONFIG, **options)
            return None
        row = self.records.create_job(project, dataset, CONFIG, CONFIG, **options)
        return self.remember(row.id, dataset, options.get("priority", 0), options.get("run_after"), None)

    def remember(
        self,
        job_id: str,
        dataset: str,
        priority: int,
        run_after: datetime | None,
        retry_of: str | None = None,
    ) -> str:
        job = Job(self.data[dataset].project, dataset, priority, run_after, self.clock(), retry_of)
        self.expected[job_id] = job
        self.touched.add(job_id)
        return job_id

    @rule(nth=NTH)
    def retry(self, nth: int) -> None:
        job_id = late(self.expected, nth)
        job = self.expected[job_id]
        refusal = self.refusal(job.dataset) if job.ended else NotEnded
        if refusal is not None:
            with pytest.raises(refusal):
                self.records.retry_job(job.project, job_id)
            return
        row = self.records.retry_job(job.project, job_id)
        self.remember(row.id, job.dataset, job.priority, None, job_id)

    @rule(nth=NTH)
    def cancel(self, nth: int) -> None:
        job_id = late(self.expected, nth)
        job = self.expected[job_id]
        self.touched.add(job_id)
        if job.state in ("succeeded", "failed"):
            with pytest.raises(AlreadyEnded):
                self.records.request_cancel(job.project, job_id)
            return
        self.records.request_cancel(job.project, job_id)
        if job.state == "queued":
            job.go("cancelled", self.clock())
        job.cancel = job.cancel or job.story[-2:] == ["queued", "cancelled"] or job.state == "running"

    @rule(nth=NTH)
    def another_project_sees_nothing(self, nth: int) -> None:
        job_id = late(self.expected, nth)
        stranger = next(name for name in self.projects if name != self.expected[job_id].project)
        for look in (self.records.get_job, self.records.request_cancel, self.records.retry_job):
            with pytest.raises(NotFound):
                look(stranger, job_id)

    # Data sets

    @rule(number=st.integers(0, 1))
    def upload(self, number: int) -> None:
        row = self.records.create_dataset(self.projects[number], "t.csv", SHA, 9)
        self.data[row.id] = Data(self.projects[number])

    @rule(number=st.integers(0, 1))
    def upload_and_read(self, number: int) -> None:
        """Most runs need data that is ready."""
        self.upload(number)
        self.read(0)
        self.make_ready(0)

    @rule(nth=NTH)
    def read(self, nth: int) -> None:
        dataset = late(self.data, nth)
        data = self.data[dataset]
        row = self.records.claim_dataset(dataset, "reader")
        assert (row is not None) == (data.state == "ingesting" and not data.held)
        if row is None:
            return
        data.fence, data.attempt, data.held = data.fence + 1, data.attempt + 1, True
        assert row.fence == data.fence
        self.readings.append((dataset, row.fence))

    def reads(self, reading: tuple[str, int]) -> Data | None:
        data = self.data[reading[0]]
        return data if (data.state, data.held, data.fence) == ("ingesting", True, reading[1]) else None

    @rule(nth=NTH)
    def make_ready(self, nth: int) -> None:
        reading = late(self.readings, nth)
        data = self.reads(reading)
        done = self.records.finish_dataset(*reading, PARQUET, PROFILE, 20, COLUMNS)
        assert done == (data is not None)
        if data:
            data.state, data.held = "ready", False

    @rule(nth=NTH)
    def reject(self, nth: int) -> None:
        reading = late(self.readings, nth)
        data = self.reads(reading)
        assert self.records.reject_dataset(*reading, BAD_DATA) == (data is not None)
        if data:
            self.rejected(reading[0], data)

    @rule(nth=NTH)
    def lose_reader(self, nth: int) -> None:
        reading = late(self.readings, nth)
        data = self.reads(reading)
        assert self.records.requeue_lost_dataset(*reading) == (data is not None)
        if data and data.attempt < ATTEMPTS:
            data.held = False
        elif data:
            self.rejected(reading[0], data)

    def rejected(self, dataset: str, data: Data) -> None:
        data.state, data.held = "rejected", False
        for job_id, job in self.expected.items():
            if job.dataset == dataset and job.state == "queued":
                job.go("failed", self.clock())
                self.touched.add(job_id)

    @rule(nth=NTH)
    def delete(self, nth: int) -> None:
        dataset = late(self.data, nth)
        data = self.data[dataset]
        needed = any(job.dataset == dataset and not job.ended for job in self.expected.values())
        if data.state == "deleted" or needed:
            with pytest.raises(NotFound if data.state == "deleted" else InUse):
                self.records.delete_dataset(data.project, dataset)
            return
        self.records.delete_dataset(data.project, dataset)
        data.state, data.held = "deleted", False

    # Workers

    @rule(nth=NTH, owner=OWNER)
    def claim(self, nth: int, owner: str) -> None:
        job_id = late(self.expected, nth)
        possible = self.claimable(self.expected[job_id])
        row = self.records.claim_job(job_id, owner)
        assert (row is not None) == possible
        if row is not None:
            self.claimed(job_id, owner, row.fence)

    @rule(owner=OWNER)
    def claim_next(self, owner: str) -> None:
        possible = {job_id: job for job_id, job in self.expected.items() if self.claimable(job)}
        row = self.records.claim_next(owner)
        assert (row is not None) == bool(possible)
        if row is None:
            return
        assert row.id in possible
        chosen = possible[row.id]
        rivals = [job for job in possible.values() if job.project == chosen.project]
        assert chosen.priority == max(job.priority for job in rivals)
        waiting = {job.project for job in possible.values()}
        assert self.running(chosen.project) == min(self.running(project) for project in waiting)
        self.claimed(row.id, owner, row.fence)

    @precondition(lambda self: self.claims)
    @rule(nth=NTH, progress=st.sampled_from((None, {"phase": "train", "epoch": 1})))
    def heartbeat(self, nth: int, progress: dict[str, Any] | None) -> None:
        claim = late(self.claims, nth)
        job = self.holds(claim)
        assert self.records.heartbeat_job(*claim, progress) == (job is not None)
        if job:
            job.heartbeats += 1

    @precondition(lambda self: self.claims)
    @rule(nth=NTH)
    def keep_config(self, nth: int) -> None:
        claim = late(self.claims, nth)
        assert self.records.set_config(*claim, CONFIG) == (self.holds(claim) is not None)

    @precondition(lambda self: self.claims)
    @rule(nth=NTH, digest=st.sampled_from((SHA, PARQUET)))
    def save_checkpoint(self, nth: int, digest: str) -> None:
        claim = late(self.claims, nth)
        job = self.holds(claim)
        assert self.records.save_checkpoint(*claim, digest) == (job is not None)
        if job:
            job.checkpoint = digest

    @precondition(lambda self: self.claims)
    @rule(nth=NTH, state=st.sampled_from(ENDS))
    def finish(self, nth: int, state: str) -> None:
        claim = late(self.claims, nth)
        job = self.holds(claim)
        model = MODEL if state == "succeeded" else None
        assert self.records.finish_job(*claim, state, model=model) == (job is not None)
        if job:
            job.go(state, self.clock())
            job.model = model is not None

    @precondition(lambda self: self.claims)
    @rule(nth=NTH)
    def release(self, nth: int) -> None:
        claim = late(self.claims, nth)
        job = self.holds(claim)
        assert self.records.release_job(*claim) == (job is not None)
        if job:
            job.attempt -= 1
            job.back(self.clock())

    # Reapers

    @rule()
    def look_at_leases(self) -> None:
        """What a reaper remembers; what it does about it comes later, when others have acted."""
        found = self.records.leases()
        running = {job_id: job for job_id, job in self.expected.items() if job.state == "running"}
        assert set(found) == {Lease(job_id, job.fence, job.heartbeats) for job_id, job in running.items()}
        self.sightings += found

    @precondition(lambda self: any(job.state == "running" for job in self.expected.values()))
    @rule(nth=NTH)
    def reap_one_that_came_back(self, nth: int) -> None:
        """The holder gives a sign between the reaper's look and its deed."""
        running = [lease for lease in self.records.leases() if self.holds((lease.id, lease.fence))]
        seen = late(running, nth)
        assert self.records.heartbeat_job(seen.id, seen.fence)
        self.expected[seen.id].heartbeats += 1
        assert self.records.requeue_lost(seen.id, seen.fence, seen.heartbeat_seq) is None

    @precondition(lambda self: self.sightings)
    @rule(nth=NTH)
    def reap(self, nth: int) -> None:
        seen = late(self.sightings, nth)
        job = self.holds((seen.id, seen.fence))
        dead = job if job and job.heartbeats == seen.heartbeat_seq else None
        found = self.records.requeue_lost(seen.id, seen.fence, seen.heartbeat_seq)
        assert (found is not None) == (dead is not None)
        if dead:
            self.lost(dead)

    @precondition(lambda self: self.claims)
    @rule(nth=NTH)
    def lose(self, nth: int) -> None:
        """A worker sees its own child die."""
        claim = late(self.claims, nth)
        job = self.holds(claim)
        assert (self.records.requeue_lost(*claim) is not None) == (job is not None)
        if job:
            self.lost(job)

    def lost(self, job: Job) -> None:
        job.interruptions += 1
        if job.attempt < ATTEMPTS or job.cancel:
            job.back(self.clock())
        else:
            job.go("failed", self.clock())

    @rule(far=st.sampled_from(({"days": 1}, {"days": -1}, {"minutes": 61}, {"seconds": -1})))
    def jump(self, far: dict[str, float]) -> None:
        self.clock.forward(**far)

    # What always holds

    @invariant()
    def rows_and_events_tell_the_same(self) -> None:
        for job_id in self.touched:
            self.check(job_id, self.expected[job_id])
        if self.touched:
            self.check_lists()
        self.touched.clear()

    def check(self, job_id: str, job: Job) -> None:
        row = self.records.get_job(job.project, job_id)
        assert (row.state, row.fence, row.attempt) == (job.state, job.fence, job.attempt)
        assert (row.interruptions, row.lease_owner) == (job.interruptions, job.owner)
        assert (row.cancel_requested, row.retry_of) == (job.cancel, job.retry_of)
        assert 0 <= row.attempt <= row.max_attempts == ATTEMPTS
        assert (row.ended_at is not None) == job.ended
        assert job.ended or row.checkpoint == job.checkpoint
        assert (row.model_id is not None) == job.model
        events = self.records.lifecycle_events(job_id)
        assert [event.data["state"] for event in events] == job.story
        assert [event.terminal for event in events] == [state in ENDS for state in job.story]
        ids = [event.id for event in events]
        assert ids == sorted(set(ids))

    def check_lists(self) -> None:
        """What workers, reconcilers and quotas ask for."""
        requested = {owner: self.records.cancel_requests(owner) for owner in OWNERS}
        for owner, found in requested.items():
            assert set(found) == set(self.ids(lambda job, owner=owner: job.owner == owner and job.cancel))
        for project in {job.project for job in self.expected.values()}:
            queued = self.ids(lambda job, project=project: (job.state, job.project) == ("queued", project))
            assert self.records.queued_jobs(project) == len(queued)
        waiting = self.ids(lambda job: self.claimable(job) and job.queued_at <= self.clock())
        assert sorted(self.records.queued_older_than(0)) == sorted(waiting)

    def ids(self, which: Any) -> Iterable[str]:
        return [job_id for job_id, job in self.expected.items() if which(job)]


@pytest.mark.timeout(3600)
def test_the_record_does_what_the_model_says(database_url: str) -> None:
    clock = Clock()
    records = Records.open(database_url, max_attempts=ATTEMPTS, clock=clock)
    try:
        run_state_machine_as_test(
            lambda: JobMachine(records, clock),
            # No deadline: the machine waits for a real disk.
            settings=settings(
                max_examples=EXAMPLES or 60,
                stateful_step_count=40,
                derandomize=not EXAMPLES,
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        records.close()
