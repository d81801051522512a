"""Who comes next: projects by turns, then priority, then age."""

from collections import Counter
from datetime import timedelta

import pytest

from gradkeel_store.records import JobRow, Records
from making import Clock, ingesting_dataset, queued_job, ready_dataset


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def records(database_url: str, clock: Clock) -> Records:
    return Records.open(database_url, clock=clock)


def claim(records: Records, clock: Clock) -> JobRow:
    clock.forward(seconds=1)
    job = records.claim_next("w")
    assert job is not None
    return job


def end(records: Records, job: JobRow) -> None:
    assert records.finish_job(job.id, job.fence, "succeeded")


def test_a_large_project_does_not_starve_a_small_one(records: Records, clock: Clock) -> None:
    large, small = records.default_project(), records.project_named("small")
    data = ready_dataset(records, large)
    for _ in range(20):
        queued_job(records, large, data)
    running = [claim(records, clock) for _ in range(3)]
    late = queued_job(records, small)
    end(records, running[0])
    assert claim(records, clock).id == late.id


def test_projects_that_are_level_take_turns(records: Records, clock: Clock) -> None:
    projects = [records.project_named(name) for name in "abc"]
    for project in projects:
        data = ready_dataset(records, project)
        for _ in range(4):
            queued_job(records, project, data)
    turns = []
    for _ in range(12):
        job = claim(records, clock)
        turns.append(job.project)
        end(records, job)
    assert [set(turns[i : i + 3]) for i in range(0, 12, 3)] == [set(projects)] * 4
    assert turns[:3] * 4 == turns


def test_workers_are_shared_evenly(records: Records, clock: Clock) -> None:
    projects = [records.project_named(name) for name in "abc"]
    for project, count in zip(projects, (30, 9, 2), strict=True):
        data = ready_dataset(records, project)
        for _ in range(count):
            queued_job(records, project, data)
    held = Counter(claim(records, clock).project for _ in range(14))
    assert [held[project] for project in projects] == [6, 6, 2]


def test_the_last_claim_counts_not_the_first(records: Records, clock: Clock) -> None:
    """A job that was given back and claimed again is its project's last claim."""
    one, other = records.project_named("one"), records.project_named("other")
    first, data = queued_job(records, one), ready_dataset(records, other)
    claimed = claim(records, clock)
    assert claimed.id == first.id
    queued_job(records, one, records.get_dataset(one, first.dataset_id))
    assert records.release_job(first.id, claimed.fence)
    theirs = queued_job(records, other, data)
    turn = claim(records, clock)
    assert turn.id == theirs.id
    end(records, turn)
    queued_job(records, other, data)
    again = claim(records, clock)
    assert again.project == one
    end(records, again)
    assert claim(records, clock).project == other


def test_priority_orders_one_project_only(records: Records, clock: Clock) -> None:
    loud, quiet = records.project_named("loud"), records.project_named("quiet")
    data = ready_dataset(records, loud)
    for _ in range(2):
        queued_job(records, loud, data, priority=100)
    queued_job(records, quiet, priority=-100)
    order = [claim(records, clock).project for _ in range(3)]
    assert set(order[:2]) == {loud, quiet}


def test_within_a_project_priority_then_age(records: Records, clock: Clock) -> None:
    project = records.default_project()
    data = ready_dataset(records, project)
    made = {}
    for name, priority in (("old", 0), ("batch", -10), ("urgent", 5), ("young", 0), ("late urgent", 5)):
        made[queued_job(records, project, data, priority=priority).id] = name
        clock.forward(seconds=1)
    order = [made[claim(records, clock).id] for _ in made]
    assert order == ["urgent", "late urgent", "old", "young", "batch"]


def test_a_project_whose_jobs_cannot_run_holds_up_nobody(records: Records, clock: Clock) -> None:
    waiting, able = records.project_named("waiting"), records.project_named("able")
    queued_job(records, waiting, ingesting_dataset(records, waiting))
    queued_job(records, waiting, run_after=clock() + timedelta(hours=1))
    data = ready_dataset(records, able)
    theirs = {queued_job(records, able, data).id for _ in range(3)}
    assert {claim(records, clock).id for _ in range(3)} == theirs
    assert records.claim_next("w") is None
    clock.forward(hours=2)
    assert claim(records, clock).project == waiting
