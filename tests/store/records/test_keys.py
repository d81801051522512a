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
    assert set(made.to_json()) == {"id", "name", "scopes", "created_at", "expires_at", "revoked_at"}
