"""Wall clocks that are a day apart: nobody loses a job over it, and one wins."""

from __future__ import annotations

import pytest

from gradkeel_store.leases import LeaseWatch
from gradkeel_store.records import Records
from making import Clock, queued_job, running_job

DAY = {"days": 1}


@pytest.fixture
def early() -> Clock:
    return Clock()


@pytest.fixture
def late(early: Clock) -> Clock:
    clock = Clock()
    clock.forward(**DAY)
    return clock


def test_a_holder_keeps_its_job_whatever_the_clocks_say(database_url: str, early: Clock, late: Clock) -> None:
    """Leases run on the monotonic clock of the reaper; what the row says of its expiry is for people."""
    holder, reaper = Records.open(database_url, clock=early), Records.open(database_url, clock=late)
    job = running_job(holder, holder.default_project())
    monotonic = [0.0]
    watch = LeaseWatch(60, lambda: monotonic[0])
    for passed in (0.0, 59.0):
        monotonic[0] = passed
        assert watch.expired(reaper.leases()) == []
    assert holder.heartbeat_job(job.id, job.fence)
    early.forward(days=-1)  # its own clock is set back too
    assert holder.heartbeat_job(job.id, job.fence)
    monotonic[0] = 60.0
    assert watch.expired(reaper.leases()) == []
    assert holder.finish_job(job.id, job.fence, "succeeded")


def test_two_reapers_and_two_claimers_a_day_apart(database_url: str, early: Clock, late: Clock) -> None:
    one, two = Records.open(database_url, clock=early), Records.open(database_url, clock=late)
    project = one.default_project()
    job = running_job(one, project)
    [lease] = one.leases()
    requeued = [each.requeue_lost(lease.id, lease.fence, lease.heartbeat_seq) for each in (two, one)]
    assert [row is not None for row in requeued] == [True, False]
    claimed = [each.claim_job(job.id, str(number)) for number, each in enumerate((one, two))]
    assert [row is not None for row in claimed] == [True, False]
    assert claimed[0] is not None
    assert (claimed[0].fence, claimed[0].interruptions) == (2, 1)
    assert not two.finish_job(job.id, 1, "failed")
    assert two.finish_job(job.id, 2, "succeeded")


def test_a_job_from_tomorrow_is_claimed_today(database_url: str, early: Clock, late: Clock) -> None:
    today, tomorrow = Records.open(database_url, clock=early), Records.open(database_url, clock=late)
    job = queued_job(tomorrow, tomorrow.default_project())
    claimed = today.claim_next("w")
    assert claimed is not None
    assert claimed.id == job.id
