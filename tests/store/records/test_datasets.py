import pytest

from gradkeel.contract.problems import Problem
from gradkeel_store.errors import DatasetRejected, IdempotencyMismatch, InUse, NotFound
from gradkeel_store.records import Records
from making import (
    COLUMNS,
    PARQUET,
    PROFILE,
    SHA,
    Clock,
    ingesting_dataset,
    queued_job,
    ready_dataset,
    running_job,
)

PROBLEM = Problem("bad_data", "line 7 has 3 cells, not 4")


def test_a_fresh_one_is_ingesting(records: Records, project: str) -> None:
    made = records.create_dataset(project, "homes.csv", SHA, 1234, {"delimiter": ";"})
    found = records.get_dataset(project, made.id)
    assert found == made
    assert found.options == {"delimiter": ";"}
    document = found.to_json()
    assert document["created_at"].endswith("Z")
    del document["created_at"]
    assert document == {
        "id": made.id, "name": "homes.csv", "sha256": SHA, "bytes": 1234, "state": "ingesting",
        "rows": None, "columns": [], "error": None,
    }  # fmt: skip


def test_reading_it_makes_it_ready(records: Records, project: str) -> None:
    made = ready_dataset(records, project)
    assert (made.state, made.rows, made.parquet_digest) == ("ready", 20, PARQUET)
    assert made.profile == PROFILE
    assert made.to_json()["columns"] == COLUMNS
    assert records.waiting_datasets() == []


def test_one_reader_has_it(records: Records, project: str) -> None:
    made = ingesting_dataset(records, project)
    assert records.waiting_datasets() == [made.id]
    assert records.claim_dataset(made.id, "a") is not None
    assert records.claim_dataset(made.id, "b") is None
    assert records.claim_next_dataset("b") is None
    assert records.waiting_datasets() == []


def test_the_longest_waiting_comes_first(records: Records, project: str) -> None:
    made = [ingesting_dataset(records, project).id for _ in range(3)]
    claimed = [records.claim_next_dataset("a") for _ in range(3)]
    assert [row.id for row in claimed if row] == made
    assert records.claim_next_dataset("a") is None


def test_a_stale_reader_changes_nothing(records: Records, project: str) -> None:
    made = ingesting_dataset(records, project)
    first = records.claim_dataset(made.id, "frozen")
    assert first is not None
    assert records.requeue_lost_dataset(made.id, first.fence, first.heartbeat_seq)
    second = records.claim_dataset(made.id, "fresh")
    assert second is not None
    assert not records.heartbeat_dataset(made.id, first.fence)
    assert not records.finish_dataset(made.id, first.fence, PARQUET, PROFILE, 20, COLUMNS)
    assert not records.reject_dataset(made.id, first.fence, PROBLEM)
    assert not records.release_dataset(made.id, first.fence)
    assert not records.requeue_lost_dataset(made.id, first.fence)
    assert records.heartbeat_dataset(made.id, second.fence)
    assert records.finish_dataset(made.id, second.fence, PARQUET, PROFILE, 20, COLUMNS)


def test_a_reader_that_gave_a_sign_is_not_reaped(records: Records, project: str) -> None:
    made = ingesting_dataset(records, project)
    claimed = records.claim_dataset(made.id, "a")
    assert claimed is not None
    [seen] = records.dataset_leases()
    assert records.heartbeat_dataset(made.id, claimed.fence)
    assert not records.requeue_lost_dataset(seen.id, seen.fence, seen.heartbeat_seq)


def test_after_the_last_attempt_it_is_rejected(records: Records, project: str) -> None:
    made = ingesting_dataset(records, project)
    for _ in range(3):
        claimed = records.claim_dataset(made.id, "a")
        assert claimed is not None
        assert records.requeue_lost_dataset(made.id, claimed.fence)
    ended = records.get_dataset(project, made.id)
    assert (ended.state, ended.attempt) == ("rejected", 3)
    assert ended.error is not None
    assert "died" in ended.error["detail"]


