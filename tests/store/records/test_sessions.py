from datetime import timedelta

import sqlalchemy as sa

from gradkeel_store.records import Records
from making import PEPPER, Clock


def test_a_session_stands_for_its_key_until_it_is_closed(records: Records, project: str) -> None:
    key, _ = records.create_key(project, ["read", "submit"])
    token = records.open_session(key, records.now() + timedelta(hours=1))
    found = records.key_of_session(token)
    assert found is not None
    assert (found.id, found.project, found.scopes) == (key.id, project, ("read", "submit"))
    records.close_session(token)
    assert records.key_of_session(token) is None
    records.close_session(token)


def test_a_revoked_key_ends_its_sessions(records: Records, project: str) -> None:
    key, _ = records.create_key(project, ["read"])
    token = records.open_session(key, records.now() + timedelta(hours=1))
    records.revoke_key(project, key.id)
    assert records.key_of_session(token) is None


def test_sessions_end_by_themselves_and_are_swept(database_url: str) -> None:
    clock = Clock()
    records = Records.open(database_url, pepper=PEPPER, clock=clock)
    project = records.default_project()
    key, _ = records.create_key(project, ["read"], expires_at=clock() + timedelta(hours=2))
    short = records.open_session(key, clock() + timedelta(hours=1))
    long = records.open_session(key, clock() + timedelta(hours=9))
    clock.forward(hours=1)
    assert records.key_of_session(short) is None
    assert records.key_of_session(long) is not None
    clock.forward(hours=1)
    assert records.key_of_session(long) is None  # its key has expired
    records.open_session(key, clock() + timedelta(hours=1))
    with records.engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM sessions")) == 2


def test_neither_key_nor_record_opens_a_session(records: Records, project: str) -> None:
    key, key_token = records.create_key(project, ["read"])
    token = records.open_session(key, records.now() + timedelta(hours=1))
    with records.engine.connect() as connection:
        stored = connection.scalar(sa.text("SELECT token_hmac FROM sessions"))
    assert token not in stored
    for other in ("", "ses_", stored, f"ses_{stored}", key_token, key.id, token + "x"):
        assert records.key_of_session(other) is None
    assert records.authenticate(token) is None
