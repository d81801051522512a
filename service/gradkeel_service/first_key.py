"""`python -m gradkeel_service.first_key`: print the data folder's own key, made when there is none.

A process of its own, so that the supervisor of `gradkeel up` need not load the database.
"""

import sys

from gradkeel.contract.states import Scope
from gradkeel_service import profile
from gradkeel_store.records import Records, open_records
from gradkeel_store.settings import Settings


def own_key(records: Records, settings: Settings) -> str:
    """The key of DATA/profile.json while it is valid, else a new one of all scopes."""
    held = profile.read_key(settings.data / profile.NAME)
    if held is not None and records.authenticate(held) is not None:
        return held
    return new_admin_key(records, "gradkeel up")


def new_admin_key(records: Records, name: str) -> str:
    """A new key of the default project with all scopes."""
    _, token = records.create_key(records.default_project(), tuple(Scope), name=name)
    return token


def any_key(records: Records) -> bool:
    """Whether someone could sign in: a key of the default project that is not revoked."""
    return any(key.revoked_at is None for key in records.list_keys(records.default_project()))


def main() -> None:
    settings = Settings.load()
    records = open_records(settings)
    sys.stdout.write(own_key(records, settings) + "\n")
    records.close()


if __name__ == "__main__":
    main()
