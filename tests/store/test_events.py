"""A job's events: real records, a real Redis stream, and every way of losing a part of it."""

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from gradkeel_store import event_ids
from gradkeel_store.events import KEY, Event, EventLog
from gradkeel_store.records import JobRow, Records
from gradkeel_store.settings import Settings
from making import PEPPER, queued_job, running_job
from servers import Valkey


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    opened = Records.open(f"sqlite:///{tmp_path}/r.db", pepper=PEPPER)
    yield opened
    opened.close()


@pytest.fixture
def project(records: Records) -> str:
    return records.default_project()


@pytest.fixture
def redis_settings(settings: Settings, valkey: Valkey) -> Settings:
    return dataclasses.replace(settings, redis_url=valkey.url)


@pytest.fixture
def log(redis_settings: Settings) -> EventLog:
    return EventLog(redis_settings)


def step(log: EventLog, job: JobRow, number: int) -> bool:
    return log.append(job.id, "reading", {"fence": job.fence, "step": number})


def told(events: Any) -> list[str]:
    """Events in short: names, with the state or the step."""
    return [
        f"{e.name}:{e.data['state']}"
        if "state" in e.data
        else f"{e.data['step']}"
        if "step" in e.data
        else e.name
        for e in events
        if e is not None
    ]


RUN = ["state:queued", "state:running", "0", "1", "2", "end:succeeded"]


def a_run(records: Records, project: str, log: EventLog, steps: int = 3) -> JobRow:
    job = running_job(records, project)
    for number in range(steps):
        assert step(log, job, number)
    assert records.finish_job(job.id, job.fence, "succeeded")
    return job


def test_a_run_is_told_in_order(records: Records, project: str, log: EventLog) -> None:
    job = a_run(records, project, log)
    events = log.replay(records, job.id)
    assert told(events) == RUN
    assert told(log.stream(records, job.id)) == RUN
    ids = [event.id for event in events]
    assert ids == sorted(set(ids))
    assert all(event.data["job_id"] == job.id for event in events)
    assert [event.data["fence"] for event in events] == [0, 1, 1, 1, 1, 1]


def test_a_reader_goes_on_after_any_event(records: Records, project: str, log: EventLog) -> None:
    job = a_run(records, project, log)
    events = log.replay(records, job.id)
    for number, event in enumerate(events[:-1]):
        assert list(log.stream(records, job.id, event.id)) == events[number + 1 :]
    assert log.replay(records, job.id, events[-1].id) == []


def test_a_reader_hears_a_run_as_it_happens(records: Records, project: str, log: EventLog) -> None:
    job = queued_job(records, project)
    heard: list[Event] = []
    arrived = threading.Condition()

    def listen() -> None:
        for event in log.stream(records, job.id, block_ms=20):
            if event is not None:
                with arrived:
                    heard.append(event)
                    arrived.notify_all()

    def wait_for(count: int) -> None:
        with arrived:
            assert arrived.wait_for(lambda: len(heard) >= count, 30)

    listener = threading.Thread(target=listen)
    listener.start()
    wait_for(1)
    claimed = records.claim_job(job.id, "w")
    assert claimed is not None
    wait_for(2)
    step(log, claimed, 0)
    wait_for(3)
    step(log, claimed, 1)
    step(log, claimed, 2)
    records.finish_job(job.id, claimed.fence, "succeeded")
    listener.join(30)
    assert told(heard) == RUN


def test_an_idle_stream_yields_none_for_heartbeats(records: Records, project: str, log: EventLog) -> None:
    job = running_job(records, project)
    stream = log.stream(records, job.id, block_ms=1)
    assert told([next(stream), next(stream)]) == ["state:queued", "state:running"]
    assert [next(stream) for _ in range(3)] == [None] * 3


def test_a_stale_writer_is_not_heard(records: Records, project: str, redis_settings: Settings) -> None:
    frozen, fresh = EventLog(redis_settings), EventLog(redis_settings)
    old = running_job(records, project)
    assert step(frozen, old, 0)
    assert records.requeue_lost(old.id, old.fence)
    new = records.claim_job(old.id, "w2")
    assert new is not None
    assert step(fresh, new, 10)
    assert not step(frozen, old, 1)
    assert step(fresh, new, 11)
    records.finish_job(new.id, new.fence, "succeeded")
    assert told(fresh.replay(records, new.id)) == [
        "state:queued", "state:running", "0", "gap", "state:queued", "state:running", "10", "11",
        "end:succeeded",
    ]  # fmt: skip


def test_a_second_writer_of_the_same_run_goes_on_behind_the_first(
    records: Records, project: str, redis_settings: Settings
) -> None:
    job = running_job(records, project)
    first, second = EventLog(redis_settings), EventLog(redis_settings)
    assert step(first, job, 0)
    assert step(first, job, 1)
    assert step(second, job, 2)
    records.finish_job(job.id, job.fence, "succeeded")
    assert told(second.replay(records, job.id)) == RUN


def test_a_flush_shows_as_a_gap(records: Records, project: str, log: EventLog, valkey: Valkey) -> None:
    job = running_job(records, project)
    for number in range(3):
        step(log, job, number)
    before = log.replay(records, job.id)
    redis.Redis.from_url(valkey.url).flushall()
    step(log, job, 3)
    records.finish_job(job.id, job.fence, "succeeded")
    assert told(log.replay(records, job.id)) == ["state:queued", "state:running", "gap", "3", "end:succeeded"]
    assert told(log.replay(records, job.id, before[-1].id)) == ["3", "end:succeeded"]
    assert told(log.replay(records, job.id, before[-2].id)) == ["gap", "3", "end:succeeded"]


def test_a_gap_says_between_which_events(
    records: Records, project: str, log: EventLog, valkey: Valkey
) -> None:
    job = a_run(records, project, log)
    redis.Redis.from_url(valkey.url).xtrim(KEY.format(job_id=job.id), maxlen=1, approximate=False)
    events = log.replay(records, job.id)
    assert told(events) == ["state:queued", "state:running", "gap", "2", "end:succeeded"]
    gap = events[2]
    assert (gap.data["after"], gap.data["before"]) == (events[1].id, events[3].id)
    assert told(log.replay(records, job.id, gap.id)) == ["2", "end:succeeded"]


def test_a_stream_that_is_gone_shows_as_a_gap(
    records: Records, project: str, log: EventLog, valkey: Valkey
) -> None:
    job = a_run(records, project, log)
    redis.Redis.from_url(valkey.url).flushall()
    events = log.replay(records, job.id)
    assert told(events) == ["state:queued", "state:running", "gap", "end:succeeded"]
    assert told(log.replay(records, job.id, events[2].id)) == ["end:succeeded"]


@pytest.mark.parametrize("away", [False, True])
def test_the_last_events_of_a_run_do_not_go_unnoticed(
    records: Records, project: str, log: EventLog, valkey: Valkey, away: bool
) -> None:
    """Lost before they were read, or never kept: the end of the run tells how many there were."""
    job = running_job(records, project)
    for number in range(3):
        assert step(log, job, number)
    seen = log.replay(records, job.id)
    if away:
        valkey.kill()
        assert not step(log, job, 3)
        valkey.start()
        log._rest_until = 0.0
    else:
        assert step(log, job, 3)
        redis.Redis.from_url(valkey.url).flushall()
    assert records.finish_job(job.id, job.fence, "succeeded", events=log.numbered(job.id, job.fence))
    assert told(log.replay(records, job.id, seen[-1].id)) == ["gap", "end:succeeded"]


def test_a_reader_who_saw_every_event_is_shown_no_gap(
    records: Records, project: str, log: EventLog, valkey: Valkey
) -> None:
    job = running_job(records, project)
    step(log, job, 0)
    seen = log.replay(records, job.id)
    valkey.kill()
    assert records.release_job(job.id, job.fence, events=log.numbered(job.id, job.fence))
    assert records.claim_job(job.id, "w") is not None
    assert records.finish_job(job.id, 2, "succeeded", events=0)
    assert told(log.replay(records, job.id, seen[-1].id)) == [
        "state:queued",
        "state:running",
        "end:succeeded",
    ]


def test_after_a_worker_that_died_nobody_knows_what_is_missing(
    records: Records, project: str, log: EventLog
) -> None:
    job = running_job(records, project)
    step(log, job, 0)
    last = log.replay(records, job.id)[-1].id
    assert records.requeue_lost(job.id, job.fence)
    assert told(log.replay(records, job.id, last)) == ["gap", "state:queued"]


def test_a_job_that_never_ran_has_no_gap(records: Records, project: str, log: EventLog) -> None:
    job = queued_job(records, project)
    records.request_cancel(project, job.id)
    assert told(log.stream(records, job.id)) == ["state:queued", "end:cancelled"]


def test_without_redis_the_lifecycle_is_told(records: Records, project: str, settings: Settings) -> None:
    log = EventLog(dataclasses.replace(settings, redis_url=""))
    job = running_job(records, project)
    assert not step(log, job, 0)
    records.finish_job(job.id, job.fence, "succeeded")
    assert told(log.stream(records, job.id)) == ["state:queued", "state:running", "gap", "end:succeeded"]


def test_a_killed_redis_costs_a_gap(records: Records, project: str, log: EventLog, valkey: Valkey) -> None:
    job = running_job(records, project)
    assert step(log, job, 0)
    valkey.kill()
    for number in range(1, 200):
        assert not step(log, job, number)
    assert told(log.replay(records, job.id)) == ["state:queued", "state:running"]
    valkey.start()
    log._rest_until = 0.0
    assert step(log, job, 200)
    records.finish_job(job.id, job.fence, "succeeded")
    expected = ["state:queued", "state:running", "0", "gap", "200", "end:succeeded"]
    assert told(log.stream(records, job.id)) == expected


def test_a_frozen_redis_holds_nobody(records: Records, project: str, log: EventLog, valkey: Valkey) -> None:
    job = running_job(records, project)
    assert step(log, job, 0)
    valkey.freeze()
    try:
        assert not step(log, job, 1)
        assert not step(log, job, 2)
        assert told(log.replay(records, job.id)) == ["state:queued", "state:running"]
    finally:
        valkey.thaw()


def test_rubbish_in_the_stream_is_passed_over(
    records: Records, project: str, log: EventLog, valkey: Valkey
) -> None:
    job = running_job(records, project)
    step(log, job, 0)
    client = redis.Redis.from_url(valkey.url)
    client.xadd(KEY.format(job_id=job.id), {"x": "y"}, id="1-2")
    client.xadd(KEY.format(job_id=job.id), {"name": "reading", "data": "{"}, id="1-3")
    records.finish_job(job.id, job.fence, "succeeded")
    assert told(log.replay(records, job.id))[-2:] == ["0", "end:succeeded"]
    client.set(KEY.format(job_id="job_other"), "not a stream")
    assert log.read("job_other") == []
    assert not log.append("job_other", "reading", {"fence": 1})


def test_long_runs_are_told_in_pages(records: Records, project: str, log: EventLog) -> None:
    job = a_run(records, project, log, steps=2500)
    assert records.lifecycle_events(job.id)[-1].terminal
    first = log.replay(records, job.id)
    assert not first[-1].ends
    assert told(log.stream(records, job.id))[2:-1] == [str(n) for n in range(2500)]


def test_a_stream_is_kept_short(records: Records, project: str, redis_settings: Settings) -> None:
    log = EventLog(dataclasses.replace(redis_settings, event_stream_length=100))
    job = a_run(records, project, log, steps=2000)
    events = told(log.stream(records, job.id))
    assert events[2] == "gap"
    assert events[-2:] == ["1999", "end:succeeded"]
    assert len(events) < 400


def test_numbers_that_json_lacks_become_null(records: Records, project: str, log: EventLog) -> None:
    job = running_job(records, project)
    log.append(job.id, "reading", {"fence": job.fence, "loss": float("nan"), "norms": [float("inf"), 1.0]})
    [event] = log.read(job.id)
    assert event.data == {"job_id": job.id, "fence": 1, "loss": None, "norms": [None, 1.0]}
    assert event.id == event_ids.step(1, 0)
