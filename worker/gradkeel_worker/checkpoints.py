"""A running job's newest checkpoint: from the child's folder to the object store and the job's row, and back.

Storing takes its time with large models, so it has a thread of its own: the watching of the child, with its
cancels and signs of life, never waits for it.
"""

import contextlib
import os
import threading
from pathlib import Path
from typing import Any

from gradkeel_store.errors import ObjectError, StoreError
from gradkeel_store.records import JobRow
from gradkeel_worker import outcome
from gradkeel_worker.parts import Parts


class Checkpoints:
    """Checkpoints of one attempt at a job."""

    def __init__(self, parts: Parts, job: JobRow, work: Path, log: Any) -> None:
        self._parts, self._job, self._log = parts, job, log
        self._path = work / outcome.CHECKPOINT
        self._named = job.checkpoint
        self._stored: tuple[int, int] | None = None
        self._fresh = threading.Event()
        self._closed = False
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def fetch(self) -> bool:
        """Put the checkpoint of an earlier attempt where the child finds it; whether there is one.

        One that is missing or damaged is forgotten: the job begins anew. Raises ``Unavailable``.
        """
        if self._named is None:
            return False
        try:
            self._parts.objects.fetch(self._named, self._path)
        except ObjectError as error:
            self._log.warning("the checkpoint is set aside", error=str(error))
            return False
        self._stored = _identity(self._path)
        return True

    def made(self) -> None:
        """The child has left a new one. Returns at once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"checkpoints {self._job.id}", daemon=True)
            self._thread.start()
        self._fresh.set()

    def settle(self) -> None:
        """Store what the child left last, if that has not been done."""
        self._store()

    def drop(self) -> None:
        """The job has ended, and its row names no checkpoint any more."""
        with self._lock, contextlib.suppress(StoreError):
            if self._named is not None:
                self._parts.objects.delete(self._named)
                self._named = None

    def close(self) -> None:
        """End the thread; call it in any case."""
        self._closed = True
        self._fresh.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            self._fresh.wait()
            self._fresh.clear()
            if self._closed:
                return
            self._store()

    def _store(self) -> None:
        with self._lock:
            found = _identity(self._path)
            if found is None or found == self._stored:
                return
            try:
                self._replace(self._parts.objects.put_file(self._path))
                self._stored = found
            except (StoreError, OSError) as error:
                self._log.warning("the checkpoint could not be stored", error=str(error))

    def _replace(self, digest: str) -> None:
        """Name the new object in the row, then drop the one before; a lost lease drops the new one.

        No two jobs share a checkpoint, for it holds the time that its training took.
        """
        if digest == self._named:
            return
        held = self._parts.records.save_checkpoint(self._job.id, self._job.fence, digest)
        old, self._named = (self._named, digest) if held else (digest, self._named)
        if old is not None:
            self._parts.objects.delete(old)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns
