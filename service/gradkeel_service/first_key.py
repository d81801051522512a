"""`python -m gradkeel_service.first_key`: print the data folder's own key, made when there is none.

A process of its own, so that the supervisor of `gradkeel up` need not load the database.
"""

import sys

from gradkeel.contract.resolve import check_name
from gradkeel.contract.states import Scope
from gradkeel_service.stack import profile
from gradkeel_store.records import Records, open_records
from gradkeel_store.records.keys import DEFAULT_PROJECT
from gradkeel_store.settings import Settings

__all__ = ["any_key", "check_name", "main", "new_admin_key", "open_records", "own_key"]


def own_key(records: Records, settings: Settings) -> str:
    """The key of DATA/profile.json while it is valid, else a new one of all scopes."""
    held = profile.read_key(settings.data / profile.NAME)
    if held is not None and records.authenticate(held) is not None:
        return held
    return new_admin_key(records, "gradkeel up")


def new_admin_key(records: Records, name: str, project: str = DEFAULT_PROJECT) -> str:
    """A new key with all scopes of the project of that name, which is made when missing."""
    _, token = records.create_key(records.project_named(project), tuple(Scope), name=name)
    return token


def any_key(records: Records, project: str = DEFAULT_PROJECT) -> bool:
    """Whether someone could sign in: a key of the project that has not ended."""
    now = records.now()
    return any(key.is_live(now) for key in records.list_keys(records.project_named(project)))


def main() -> None:
    settings = Settings.load()
    records = open_records(settings)
    sys.stdout.write(own_key(records, settings) + "\n")
    records.close()


if __name__ == "__main__":
    main()
