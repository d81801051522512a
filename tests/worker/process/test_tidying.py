"""What nobody needs goes, what a record names stays."""

import os
import time

from gradkeel_store.objects import open_objects
from gradkeel_store.records import open_records
from gradkeel_store.settings import Settings
from gradkeel_worker.tidying import tidy


def test_unnamed_objects_of_an_hour_ago_go(connected: Settings) -> None:
    records, objects = open_records(connected), open_objects(connected)
    named, unnamed, fresh = (objects.put_bytes(text) for text in (b"named", b"unnamed", b"fresh"))
    records.create_dataset(records.default_project(), "a.csv", named, 5, {})
    two_hours_ago = time.time() - 7200
    for digest in (named, unnamed):
        path = objects.local_path(digest)
        assert path is not None
        os.utime(path, (two_hours_ago, two_hours_ago))
    assert tidy(records, objects) == (0, 1)
    assert objects.exists(named) and objects.exists(fresh) and not objects.exists(unnamed)
    records.close()
