"""The job record against a model of it: whatever the order of calls, the promise holds.

Each job ends at most once, a stale fence changes nothing, and the events tell the same story as the row.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from gradkeel_store.errors import AlreadyEnded
from gradkeel_store.records import Records
from making import queued_job, ready_dataset

ENDS = ("succeeded", "failed", "cancelled")
ATTEMPTS = 3


@dataclass
class Expected:
    """What the model knows of one job."""

    state: str = "queued"
    fence: int = 0
    attempt: int = 0
    interruptions: int = 0
    cancel: bool = False
    story: list[str] = field(default_factory=lambda: ["queued"])

    def go(self, state: str) -> None:
        self.state = state
        self.story.append(state)

    def back(self) -> None:
        self.go("queued")
        if self.cancel:
            self.go("cancelled")


class JobMachine(RuleBasedStateMachine):
    """Calls of workers, reapers and users in any order, stale ones among them."""

    jobs = Bundle("jobs")
    claims = Bundle("claims")

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.records = Records.open(f"sqlite:///{self.folder.name}/r.db", max_attempts=ATTEMPTS)
        self.project = self.records.default_project()
        self.dataset = ready_dataset(self.records, self.project)
        self.expected: dict[str, Expected] = {}

    def teardown(self) -> None:
        self.records.close()
        self.folder.cleanup()

    def holds(self, claim: tuple[str, int]) -> Expected | None:
        model = self.expected[claim[0]]
        return model if (model.state, model.fence) == ("running", claim[1]) else None

    @rule(target=jobs)
    def create(self) -> str:
        job = queued_job(self.records, self.project, self.dataset)
        self.expected[job.id] = Expected()
        return job.id

    @rule(target=claims, job=jobs)
    def claim(self, job: str) -> Any:
        model = self.expected[job]
        claimed = self.records.claim_job(job, "w")
        assert (claimed is not None) == (model.state == "queued")
        if claimed is None:
            return multiple()
        model.fence += 1
        model.attempt += 1
        model.go("running")
        assert claimed.fence == model.fence
        return job, claimed.fence

    @rule(target=claims)
    def claim_next(self) -> Any:
        claimed = self.records.claim_next("w")
        queued = [job for job, model in self.expected.items() if model.state == "queued"]
        assert (claimed.id if claimed else None) == (queued[0] if queued else None)
        if claimed is None:
            return multiple()
        model = self.expected[claimed.id]
        model.fence += 1
        model.attempt += 1
        model.go("running")
        return claimed.id, claimed.fence

    @rule(claim=claims)
    def heartbeat(self, claim: tuple[str, int]) -> None:
        assert self.records.heartbeat_job(*claim) == (self.holds(claim) is not None)

    @rule(claim=claims, state=st.sampled_from(ENDS))
    def finish(self, claim: tuple[str, int], state: str) -> None:
        model = self.holds(claim)
        assert self.records.finish_job(*claim, state) == (model is not None)
        if model:
            model.go(state)

    @rule(claim=consumes(claims))
    def release(self, claim: tuple[str, int]) -> None:
        model = self.holds(claim)
        assert self.records.release_job(*claim) == (model is not None)
        if model:
            model.attempt -= 1
            model.back()

    @rule(claim=claims)
    def lose(self, claim: tuple[str, int]) -> None:
        model = self.holds(claim)
        assert (self.records.requeue_lost(*claim) is not None) == (model is not None)
        if model is None:
            return
        model.interruptions += 1
        if model.attempt < ATTEMPTS or model.cancel:
            model.back()
        else:
            model.go("failed")

    @rule(job=jobs)
    def cancel(self, job: str) -> None:
        model = self.expected[job]
        try:
            self.records.request_cancel(self.project, job)
        except AlreadyEnded:
            assert model.state in ("succeeded", "failed")
            return
        assert model.state not in ("succeeded", "failed")
        if model.state == "queued":
            model.go("cancelled")
        model.cancel = model.cancel or model.state in ("running", "cancelled")

    @invariant()
    def rows_and_events_tell_the_same(self) -> None:
        for job_id, model in self.expected.items() if hasattr(self, "expected") else ():
            row = self.records.get_job(self.project, job_id)
            assert (row.state, row.fence, row.attempt) == (model.state, model.fence, model.attempt)
            assert row.interruptions == model.interruptions
            assert (row.lease_owner is not None) == (row.state == "running")
            assert (row.ended_at is not None) == (row.state in ENDS)
            events = self.records.lifecycle_events(job_id)
            assert [event.data["state"] for event in events] == model.story
            assert sum(event.terminal for event in events) == (row.state in ENDS)


# No deadline: the machine waits for a real disk.
JobMachine.TestCase.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestJobMachine = JobMachine.TestCase
