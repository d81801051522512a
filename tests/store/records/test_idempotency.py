import pytest

from gradkeel_store.errors import IdempotencyMismatch, InFlight
from gradkeel_store.records import Answering, DatasetRow, JobRow, Records, Replay, Started, UploadRow
from making import Clock, ingesting_dataset, queued_job

POST = "POST /v1/jobs"
BODY = "ab" * 32


def begin(records: Records, project: str, body: str = BODY, operation: str = POST) -> Replay | Started:
    return records.begin_idempotent(project, "key", operation, body)


def started(records: Records, project: str) -> Started:
    begun = begin(records, project)
    assert isinstance(begun, Started)
    return begun


def test_the_answer_is_replayed(records: Records, project: str) -> None:
    first = started(records, project)
    assert records.finish_idempotent(first, 202, {"Location": "/v1/jobs/x"}, b"\x00{}")
    assert begin(records, project) == Replay(202, {"Location": "/v1/jobs/x"}, b"\x00{}")


def test_another_request_is_refused(records: Records, project: str) -> None:
    first = started(records, project)
    with pytest.raises(IdempotencyMismatch):
        begin(records, project, body="cd" * 32)
    records.finish_idempotent(first, 200, {}, b"")
    with pytest.raises(IdempotencyMismatch):
        begin(records, project, operation="POST /v1/datasets")


def test_a_running_one_is_in_flight(records: Records, project: str) -> None:
    started(records, project)
    with pytest.raises(InFlight):
        begin(records, project)


def test_an_abandoned_one_may_be_tried_again(records: Records, project: str) -> None:
    records.abandon_idempotent(started(records, project))
    assert isinstance(begin(records, project), Started)


def test_projects_do_not_share_keys(records: Records, project: str) -> None:
    records.finish_idempotent(started(records, project), 200, {}, b"mine")
    assert isinstance(begin(records, records.project_named("other")), Started)


def test_one_whose_server_died_is_taken_over(database_url: str) -> None:
    clock = Clock()
    records = Records.open(database_url, clock=clock)
    project = records.default_project()
    dead = started(records, project)
    clock.forward(seconds=11)
    heir = started(records, project)
    assert not records.finish_idempotent(dead, 202, {}, b"late")
    records.abandon_idempotent(dead)
    assert records.finish_idempotent(heir, 202, {}, b"heir")
    assert begin(records, project) == Replay(202, {}, b"heir")


def test_one_that_had_made_its_job_is_taken_over_at_once(records: Records, project: str) -> None:
    started(records, project)
    made = queued_job(records, project, ingesting_dataset(records, project), idempotency_key="key")
    assert isinstance(begin(records, project), Started)
    dataset = records.get_dataset(project, made.dataset_id)
    assert queued_job(records, project, dataset, idempotency_key="key").id == made.id


def shown(job: JobRow) -> Replay:
    return Replay(202, {"Location": f"/v1/jobs/{job.id}"}, job.id.encode())


def never_shown(job: JobRow) -> Replay:
    raise AssertionError("this job was made before")


def test_a_job_and_its_answer_are_kept_together(records: Records, project: str) -> None:
    answering = Answering(started(records, project), shown)
    made = queued_job(records, project, idempotency_key="key", answering=answering)
    assert begin(records, project) == shown(made)
    records.abandon_idempotent(answering.started)  # as when the server ends before it could send
    assert begin(records, project) == shown(made)


def test_a_job_whose_answer_fails_is_not_made(records: Records, project: str) -> None:
    first = started(records, project)
    with pytest.raises(AssertionError):
        queued_job(records, project, idempotency_key="key", answering=Answering(first, never_shown))
    assert records.queued_jobs(project) == 0
    with pytest.raises(InFlight):
        begin(records, project)
    records.abandon_idempotent(first)
    assert isinstance(begin(records, project), Started)


def test_data_sets_and_uploads_keep_their_answers_with_them(records: Records, project: str) -> None:
    first = records.begin_idempotent(project, "one", "POST /v1/datasets", BODY)
    second = records.begin_idempotent(project, "two", "POST /v1/uploads", BODY)
    assert isinstance(first, Started) and isinstance(second, Started)
    dataset = records.create_dataset(
        project, "a", BODY, 3, idempotency_key="one", answering=Answering(first, with_id)
    )
    upload = records.create_upload(project, "b", 3, seconds=60.0, answering=Answering(second, with_id))
    assert records.begin_idempotent(project, "one", "POST /v1/datasets", BODY) == with_id(dataset)
    assert records.begin_idempotent(project, "two", "POST /v1/uploads", BODY) == with_id(upload)


def with_id(made: DatasetRow | UploadRow) -> Replay:
    return Replay(201, {}, made.id.encode())


def test_one_that_comes_late_leaves_the_answer_to_its_heir(database_url: str) -> None:
    clock = Clock()
    records = Records.open(database_url, clock=clock)
    project = records.default_project()
    dataset = ingesting_dataset(records, project)
    dead = started(records, project)
    clock.forward(seconds=11)
    heir = started(records, project)
    late = queued_job(records, project, dataset, idempotency_key="key", answering=Answering(dead, shown))
    found = queued_job(
        records, project, dataset, idempotency_key="key", answering=Answering(heir, never_shown)
    )
    assert found == late
    assert records.finish_idempotent(heir, 202, {}, b"heir")
    assert begin(records, project) == Replay(202, {}, b"heir")
    assert records.queued_jobs(project) == 1


def test_a_late_one_finds_the_job_of_its_heir(database_url: str) -> None:
    clock = Clock()
    records = Records.open(database_url, clock=clock)
    project = records.default_project()
    dataset = ingesting_dataset(records, project)
    dead = started(records, project)
    clock.forward(seconds=11)
    heir = started(records, project)
    made = queued_job(records, project, dataset, idempotency_key="key", answering=Answering(heir, shown))
    late = queued_job(
        records, project, dataset, idempotency_key="key", answering=Answering(dead, never_shown)
    )
    assert late == made
    assert not records.finish_idempotent(dead, 202, {}, b"late")
    assert begin(records, project) == shown(made)


def test_a_retry_and_its_answer_are_kept_together(records: Records, project: str) -> None:
    job = queued_job(records, project)
    records.request_cancel(project, job.id)
    answering = Answering(started(records, project), shown)
    again = records.retry_job(project, job.id, idempotency_key="key", answering=answering)
    assert begin(records, project) == shown(again)


def test_old_answers_are_dropped(database_url: str) -> None:
    clock = Clock()
    records = Records.open(database_url, clock=clock)
    project = records.default_project()
    records.finish_idempotent(started(records, project), 200, {}, b"")
    clock.forward(hours=23)
    assert records.purge_idempotent() == 0
    clock.forward(hours=2)
    assert records.purge_idempotent() == 1
    assert isinstance(begin(records, project), Started)
