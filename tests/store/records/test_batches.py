"""Batches: read once whoever reads, ended once, cancelled whole."""

from collections.abc import Callable
from typing import Any

import pytest

from gradkeel_store.errors import AlreadyEnded, IdempotencyMismatch, NotFound
from gradkeel_store.records import BatchRow, JobFilter, NewJob, NewLine, Records
from gradkeel_store.records.batches import CANCELLED_AT_ONCE
from making import CONFIG, SHA, Clock, ready_dataset

PROBLEM = {"type": "urn:gradkeel:problem:invalid", "title": "no", "status": 422}
NO_JOBS = {"queued": 0, "running": 0, "succeeded": 0, "failed": 0, "cancelled": 0}


def submitted(records: Records, project: str, lines: int = 5, **options: Any) -> BatchRow:
    return records.create_batch(project, SHA, 1000, lines, **options)


def claimed(records: Records, owner: str = "reader") -> BatchRow:
    batch = records.claim_next_batch(owner)
    assert batch is not None
    return batch


def good(dataset_id: str, *numbers: int) -> list[NewLine]:
    return [
        NewLine(number, f"run-{number}", NewJob(dataset_id, CONFIG, CONFIG, {"team": "a"}))
        for number in numbers
    ]


def bad(*numbers: int) -> list[NewLine]:
    return [NewLine(number, None, error=PROBLEM) for number in numbers]


@pytest.fixture
def dataset_id(records: Records, project: str) -> str:
    return ready_dataset(records, project).id


@pytest.fixture
def running(records: Records, project: str, dataset_id: str) -> BatchRow:
    """A batch that was read: four jobs, and line 3 rejected."""
    submitted(records, project, priority=-10)
    batch = claimed(records)
    lines = [*good(dataset_id, 1, 2), *bad(3), *good(dataset_id, 4, 5)]
    assert records.add_lines(batch, lines, 1000, at_end=True) is not None
    return records.get_batch(project, batch.id)


def end_all(records: Records, state: str = "succeeded") -> int:
    count = 0
    while job := records.claim_next("w"):
        assert records.finish_job(
            job.id, job.fence, state, metrics={"test": {"rmse": 1.5}}, verdict="healthy"
        )
        count += 1
    return count


def results(records: Records, batch: BatchRow) -> list[dict[str, Any]]:
    return [line.to_json() for line in records.batch_results(batch.id)]


def test_a_fresh_one_is_to_be_read(records: Records, project: str) -> None:
    batch = submitted(records, project, priority=-10)
    assert records.get_batch(project, batch.id).to_json() == batch.to_json()
    assert batch.to_json() == {
        "id": batch.id, "state": "reading", "priority": -10, "lines": 5, "rejected": 0, "counts": NO_JOBS,
        "progress": {"read": 0, "fraction": 0.0}, "cancel_requested": False, "error": None,
        "created_at": batch.to_json()["created_at"], "ended_at": None,
    }  # fmt: skip
    assert records.open_batches(project) == 1


def test_lines_become_jobs_in_their_order(records: Records, project: str, running: BatchRow) -> None:
    document = running.to_json()
    assert (document["state"], document["rejected"]) == ("running", 1)
    assert document["counts"] == NO_JOBS | {"queued": 4}
    assert document["progress"] == {"read": 5, "fraction": 0.2}
    page = records.list_jobs(project, JobFilter(batch_id=running.id), order="asc")
    shown = results(records, running)
    assert [job.id for job in page.rows] == [line["job_id"] for line in shown if line["job_id"]]
    assert {(job.batch_id, job.priority) for job in page.rows} == {(running.id, -10)}
    assert [line["custom_id"] for line in shown] == ["run-1", "run-2", None, "run-4", "run-5"]
    assert [line["state"] for line in shown] == ["queued", "queued", "rejected", "queued", "queued"]
    assert shown[2]["error"] == PROBLEM
    assert records.lifecycle_events(page.rows[0].id)[0].data["state"] == "queued"
    labelled = records.list_jobs(project, JobFilter(label=("team", "a")))
    assert len(labelled.rows) == 4
    order = [job.id for job in iter(lambda: records.claim_next("w"), None) if job]
    assert order == [job.id for job in page.rows]


