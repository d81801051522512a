from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from gradkeel_store.errors import Conflict, NotFound, SettingsError
from gradkeel_store.records import Records
from making import PEPPER, Clock


def test_a_token_proves_its_key(records: Records, project: str) -> None:
    made, token = records.create_key(project, ["read", "submit"], name="laptop")
    proved = records.authenticate(token)
    assert proved == made
    assert proved.scopes == ("read", "submit")
    key_id, _, secret = token.partition(".")
    assert key_id == made.id
    assert len(secret) == 43


def test_nothing_stored_proves_a_key(records: Records, project: str) -> None:
    made, token = records.create_key(project, ["admin"])
    secret = token.partition(".")[2]
    with records.engine.connect() as connection:
        row = connection.execute(sa.text("SELECT * FROM keys")).mappings().one()
    assert secret not in str(dict(row))
    assert records.authenticate(f"{made.id}.{row['secret_hmac']}") is None


@pytest.mark.parametrize(
    "broken", ["", ".", "key_x.y", "no-dot", "kéy.ü", "{id}", "{id}.", "{token}x", "{id}.{id}"]
)
def test_other_tokens_prove_nothing(records: Records, project: str, broken: str) -> None:
    made, token = records.create_key(project, ["read"])
    assert records.authenticate(broken.format(id=made.id, token=token)) is None


def test_a_secret_belongs_to_its_id(records: Records, project: str) -> None:
    first, _ = records.create_key(project, ["read"])
    _, second = records.create_key(project, ["read"])
    assert records.authenticate(f"{first.id}.{second.partition('.')[2]}") is None


def test_another_pepper_ends_all_keys(records: Records, project: str, database_url: str) -> None:
    _, token = records.create_key(project, ["read"])
    assert Records.open(database_url, pepper=PEPPER).authenticate(token) is not None
    assert Records.open(database_url, pepper="another").authenticate(token) is None


def test_a_revoked_key_ends_at_once_and_stays_listed(records: Records, project: str) -> None:
    made, token = records.create_key(project, ["read"])
    first = records.revoke_key(project, made.id)
    assert records.authenticate(token) is None
    assert records.revoke_key(project, made.id) == first
    assert [key.id for key in records.list_keys(project)] == [made.id]


def test_a_key_ends_when_it_expires(database_url: str) -> None:
    clock = Clock()
    records = Records.open(database_url, pepper=PEPPER, clock=clock)
    _, token = records.create_key(
        records.default_project(), ["read"], expires_at=clock() + timedelta(hours=1)
    )
    assert records.authenticate(token) is not None
    clock.forward(hours=1)
    assert records.authenticate(token) is None


def test_another_projects_key_is_absent(records: Records, project: str) -> None:
    made, _ = records.create_key(project, ["read"])
    other = records.project_named("other")
    assert records.list_keys(other) == []
    with pytest.raises(NotFound):
        records.revoke_key(other, made.id)


def test_unknown_scopes_are_refused(records: Records, project: str) -> None:
    with pytest.raises(ValueError, match="everything"):
        records.create_key(project, ["everything"])


def test_keys_are_not_made_without_a_pepper(tmp_path: Path) -> None:
    records = Records.open(f"sqlite:///{tmp_path}/r.db")
    with pytest.raises(SettingsError, match="pepper"):
        records.create_key(records.default_project(), ["read"])


def test_the_document_of_a_key_holds_no_secret(records: Records, project: str) -> None:
    made, _ = records.create_key(project, ["read"], name="ci")
    times = {"created_at", "expires_at", "revoked_at", "last_used_at"}
    assert set(made.to_json()) == {"id", "name", "scopes"} | times


def timed(database_url: str, clock: Clock) -> tuple[Records, str]:
    records = Records.open(database_url, pepper=PEPPER, clock=clock)
    return records, records.default_project()


def test_a_rotated_key_works_beside_the_new_one_for_a_while(database_url: str) -> None:
    clock = Clock()
    records, project = timed(database_url, clock)
    old, old_token = records.create_key(project, ["read", "submit"], name="ci")
    new, new_token = records.rotate_key(project, old.id, timedelta(minutes=5))
    assert (new.name, new.scopes, new.expires_at) == ("ci", ("read", "submit"), None)
    assert new.id != old.id
    for token in (old_token, new_token):
        assert records.authenticate(token) is not None
    clock.forward(minutes=5)
    assert records.authenticate(old_token) is None
    assert records.authenticate(new_token) is not None
    with pytest.raises(Conflict, match="has ended"):
        records.rotate_key(project, old.id, timedelta(0))


def test_rotation_without_overlap_ends_the_old_key_at_once(records: Records, project: str) -> None:
    old, token = records.create_key(project, ["admin"])
    records.rotate_key(project, old.id, timedelta(0))
    assert records.authenticate(token) is None


def test_a_rotated_key_gets_the_same_lifetime_anew_and_the_old_one_no_more(database_url: str) -> None:
    clock = Clock()
    records, project = timed(database_url, clock)
    old, _ = records.create_key(project, ["read"], expires_at=clock() + timedelta(days=90))
    clock.forward(days=89)
    new, _ = records.rotate_key(project, old.id, timedelta(days=7))
    assert new.expires_at == clock() + timedelta(days=90)
    assert records.get_key(project, old.id).expires_at == old.expires_at


def test_the_last_admin_key_is_kept(database_url: str) -> None:
    clock = Clock()
    records, project = timed(database_url, clock)
    first, _ = records.create_key(project, ["read", "admin"])
    records.create_key(project, ["read", "submit"])
    records.create_key(records.project_named("other"), ["admin"])
    short, _ = records.create_key(project, ["admin"], expires_at=clock() + timedelta(hours=1))
    with pytest.raises(Conflict, match="last key"):
        records.revoke_key(project, first.id)
    records.revoke_key(project, short.id)
    records.create_key(project, ["admin"])
    assert records.revoke_key(project, first.id).revoked_at is not None


def test_the_use_of_a_key_is_written_down_once_a_minute(database_url: str) -> None:
    clock = Clock()
    records, project = timed(database_url, clock)
    key, _ = records.create_key(project, ["read"])
    assert key.last_used_at is None
    records.note_use(key.id)
    first = clock()
    clock.forward(seconds=59)
    records.note_use(key.id)
    assert records.get_key(project, key.id).last_used_at == first
    clock.forward(seconds=1)
    records.note_use(key.id)
    assert records.get_key(project, key.id).last_used_at == clock()


def test_keys_come_in_pages(records: Records, project: str) -> None:
    made = [records.create_key(project, ["read"])[0].id for _ in range(5)]
    first = records.page_keys(project, limit=3, order="asc")
    rest = records.page_keys(project, limit=3, order="asc", after=first.next_cursor)
    assert [key.id for key in (*first.rows, *rest.rows)] == made
    assert (first.has_more, rest.has_more) == (True, False)


def test_a_key_of_another_project_is_neither_shown_nor_rotated(records: Records, project: str) -> None:
    made, _ = records.create_key(project, ["read"])
    other = records.project_named("other")
    with pytest.raises(NotFound):
        records.get_key(other, made.id)
    with pytest.raises(NotFound):
        records.rotate_key(other, made.id, timedelta(0))
    assert records.get_project(other).name == "other"
    with pytest.raises(NotFound):
        records.get_project("prj_none")
