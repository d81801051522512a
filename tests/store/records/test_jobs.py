import math
from typing import Any

import pytest

from gradkeel_store.errors import AlreadyEnded, IdempotencyMismatch, NotEnded, NotFound
from gradkeel_store.records import JobRow, Records
from making import CONFIG, MODEL, Clock, ended_job, queued_job, ready_dataset, running_job

DIGESTS: dict[str, Any] = {
    "report_digest": "1" * 64, "series_digest": "2" * 64,
    "predictions_digest": "3" * 64, "logs_digest": "4" * 64,
}  # fmt: skip


def names(records: Records, job: JobRow) -> list[tuple[str, Any]]:
    return [(event.name, event.data["state"]) for event in records.lifecycle_events(job.id)]


def test_a_fresh_one_is_queued(records: Records, project: str) -> None:
    made = queued_job(records, project, labels={"team": "a"})
    assert records.get_job(project, made.id) == made
    document = made.to_json()
    assert document["created_at"].endswith("Z")
    expected = {
        "id": made.id, "kind": "train", "state": "queued", "cancel_requested": False, "config": CONFIG,
        "submitted": made.submitted,
        "dataset_id": made.dataset_id, "model_id": None, "progress": None, "attempts": 0, "interruptions": 0,
        "retry_of": None, "batch_id": None, "priority": 0, "verdict": None, "metrics": None, "error": None,
        "labels": {"team": "a"},
        "created_at": document["created_at"], "started_at": None, "ended_at": None,
    }  # fmt: skip
    assert document == expected
    assert names(records, made) == [("state", "queued")]


def test_a_run_to_its_end(records: Records, project: str) -> None:
    job = running_job(records, project)
    assert (job.state, job.attempt, job.fence, job.lease_owner) == ("running", 1, 1, "worker-1")
    assert records.heartbeat_job(job.id, job.fence, {"phase": "train", "epoch": 3})
    assert records.get_job(project, job.id).progress == {"phase": "train", "epoch": 3}
    assert records.heartbeat_job(job.id, job.fence)
    assert records.get_job(project, job.id).progress == {"phase": "train", "epoch": 3}
    assert records.set_config(job.id, job.fence, CONFIG | {"task": "regression"})
    metrics = {"test": {"rmse": 1.5}}
    assert records.finish_job(
        job.id, job.fence, "succeeded", model=MODEL, metrics=metrics, verdict="healthy", **DIGESTS
    )
    ended = records.get_job(project, job.id)
    assert (ended.state, ended.verdict, ended.metrics) == ("succeeded", "healthy", metrics)
    assert {name: getattr(ended, name) for name in DIGESTS} == DIGESTS
    assert ended.config["task"] == "regression"
    assert ended.submitted == CONFIG
    assert ended.started_at is not None
    assert ended.ended_at is not None
    assert ended.lease_owner is None
    assert names(records, job) == [("state", "queued"), ("state", "running"), ("end", "succeeded")]
    model = records.get_model(project, str(ended.model_id))
    assert model.job_id == job.id
    assert model.to_json()["digests"] == MODEL["digests"]
    assert records.lifecycle_events(job.id)[-1].data["model_id"] == model.id


def test_a_stale_fence_touches_nothing(records: Records, project: str) -> None:
    stale = running_job(records, project)
    assert records.requeue_lost(stale.id, stale.fence) is not None
    fresh = records.claim_job(stale.id, "worker-2")
    assert fresh is not None
    assert fresh.fence == stale.fence + 1
    before = records.get_job(project, stale.id)
    assert not records.heartbeat_job(stale.id, stale.fence, {"phase": "train"})
    assert not records.set_config(stale.id, stale.fence, {})
    assert not records.finish_job(stale.id, stale.fence, "succeeded", model=MODEL)
    assert not records.release_job(stale.id, stale.fence)
    assert records.requeue_lost(stale.id, stale.fence) is None
    assert records.get_job(project, stale.id) == before
    assert records.list_models(project).rows == ()


def test_an_end_is_final(records: Records, project: str) -> None:
    job = ended_job(records, project)
    for state in ("succeeded", "failed", "cancelled"):
        assert not records.finish_job(job.id, job.fence, state)
    assert not records.heartbeat_job(job.id, job.fence)
    assert not records.release_job(job.id, job.fence)
    assert records.requeue_lost(job.id, job.fence) is None
    assert records.claim_job(job.id, "w") is None
    assert records.get_job(project, job.id) == job
    assert [event.terminal for event in records.lifecycle_events(job.id)].count(True) == 1


def test_only_ends_end(records: Records, project: str) -> None:
    job = running_job(records, project)
    with pytest.raises(ValueError, match="queued"):
        records.finish_job(job.id, job.fence, "queued")


def test_an_end_that_cannot_be_written_whole_is_not_written(records: Records, project: str) -> None:
    job = running_job(records, project)
    with pytest.raises(KeyError):
        records.finish_job(job.id, job.fence, "succeeded", model={"target": "price"})
    assert records.get_job(project, job.id) == job
    assert names(records, job) == [("state", "queued"), ("state", "running")]


def test_numbers_that_json_lacks_become_null(records: Records, project: str) -> None:
    job = running_job(records, project)
    metrics = {"test": {"rmse": math.inf, "r2": -math.inf, "mae": math.nan, "n": [1.0, math.nan]}}
    assert records.finish_job(job.id, job.fence, "failed", metrics=metrics)
    stored = records.get_job(project, job.id).metrics
    assert stored == {"test": {"rmse": None, "r2": None, "mae": None, "n": [1.0, None]}}


def test_text_comes_back_as_it_went(records: Records, project: str) -> None:
    config = {"target": "Größe – 住 \U0001f3e0 'quoted\" \\ %s :x"}
    dataset = ready_dataset(records, project)
    made = records.create_job(project, dataset.id, config, config)
    assert records.get_job(project, made.id).config == config


def test_an_error_may_quote_any_text(records: Records, project: str) -> None:
    job = running_job(records, project)
    error = {"code": "bad_data", "message": "the cell is \x00 \ud800 \x1b[2J \u2028", "where": {"line": 7}}
    assert records.finish_job(job.id, job.fence, "failed", error=error)
    assert records.get_job(project, job.id).error == error
    assert records.lifecycle_events(job.id)[-1].data["error"] == error


def test_turns_go_by_priority_then_age(records: Records, project: str) -> None:
    dataset = ready_dataset(records, project)
    first, second = (queued_job(records, project, dataset).id for _ in range(2))
    urgent = queued_job(records, project, dataset, priority=5).id
    assert records.queued_older_than(0) == [urgent, first, second]
    claimed = [records.claim_next("w") for _ in range(4)]
    assert [job and job.id for job in claimed] == [urgent, first, second, None]


def test_one_not_due_yet_waits(database_url: str) -> None:
    clock = Clock()
    records = Records.open(database_url, clock=clock)
    clock.forward(minutes=5)
    due = clock()
    clock.forward(minutes=-5)
    job = queued_job(records, records.default_project(), run_after=due)
    assert records.claim_next("w") is None
    assert records.claim_job(job.id, "w") is None
    clock.forward(minutes=5)
    assert records.claim_job(job.id, "w") is not None


def test_a_release_gives_the_attempt_back(records: Records, project: str) -> None:
    job = running_job(records, project)
    assert records.release_job(job.id, job.fence)
    back = records.get_job(project, job.id)
    assert (back.state, back.attempt, back.interruptions, back.lease_owner) == ("queued", 0, 0, None)
    assert records.lifecycle_events(job.id)[-1].data["reason"] == "released"