def test_it_ends_once_all_its_jobs_have(records: Records, project: str, running: BatchRow) -> None:
    assert records.end_batches() == []
    assert end_all(records) == 4
    assert records.end_batches() == [running.id]
    assert records.end_batches() == []
    ended = records.get_batch(project, running.id).to_json()
    assert ended["state"] == "ended"
    assert ended["ended_at"] is not None
    assert ended["counts"] == NO_JOBS | {"succeeded": 4}
    assert ended["progress"]["fraction"] == 1.0
    first = results(records, running)[0]
    assert (first["state"], first["metrics"], first["verdict"]) == (
        "succeeded", {"test": {"rmse": 1.5}}, "healthy",
    )  # fmt: skip


def test_results_come_in_pages(records: Records, running: BatchRow) -> None:
    pages, after = [], 0
    while page := records.batch_results(running.id, after, limit=2):
        pages.append([line.line for line in page])
        after = page[-1].line
    assert pages == [[1, 2], [3, 4], [5]]


def test_one_without_a_good_line_ends_at_once(records: Records, project: str) -> None:
    batch = submitted(records, project, lines=2)
    assert records.add_lines(claimed(records), bad(1, 2), 1000, at_end=True) is not None
    assert records.end_batches() == [batch.id]
    assert records.get_batch(project, batch.id).rejected == 2


def test_one_reader_at_a_time(records: Records, project: str) -> None:
    batch = submitted(records, project)
    assert claimed(records).id == batch.id
    assert records.claim_next_batch("another") is None


def test_a_stale_reader_writes_nothing(records: Records, project: str, dataset_id: str) -> None:
    submitted(records, project)
    stale = claimed(records)
    [lease] = records.batch_leases()
    assert records.requeue_lost_batch(lease)
    assert not records.requeue_lost_batch(lease)
    fresh = claimed(records, "another")
    assert records.add_lines(fresh, good(dataset_id, 1), 200) is not None
    assert records.add_lines(stale, good(dataset_id, 1), 200) is None
    assert not records.release_batch(stale)
    assert not records.fail_batch(stale, PROBLEM)
    batch = records.get_batch(project, stale.id)
    assert (batch.lines_read, batch.bytes_read, batch.last_line, batch.interruptions) == (1, 200, 1, 1)
    assert batch.counts == NO_JOBS | {"queued": 1}


def test_a_reader_that_gave_a_sign_keeps_its_batch(records: Records, project: str, dataset_id: str) -> None:
    submitted(records, project)
    batch = claimed(records)
    [lease] = records.batch_leases()
    assert records.add_lines(batch, good(dataset_id, 1), 200) is not None
    assert not records.requeue_lost_batch(lease)


def test_attempts_count_only_without_progress(records: Records, project: str, dataset_id: str) -> None:
    submitted(records, project)
    for attempt in (1, 2):
        assert claimed(records).attempt == attempt
        assert records.requeue_lost_batch(records.batch_leases()[0])
    assert records.add_lines(claimed(records), good(dataset_id, 1), 200) is not None
    assert records.requeue_lost_batch(records.batch_leases()[0])
    batch = claimed(records)
    assert batch.attempt == 1
    assert records.release_batch(batch)
    assert claimed(records).attempt == 1


def test_a_data_set_that_is_gone_stops_the_writing(records: Records, project: str, dataset_id: str) -> None:
    submitted(records, project)
    batch = claimed(records)
    records.delete_dataset(project, dataset_id)
    with pytest.raises(NotFound):
        records.add_lines(batch, good(dataset_id, 1), 200)
    assert records.get_batch(project, batch.id).lines_read == 0
    assert records.add_lines(batch, bad(1), 200) is not None


def test_readers_serve_batches_by_turns(database_url: str) -> None:
    clock = Clock()
    records = Records.open(database_url, clock=clock)
    one, other = records.default_project(), records.project_named("other")
    made = []
    for project in (one, one, other):
        made.append(submitted(records, project).id)
        clock.forward(seconds=1)
    served = []
    for _ in range(6):
        batch = claimed(records)
        served.append(batch.id)
        clock.forward(seconds=1)
        assert records.release_batch(batch)
    assert served == made * 2
    skipping = records.claim_next_batch("reader", skip=[one])
    assert skipping is not None
    assert skipping.id == made[2]
    assert records.claim_next_batch("reader", skip=[one, other]) is None


def test_a_file_that_cannot_be_read_ends_the_batch(records: Records, project: str, dataset_id: str) -> None:
    submitted(records, project)
    batch = claimed(records)
    assert records.add_lines(batch, good(dataset_id, 1, 2), 400) is not None
    assert records.fail_batch(batch, PROBLEM)
    assert records.claim_next_batch("another") is None
    assert end_all(records) == 2
    assert records.end_batches() == [batch.id]
    ended = records.get_batch(project, batch.id).to_json()
    assert (ended["error"], ended["counts"]["succeeded"]) == (PROBLEM, 2)


