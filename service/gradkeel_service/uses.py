"""When keys were last used: written beside the requests, so that none waits for it."""

import queue
import threading
from datetime import timedelta

import structlog

from gradkeel_store.errors import StoreError
from gradkeel_store.records import KeyRow, Records
from gradkeel_store.records.keys import USE_SECONDS

log = structlog.get_logger(__name__)

BACKLOG = 1000
"""More uses than so many at a time are forgotten: the next request of the key tells again."""


class Uses:
    """Notes uses of keys in a thread of its own, once a minute for each key at most."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._due: queue.Queue[str] = queue.Queue(BACKLOG)
        self._lock = threading.Lock()
        self._noted: set[str] = set()
        self._writer: threading.Thread | None = None

    def note(self, key: KeyRow) -> None:
        """Tell that a request came with this key, as it was just read."""
        last = key.last_used_at
        if last is not None and self._records.now() - last < timedelta(seconds=USE_SECONDS):
            return
        with self._lock:
            if key.id in self._noted or self._due.full():
                return
            self._noted.add(key.id)
            self._due.put_nowait(key.id)
            if self._writer is None:
                self._writer = threading.Thread(target=self._write, name="uses-of-keys", daemon=True)
                self._writer.start()

    def _write(self) -> None:
        while True:
            key_id = self._due.get()
            try:
                self._records.note_use(key_id)
            except StoreError as error:
                log.warning("key_use_not_noted", key_id=key_id, error=str(error))
            with self._lock:
                self._noted.discard(key_id)
