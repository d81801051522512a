"""Records of submissions: written once with their jobs, by whoever comes first."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from gradkeel_store.errors import BadCursor, NotFound, StoreError
from gradkeel_store.records import NewJob, NewSubmission, Recorded, Records
from making import CONFIG, ready_dataset

PROBLEM = {"type": "urn:gradkeel:problem:invalid", "status": 422}


def refuse(item: NewSubmission, error: StoreError) -> dict[str, Any]:
    return {"refused": item.submission_id, "by": type(error).__name__}


def accepted(project: str, name: str, dataset_id: str, digest: str = "a" * 64) -> NewSubmission:
    return NewSubmission(project, name, digest, job=NewJob(dataset_id, CONFIG, CONFIG, {"team": "a"}))


def test_a_job_and_its_record_come_together(records: Records, project: str) -> None:
    dataset = ready_dataset(records, project)
    [good, bad] = records.record_submissions(
        [accepted(project, "good", dataset.id), NewSubmission(project, "bad", "b" * 64, error=PROBLEM)],
        refuse,
    )
    assert (good.fresh, good.row.state, bad.row.state) == (True, "accepted", "rejected")
    assert good.row.job_id is not None
    job = records.get_job(project, good.row.job_id)
    assert (job.state, job.submitted, job.labels) == ("queued", CONFIG, {"team": "a"})
    assert [event.data["state"] for event in records.lifecycle_events(job.id)] == ["queued"]
    assert records.get_submission(project, "good") == good.row
    assert records.get_submission(project, "bad").to_json()["error"] == PROBLEM


def test_the_first_stands(records: Records, project: str) -> None:
    dataset = ready_dataset(records, project)
    first = accepted(project, "one", dataset.id)
    answers = records.record_submissions([first, accepted(project, "one", dataset.id, "c" * 64)], refuse)
    again = records.record_submissions([first], refuse)
    assert [answer.fresh for answer in [*answers, *again]] == [True, False, False]
    assert {answer.row.job_id for answer in [*answers, *again]} == {answers[0].row.job_id}
    assert answers[1].row.config_sha256 == "a" * 64
    assert records.job_counts(project)["queued"] == 1


def test_the_same_id_in_two_projects(records: Records, project: str) -> None:
    other = records.project_named("another")
    mine, theirs = ready_dataset(records, project), ready_dataset(records, other)
    answers = records.record_submissions(
        [accepted(project, "one", mine.id), accepted(other, "one", theirs.id)], refuse
    )
    assert all(answer.fresh for answer in answers)
    assert records.get_job(other, str(answers[1].row.job_id)).dataset_id == theirs.id
    with pytest.raises(NotFound):
        records.get_submission(records.project_named("third"), "one")


def test_a_data_set_that_is_gone_by_now(records: Records, project: str) -> None:
    """Those of other data sets are written all the same."""
    kept, lost = ready_dataset(records, project), ready_dataset(records, project)
    records.delete_dataset(project, lost.id)
    answers = records.record_submissions(
        [accepted(project, "lost", lost.id), accepted(project, "kept", kept.id)], refuse
    )
    assert answers[0].row.error == {"refused": "lost", "by": "NotFound"}
    assert (answers[0].row.state, answers[0].row.job_id, answers[1].row.state) == (
        "rejected",
        None,
        "accepted",
    )


def test_two_consumers_with_the_same_in_hand(records: Records, project: str) -> None:
    dataset = ready_dataset(records, project)
    names = [f"s{number}" for number in range(40)]
    orders = (names, names[::-1], names[20:] + names[:20])
    answers: list[list[Recorded]] = []

    def record(order: list[str]) -> None:
        for start in range(0, len(order), 8):
            part = [accepted(project, name, dataset.id) for name in order[start : start + 8]]
            answers.append(records.record_submissions(part, refuse))

    threads = [threading.Thread(target=record, args=(order,)) for order in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = [answer for part in answers for answer in part]
    assert len(told) == 3 * len(names)
    assert sum(answer.fresh for answer in told) == len(names)
    assert records.job_counts(project)["queued"] == len(names)
    assert len({answer.row.job_id for answer in told}) == len(names)


def test_pages(records: Records, project: str) -> None:
    dataset = ready_dataset(records, project)
    for number in range(3):
        records.record_submissions([accepted(project, f"ä {number}", dataset.id)], refuse)
    records.record_submissions([NewSubmission(project, "bad", "b" * 64, error=PROBLEM)], refuse)
    page = records.list_submissions(project, "accepted", limit=2)
    rest = records.list_submissions(project, "accepted", limit=2, after=page.next_cursor)
    assert [row.submission_id for row in (*page.rows, *rest.rows)] == ["ä 2", "ä 1", "ä 0"]
    with pytest.raises(BadCursor):
        records.list_submissions(project, after="?")


def test_signs_of_life_are_told_apart_by_role(records: Records) -> None:
    records.worker_heartbeat("w", {"devices": ["cpu"]})
    records.worker_heartbeat("c", {"submissions": {}}, "consumer")
    records.worker_heartbeat("c", {"submissions": {"accepted": 1}}, "consumer")
    assert [row.id for row in records.live_workers()] == ["w"]
    assert [row.info for row in records.live_workers(role="consumer")] == [{"submissions": {"accepted": 1}}]