def test_cancelling_ends_what_waits_and_stops_what_runs(
    records: Records, project: str, running: BatchRow
) -> None:
    job = records.claim_next("w")
    assert job is not None
    assert records.request_cancel_batch(project, running.id).cancel_requested
    assert records.batches_to_cancel() == [running.id]
    assert records.cancel_batch_jobs(running.id) == 3
    assert records.cancel_batch_jobs(running.id) == 0
    assert records.cancel_requests("w") == [job.id]
    assert records.batches_to_cancel() == []
    assert records.claim_next("w") is None
    assert records.end_batches() == []
    assert records.finish_job(job.id, job.fence, "cancelled")
    assert records.end_batches() == [running.id]
    ended = records.get_batch(project, running.id)
    assert ended.counts == NO_JOBS | {"cancelled": 4}
    assert records.request_cancel_batch(project, running.id).state == "ended"
    [_, last] = [event.name for event in records.lifecycle_events(job.id)][-2:]
    assert last == "end"


def test_lines_unread_when_it_was_cancelled_make_no_jobs(
    records: Records, project: str, dataset_id: str
) -> None:
    submitted(records, project)
    batch = claimed(records)
    assert records.add_lines(batch, good(dataset_id, 1), 200) is not None
    records.request_cancel_batch(project, batch.id)
    assert records.add_lines(batch, good(dataset_id, 2), 400) is None, "it was cancelled since it was claimed"
    assert records.release_batch(batch)
    assert records.cancel_batch_jobs(batch.id) == 1
    batch = claimed(records)
    assert batch.cancel_requested
    rest = [NewLine(number, f"run-{number}") for number in (2, 3, 4)]
    assert records.add_lines(batch, [*rest, *bad(5)], 1000, at_end=True) is not None
    assert records.end_batches() == [batch.id]
    assert [line["state"] for line in results(records, batch)] == [*["cancelled"] * 4, "rejected"]
    ended = records.get_batch(project, batch.id)
    assert (ended.counts, ended.rejected) == (NO_JOBS | {"cancelled": 4}, 1)


def test_many_are_cancelled_in_bounded_steps(records: Records, project: str, dataset_id: str) -> None:
    count = CANCELLED_AT_ONCE + 20
    submitted(records, project, lines=count)
    batch = claimed(records)
    assert records.add_lines(batch, good(dataset_id, *range(1, count + 1)), 1000, at_end=True) is not None
    records.request_cancel_batch(project, batch.id)
    steps = list(iter(lambda: records.cancel_batch_jobs(batch.id), 0))
    assert steps == [CANCELLED_AT_ONCE, 20]


def test_cancelling_after_the_end_is_refused(records: Records, project: str, running: BatchRow) -> None:
    end_all(records)
    records.end_batches()
    with pytest.raises(AlreadyEnded):
        records.request_cancel_batch(project, running.id)


def test_one_key_makes_one_batch(records: Records, project: str) -> None:
    first = submitted(records, project, idempotency_key="k")
    assert submitted(records, project, idempotency_key="k").id == first.id
    with pytest.raises(IdempotencyMismatch):
        records.create_batch(project, "ee" * 32, 10, 1, idempotency_key="k")
    assert submitted(records, records.project_named("other"), idempotency_key="k").id != first.id


def test_custom_ids_of_what_was_read(records: Records, running: BatchRow) -> None:
    assert records.custom_ids(running.id) == {"run-1", "run-2", "run-4", "run-5"}


def test_the_file_is_needed_until_it_was_read(records: Records, project: str) -> None:
    submitted(records, project)
    assert records.referenced({SHA}) == {SHA}
    assert records.add_lines(claimed(records), bad(1), 1000, at_end=True) is not None
    assert records.referenced({SHA}) == set()


def test_another_projects_batch_is_absent(records: Records, project: str, running: BatchRow) -> None:
    other = records.project_named("other")
    attempts: list[Callable[[str, str], object]] = [records.get_batch, records.request_cancel_batch]
    for attempt in attempts:
        with pytest.raises(NotFound):
            attempt(other, running.id)
    assert records.list_batches(other).rows == ()
    assert [batch.id for batch in records.list_batches(project).rows] == [running.id]
    assert records.list_batches(project).rows[0].to_json() == running.to_json()