def test_a_release_gives_the_attempt_back(records: Records, project: str) -> None:
    made = ingesting_dataset(records, project)
    claimed = records.claim_dataset(made.id, "a")
    assert claimed is not None
    assert records.release_dataset(made.id, claimed.fence)
    assert records.get_dataset(project, made.id).attempt == 0
    assert records.waiting_datasets() == [made.id]


def test_a_rejection_fails_the_jobs_that_wait(records: Records, project: str) -> None:
    made = ingesting_dataset(records, project)
    job = queued_job(records, project, made)
    assert records.claim_next("w") is None
    claimed = records.claim_dataset(made.id, "a")
    assert claimed is not None
    assert records.reject_dataset(made.id, claimed.fence, PROBLEM)
    assert records.get_dataset(project, made.id).error == PROBLEM.to_json()
    ended = records.get_job(project, job.id)
    assert ended.state == "failed"
    assert ended.error is not None
    assert ended.error["code"] == "bad_data"
    assert "line 7" in ended.error["message"]
    assert [event.name for event in records.lifecycle_events(job.id)] == ["state", "end"]
    with pytest.raises(DatasetRejected):
        queued_job(records, project, made)


def test_a_job_may_wait_for_its_data(records: Records, project: str) -> None:
    made = ingesting_dataset(records, project)
    job = queued_job(records, project, made)
    assert records.claim_job(job.id, "w") is None
    assert records.queued_older_than(0) == []
    assert records.jobs_waiting_for(made.id) == [job.id]
    claimed = records.claim_dataset(made.id, "a")
    assert claimed is not None
    assert records.finish_dataset(made.id, claimed.fence, PARQUET, PROFILE, 20, COLUMNS)
    assert records.claim_job(job.id, "w") is not None


def test_one_in_use_stays(records: Records, project: str) -> None:
    job = running_job(records, project)
    with pytest.raises(InUse):
        records.delete_dataset(project, job.dataset_id)
    assert records.finish_job(job.id, job.fence, "failed", error={"code": "internal"})
    records.delete_dataset(project, job.dataset_id)
    with pytest.raises(NotFound):
        records.get_dataset(project, job.dataset_id)
    with pytest.raises(NotFound):
        records.retry_job(project, job.id)


def test_another_projects_is_absent(records: Records, project: str) -> None:
    made = ready_dataset(records, project)
    other = records.project_named("other")
    assert records.list_datasets(other).rows == ()
    assert records.find_dataset(other, SHA) is None
    assert records.stored_bytes(other) == 0
    for attempt in (records.get_dataset, records.delete_dataset):
        with pytest.raises(NotFound):
            attempt(other, made.id)
    with pytest.raises(NotFound):
        queued_job(records, other, made)


def test_bytes_that_are_there_are_found(records: Records, project: str) -> None:
    assert records.find_dataset(project, SHA) is None
    made = ready_dataset(records, project)
    found = records.find_dataset(project, SHA)
    assert found is not None
    assert found.id == made.id
    assert records.stored_bytes(project) == made.bytes


def test_one_key_makes_one(records: Records, project: str) -> None:
    first = records.create_dataset(project, "a.csv", SHA, 1, idempotency_key="k")
    assert records.create_dataset(project, "a.csv", SHA, 1, idempotency_key="k").id == first.id
    with pytest.raises(IdempotencyMismatch):
        records.create_dataset(project, "a.csv", PARQUET, 1, idempotency_key="k")


def test_waiting_is_measured_since_it_was_queued(database_url: str) -> None:
    clock = Clock()
    records = Records.open(database_url, clock=clock)
    made = ingesting_dataset(records, records.default_project())
    assert records.waiting_datasets(older_than=5) == []
    clock.forward(seconds=5)
    assert records.waiting_datasets(older_than=5) == [made.id]


def test_lists_leave_profiles_out(records: Records, project: str) -> None:
    ready_dataset(records, project)
    [row] = records.list_datasets(project).rows
    assert row.profile is None
    assert row.to_json()["columns"] == COLUMNS
