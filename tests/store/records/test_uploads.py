"""Uploads by pieces: one holder at a time, one data set at the end, nothing kept of what expired."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from gradkeel.contract.states import UploadState
from gradkeel_store.errors import Gone, Held, NotFound, WrongOffset
from gradkeel_store.records import DatasetRow, Piece, Records, UploadRow
from gradkeel_store.records.uploads import HOLD_SECONDS
from making import PEPPER, Clock

DAY = 86400.0
SHA = "a" * 64


@pytest.fixture
def clock(records: Records) -> Clock:
    clock = Clock()
    records.now = clock
    return clock


@pytest.fixture
def begin(records: Records, project: str) -> Callable[..., UploadRow]:
    def begin(length: int = 10) -> UploadRow:
        return records.create_upload(project, "t.csv", length, seconds=DAY, options={"header": False})

    return begin


def add(records: Records, held: UploadRow, size: int) -> UploadRow:
    return records.add_piece(held, Piece(held.received, size, SHA), DAY)


def finished(records: Records, upload: UploadRow) -> DatasetRow:
    held = add(records, records.hold_upload(upload.project, upload.id, 0), upload.length)
    return records.finish_upload(held, SHA)


def test_pieces_become_one_data_set(records: Records, project: str, begin: Callable[..., UploadRow]) -> None:
    upload = begin()
    held = add(records, records.hold_upload(project, upload.id, 0), 4)
    records.release_upload(held)
    assert records.get_upload(project, upload.id).state == UploadState.RECEIVING
    held = add(records, records.hold_upload(project, upload.id, 4), 6)
    assert records.get_upload(project, upload.id).state == UploadState.ASSEMBLING
    assert records.pieces_of(upload.id) == [Piece(0, 4, SHA), Piece(4, 6, SHA)]
    dataset = records.finish_upload(held, SHA)
    assert (dataset.name, dataset.bytes, dataset.options) == ("t.csv", 10, {"header": False})
    assert records.get_dataset(project, dataset.id) == dataset
    done = records.get_upload(project, upload.id)
    assert (done.state, done.dataset_id, done.sha256, done.holder) == ("done", dataset.id, SHA, None)
    assert records.pieces_of(upload.id) == []


def test_only_one_holder_at_a_time(records: Records, project: str, begin: Callable[..., UploadRow]) -> None:
    upload = begin()
    held = records.hold_upload(project, upload.id, 0)
    with pytest.raises(Held):
        records.hold_upload(project, upload.id, 0)
    records.release_upload(held)
    records.hold_upload(project, upload.id, 0)


def test_a_dead_holder_is_followed_by_another_and_changes_nothing_any_more(
    records: Records, project: str, begin: Callable[..., UploadRow], clock: Clock
) -> None:
    upload = begin()
    frozen = records.hold_upload(project, upload.id, 0)
    clock.forward(seconds=HOLD_SECONDS + 1)
    held = records.hold_upload(project, upload.id, 0)
    for late in (
        lambda: add(records, frozen, 10),
        lambda: records.renew_upload(frozen),
        lambda: records.fail_upload(frozen, {}),
    ):
        with pytest.raises(Held):
            late()
    records.release_upload(frozen)
    held = add(records, held, 10)
    with pytest.raises(Held):
        records.finish_upload(frozen, SHA)
    assert records.list_datasets(project).rows == ()
    records.finish_upload(held, SHA)
    with pytest.raises(Held):
        records.finish_upload(held, SHA)
    assert len(records.list_datasets(project).rows) == 1


def test_a_sign_of_life_keeps_the_hold(
    records: Records, project: str, begin: Callable[..., UploadRow], clock: Clock
) -> None:
    upload = begin()
    held = records.hold_upload(project, upload.id, 0)
    clock.forward(seconds=HOLD_SECONDS - 1)
    records.renew_upload(held)
    clock.forward(seconds=HOLD_SECONDS - 1)
    with pytest.raises(Held):
        records.hold_upload(project, upload.id, 0)


def test_bytes_have_to_follow_those_that_are_there(
    records: Records, project: str, begin: Callable[..., UploadRow]
) -> None:
    upload = begin()
    records.release_upload(add(records, records.hold_upload(project, upload.id, 0), 4))
    for offset in (0, 3, 5, 10):
        with pytest.raises(WrongOffset, match="stands at 4"):
            records.hold_upload(project, upload.id, offset)


def test_a_finished_upload_takes_nothing_more(
    records: Records, project: str, begin: Callable[..., UploadRow]
) -> None:
    upload = begin()
    finished(records, upload)
    with pytest.raises(WrongOffset):
        records.hold_upload(project, upload.id, 10)


def test_a_refused_upload_says_why(records: Records, project: str, begin: Callable[..., UploadRow]) -> None:
    upload = begin()
    records.fail_upload(records.hold_upload(project, upload.id, 0), {"detail": "it is a pickle"})
    row = records.get_upload(project, upload.id)
    assert (row.state, row.error) == (UploadState.FAILED, {"detail": "it is a pickle"})
    with pytest.raises(Gone, match="it is a pickle"):
        records.hold_upload(project, upload.id, 0)


def test_another_project_sees_nothing(records: Records, begin: Callable[..., UploadRow]) -> None:
    upload, other = begin(), records.project_named("other")
    for ask in (records.get_upload, records.delete_upload):
        with pytest.raises(NotFound):
            ask(other, upload.id)
    with pytest.raises(NotFound):
        records.hold_upload(other, upload.id, 0)


def test_pieces_count_as_stored_until_they_are_gone(
    records: Records, project: str, begin: Callable[..., UploadRow]
) -> None:
    first, second, third = begin(), begin(), begin()
    add(records, records.hold_upload(project, first.id, 0), 7)
    assert records.stored_bytes(project) == 7
    finished(records, second)
    assert records.stored_bytes(project) == 17
    held = add(records, records.hold_upload(project, third.id, 0), 5)
    records.fail_upload(held, {})
    records.delete_upload(project, first.id)
    assert records.stored_bytes(project) == 10


def test_an_upload_expires_so_long_after_its_last_bytes(
    records: Records, project: str, begin: Callable[..., UploadRow], clock: Clock
) -> None:
    upload = begin()
    clock.forward(seconds=DAY - 1)
    records.release_upload(add(records, records.hold_upload(project, upload.id, 0), 4))
    clock.forward(seconds=DAY - 1)
    assert records.drop_expired_uploads() == 0
    assert records.get_upload(project, upload.id).received == 4
    clock.forward(seconds=1)
    for ask in (
        lambda: records.get_upload(project, upload.id),
        lambda: records.hold_upload(project, upload.id, 4),
    ):
        with pytest.raises(Gone):
            ask()
    assert records.drop_expired_uploads() == 1
    assert records.pieces_of(upload.id) == []
    with pytest.raises(NotFound):
        records.get_upload(project, upload.id)


def test_what_is_being_worked_on_does_not_expire_under_the_hand(
    records: Records, project: str, begin: Callable[..., UploadRow], clock: Clock
) -> None:
    upload = begin()
    clock.forward(seconds=DAY - 1)
    held = records.hold_upload(project, upload.id, 0)
    clock.forward(seconds=1)
    assert records.drop_expired_uploads() == 0
    assert add(records, held, 4).expires_at == clock() + timedelta(seconds=DAY)


def test_only_unended_uploads_need_their_pieces(
    records: Records, project: str, begin: Callable[..., UploadRow]
) -> None:
    open_, done, failed = begin(), begin(), begin()
    finished(records, done)
    records.fail_upload(records.hold_upload(project, failed.id, 0), {})
    asked = {open_.id, done.id, failed.id, "upl_unknown"}
    assert records.uploads_in_work(asked) == {open_.id}


def test_a_data_set_outlives_its_upload(
    records: Records, project: str, begin: Callable[..., UploadRow]
) -> None:
    upload = begin()
    dataset = finished(records, upload)
    records.delete_upload(project, upload.id)
    assert records.get_dataset(project, dataset.id) == dataset


def test_two_databases_connections_cannot_both_hold(
    database_url: str, records: Records, project: str, begin: Callable[..., UploadRow]
) -> None:
    """What two web processes do at once."""
    upload, other = begin(), Records.open(database_url, pepper=PEPPER)
    try:
        other.hold_upload(project, upload.id, 0)
        with pytest.raises(Held):
            records.hold_upload(project, upload.id, 0)
    finally:
        other.close()
