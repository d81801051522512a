"""What nobody needs goes, what a record names stays."""

import os
import time
from datetime import timedelta

from gradkeel_store.objects import Objects, open_objects
from gradkeel_store.records import Piece, Records, UploadRow, open_records
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
    assert tidy(records, objects)["objects"] == 1
    assert objects.exists(named) and objects.exists(fresh) and not objects.exists(unnamed)
    records.close()


def _upload(records: Records, objects: Objects, seconds: float = 3600.0) -> UploadRow:
    """An upload with one piece, held."""
    made = records.create_upload(records.default_project(), "t.csv", 8, seconds=seconds)
    held = records.hold_upload(made.project, made.id, 0)
    return records.add_piece(held, Piece(0, 8, objects.apart(made.id).put_bytes(b"a\n1\n2\n3\n")), seconds)


def test_pieces_go_with_their_uploads(connected: Settings) -> None:
    records, objects = open_records(connected), open_objects(connected)
    now = records.now()
    records.now = lambda: now
    going_on, expired, done = (_upload(records, objects, seconds) for seconds in (3600.0, 5.0, 3600.0))
    objects.apart("upl_of_a_record_that_is_gone").put_bytes(b"x")
    records.release_upload(expired)
    records.finish_upload(done, objects.put_bytes(b"whole"))
    records.now = lambda: now + timedelta(seconds=6)
    tidied = tidy(records, objects)
    assert (tidied["uploads"], tidied["pieces_of_uploads"]) == (1, 3)
    assert list(objects.spaces()) == [going_on.id]
    assert records.get_upload(done.project, done.id).state == "done"
    records.close()