def test_a_lost_one_runs_again_and_fails_at_last(records: Records, project: str) -> None:
    job = queued_job(records, project)
    for attempt in (1, 2, 3):
        claimed = records.claim_job(job.id, "w")
        assert claimed is not None
        assert claimed.attempt == attempt
        lost = records.requeue_lost(job.id, claimed.fence, left={"logs_digest": "5" * 64})
        assert lost is not None
        assert lost.interruptions == attempt
        assert lost.state == ("queued" if attempt < 3 else "failed")
    ended = records.get_job(project, job.id)
    assert ended.error is not None
    assert ended.error["code"] == "worker_lost"
    assert ended.logs_digest == "5" * 64
    assert names(records, job)[-1] == ("end", "failed")


def test_the_reason_of_the_last_loss_is_kept(records: Records, project: str) -> None:
    records = Records(records.engine, max_attempts=1)
    job = running_job(records, project)
    lost = records.requeue_lost(job.id, job.fence, code="out_of_memory", message="needed more than 64 MiB")
    assert lost is not None
    assert lost.error == {"code": "out_of_memory", "message": "needed more than 64 MiB", "where": {}}


def test_a_job_that_gave_a_sign_is_not_reaped(records: Records, project: str) -> None:
    job = running_job(records, project)
    [seen] = records.leases()
    assert records.heartbeat_job(job.id, job.fence)
    assert records.requeue_lost(seen.id, seen.fence, seen.heartbeat_seq) is None
    [seen] = records.leases()
    assert records.requeue_lost(seen.id, seen.fence, seen.heartbeat_seq) is not None
    assert records.requeue_lost(seen.id, seen.fence, seen.heartbeat_seq) is None
    assert records.leases() == []


def test_a_queued_one_is_cancelled_at_once(records: Records, project: str) -> None:
    job = queued_job(records, project)
    ended = records.request_cancel(project, job.id)
    assert (ended.state, ended.cancel_requested) == ("cancelled", True)
    assert ended.ended_at is not None
    assert records.request_cancel(project, job.id) == ended
    assert records.claim_job(job.id, "w") is None
    assert names(records, job) == [("state", "queued"), ("end", "cancelled")]


def test_a_running_one_is_asked_to_stop(records: Records, project: str) -> None:
    job = running_job(records, project, owner="mine")
    running_job(records, project, owner="mine")
    running_job(records, project, owner="another's")
    assert records.cancel_requests("mine") == []
    assert records.request_cancel(project, job.id).state == "running"
    assert records.request_cancel(project, job.id).cancel_requested
    assert records.cancel_requests("mine") == [job.id]
    assert records.cancel_requests("another's") == []
    assert records.finish_job(job.id, job.fence, "cancelled", report_digest="1" * 64)
    assert records.cancel_requests("mine") == []


@pytest.mark.parametrize("lost", [True, False])
def test_one_that_was_to_stop_does_not_run_again(records: Records, project: str, lost: bool) -> None:
    job = running_job(records, project)
    records.request_cancel(project, job.id)
    assert records.requeue_lost(job.id, job.fence) if lost else records.release_job(job.id, job.fence)
    assert records.get_job(project, job.id).state == "cancelled"
    assert names(records, job)[-2:] == [("state", "queued"), ("end", "cancelled")]


@pytest.mark.parametrize("state", ["succeeded", "failed"])
def test_cancelling_after_the_end_is_refused(records: Records, project: str, state: str) -> None:
    job = ended_job(records, project, state)
    with pytest.raises(AlreadyEnded, match=state):
        records.request_cancel(project, job.id)


def test_a_retry_is_a_new_job(records: Records, project: str) -> None:
    job = running_job(records, project, labels={"a": "b"})
    with pytest.raises(NotEnded):
        records.retry_job(project, job.id)
    assert records.finish_job(job.id, job.fence, "failed")
    again = records.retry_job(project, job.id)
    assert again.id != job.id
    assert again.retry_of == job.id
    assert (again.submitted, again.labels, again.attempt) == (job.submitted, {"a": "b"}, 0)


