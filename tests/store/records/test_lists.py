import base64
from collections.abc import Callable
from typing import Any

import pytest

from gradkeel_store.errors import BadCursor
from gradkeel_store.records import JobFilter, Page, Records
from making import Clock, ended_job, ingesting_dataset, queued_job, ready_dataset


def ids(page: Page[Any]) -> list[str]:
    return [row.id for row in page.rows]


def walk(fetch: Callable[[str | None], Page[Any]]) -> list[str]:
    found: list[str] = []
    cursor = None
    while True:
        page = fetch(cursor)
        found += ids(page)
        assert page.has_more == (page.next_cursor is not None)
        if not page.has_more:
            return found
        cursor = page.next_cursor


@pytest.mark.parametrize("same_time", [True, False])
def test_pages_show_each_once_in_order(database_url: str, same_time: bool) -> None:
    clock = Clock()
    records = Records.open(database_url, clock=clock)
    project = records.default_project()
    made = []
    for _ in range(7):
        made.append(ingesting_dataset(records, project).id)
        clock.forward(seconds=0 if same_time else 1)
    expected = sorted(made) if same_time else made
    assert walk(lambda after: records.list_datasets(project, 3, after, "asc")) == expected
    assert walk(lambda after: records.list_datasets(project, 3, after, "desc")) == expected[::-1]
    assert walk(lambda after: records.list_datasets(project, 7, after)) == expected[::-1]


def test_one_that_comes_meanwhile_shifts_nothing(records: Records, project: str) -> None:
    made = [ingesting_dataset(records, project).id for _ in range(4)]
    first = records.list_datasets(project, 2)
    ingesting_dataset(records, project)
    second = records.list_datasets(project, 2, first.next_cursor)
    assert ids(first) + ids(second) == made[::-1]


def encoded(text: bytes) -> str:
    return base64.urlsafe_b64encode(text).decode()


@pytest.mark.parametrize(
    "cursor",
    [
        *("x", "", "====", "é", "AAAA", encoded(b"2026-01-01 job_x")),
        encoded(b"0001-01-01T00:00:00+14:00 job_x"),
        encoded(b"2026-01-01T00:00:00+00:00 job_\0"),
    ],
)
def test_other_cursors_are_refused(records: Records, project: str, cursor: str) -> None:
    for fetch in (records.list_datasets, records.list_jobs, records.list_models):
        with pytest.raises(BadCursor):
            fetch(project, after=cursor)


def test_limits_are_refused_beyond_their_range(records: Records, project: str) -> None:
    for limit in (0, -1, 1001):
        with pytest.raises(ValueError, match="limit"):
            records.list_jobs(project, limit=limit)


def test_jobs_are_found_by_what_is_asked(database_url: str) -> None:
    clock = Clock()
    records = Records.open(database_url, clock=clock)
    project = records.default_project()
    done = ended_job(records, project)
    clock.forward(minutes=1)
    middle = clock()
    clock.forward(minutes=1)
    data = ready_dataset(records, project)
    labelled = queued_job(records, project, data, labels={"team": "a", 'odd "name"': "b"}, kind="preflight")
    plain = queued_job(records, project, data, labels={"team": "b"})

    def found(**asked: Any) -> set[str]:
        return set(ids(records.list_jobs(project, JobFilter(**asked))))

    assert found() == {done.id, labelled.id, plain.id}
    assert found(state="succeeded") == {done.id}
    assert found(state="queued") == {labelled.id, plain.id}
    assert found(kind="preflight") == {labelled.id}
    assert found(dataset_id=data.id) == {labelled.id, plain.id}
    assert found(label=("team", "a")) == {labelled.id}
    assert found(label=("team", None)) == {labelled.id, plain.id}
    assert found(label=('odd "name"', "b")) == {labelled.id}
    assert found(label=("team') --", "a")) == set()
    assert found(created_after=middle) == {labelled.id, plain.id}
    assert found(created_before=middle) == {done.id}
    assert found(state="queued", label=("team", "b")) == {plain.id}
