"""Removing what nobody needs any more: old answers, expired uploads, and objects that no record names."""

import threading

from gradkeel_store.errors import StoreError
from gradkeel_store.objects import Objects
from gradkeel_store.records import Records
from gradkeel_worker.parts import Parts

TIDY_SECONDS = 3600.0


class Tidying:
    """A thread of its own, for listing a large object store must not hold up leases."""

    def __init__(self, parts: Parts, seconds: float = TIDY_SECONDS) -> None:
        self._parts, self._seconds = parts, seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tidying", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Ask the thread to end; a listing under way is not waited for."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            try:
                self._parts.log.info("tidied", **tidy(self._parts.records, self._parts.objects))
            except StoreError as error:
                self._parts.log.warning("tidying has to wait", error=str(error))


def tidy(records: Records, objects: Objects) -> dict[str, int]:
    """Drop answers older than a day, expired uploads, and unnamed objects older than an hour; how many."""
    return {
        "answers": records.purge_idempotent(),
        "uploads": records.drop_expired_uploads(),
        "pieces_of_uploads": drop_pieces(records, objects),
        "objects": objects.collect(records.referenced),
    }


def drop_pieces(records: Records, objects: Objects) -> int:
    """Remove the pieces of uploads that ended or are gone; of how many uploads.

    An upload's record is there before its first piece is, and no id is used twice.
    """
    found = set(objects.spaces())
    idle = found - records.uploads_in_work(found)
    for upload_id in idle:
        objects.apart(upload_id).discard()
    return len(idle)
