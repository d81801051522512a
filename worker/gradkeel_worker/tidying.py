"""Removing what nobody needs any more: stored answers of old requests, and objects that no record names."""

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
                answers, objects = tidy(self._parts.records, self._parts.objects)
                self._parts.log.info("tidied", answers=answers, objects=objects)
            except StoreError as error:
                self._parts.log.warning("tidying has to wait", error=str(error))


def tidy(records: Records, objects: Objects) -> tuple[int, int]:
    """Drop stored answers older than a day and unnamed objects older than an hour; how many of each."""
    return records.purge_idempotent(), objects.collect(records.referenced)