def test_one_key_makes_one_job(records: Records, project: str) -> None:
    dataset = ready_dataset(records, project)
    first = queued_job(records, project, dataset, idempotency_key="k")
    assert queued_job(records, project, dataset, idempotency_key="k").id == first.id
    assert len(records.lifecycle_events(first.id)) == 1
    with pytest.raises(IdempotencyMismatch):
        records.create_job(project, dataset.id, {"target": "rooms"}, CONFIG, idempotency_key="k")
    other = records.project_named("other")
    assert queued_job(records, other, idempotency_key="k").id != first.id


def test_another_projects_job_is_absent(records: Records, project: str) -> None:
    job = ended_job(records, project)
    other = records.project_named("other")
    for attempt in (records.get_job, records.request_cancel, records.retry_job):
        with pytest.raises(NotFound):
            attempt(other, job.id)
    assert records.list_jobs(other).rows == ()
    assert records.job_counts(other)["succeeded"] == 0
    assert records.job_counts(project)["succeeded"] == records.job_counts()["succeeded"] == 1


def test_queued_for_long_counts_from_the_last_time(database_url: str) -> None:
    clock = Clock()
    records = Records.open(database_url, clock=clock)
    job = queued_job(records, records.default_project())
    assert records.queued_older_than(5) == []
    clock.forward(seconds=6)
    assert records.queued_older_than(5) == [job.id]
    claimed = records.claim_job(job.id, "w")
    assert claimed is not None
    assert records.release_job(job.id, claimed.fence)
    assert records.queued_older_than(5) == []


def test_a_checkpoint_belongs_to_the_holder_of_the_lease(records: Records, project: str) -> None:
    first = running_job(records, project)
    assert records.save_checkpoint(first.id, first.fence, "5" * 64)
    assert records.requeue_lost(first.id, first.fence) is not None
    second = records.claim_job(first.id, "worker-2")
    assert second is not None and second.checkpoint == "5" * 64
    assert not records.save_checkpoint(first.id, first.fence, "6" * 64)
    assert records.referenced({"5" * 64, "6" * 64}) == {"5" * 64}
    assert records.save_checkpoint(second.id, second.fence, "7" * 64)
    assert records.get_job(project, first.id).checkpoint == "7" * 64


def test_an_ended_job_keeps_no_checkpoint(records: Records, project: str) -> None:
    succeeds, fails, cancelled = (running_job(records, project) for _ in range(3))
    for job in (succeeds, fails, cancelled):
        assert records.save_checkpoint(job.id, job.fence, "5" * 64)
    assert records.finish_job(succeeds.id, succeeds.fence, "succeeded")
    for _ in range(fails.max_attempts):
        lost = records.requeue_lost(fails.id, fails.fence)
        assert lost is not None
        fails = records.claim_job(fails.id, "worker-1") or lost
    assert fails.state == "failed"
    assert records.release_job(cancelled.id, cancelled.fence)
    assert records.get_job(project, cancelled.id).checkpoint == "5" * 64
    records.request_cancel(project, cancelled.id)
    for job in (succeeds, fails, cancelled):
        assert records.get_job(project, job.id).checkpoint is None
    assert records.referenced({"5" * 64}) == set()


def test_a_lost_job_s_last_attempt_may_leave_a_model(records: Records, project: str) -> None:
    job = running_job(records, project)
    for _ in range(job.max_attempts):
        row = records.requeue_lost(job.id, job.fence, model=MODEL, left=DIGESTS)
        assert row is not None
        assert (row.model_id is None) == (row.state == "queued")
        job = records.claim_job(job.id, "worker-1") or row
    assert job.state == "failed" and job.model_id is not None
    assert {name: getattr(job, name) for name in DIGESTS} == DIGESTS
    assert records.get_model(project, job.model_id).job_id == job.id
