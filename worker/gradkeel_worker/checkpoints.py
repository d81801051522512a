"""A running job's newest checkpoint: from the child to the object store and the job's row, and back."""

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
    """Checkpoints of one attempt at a job. Threads may share it."""

    def __init__(self, parts: Parts, job: JobRow, work: Path, log: Any) -> None:
        self._parts, self._job, self._log = parts, job, log
        self._path = work / outcome.CHECKPOINT
        self._named = job.checkpoint
        self._stored: tuple[int, int] | None = None
        self._lock = threading.Lock()

    def fetch(self) -> bool:
        """Put the checkpoint of an earlier attempt where the child finds it; whether there is one.

        One that is missing or damaged is set aside: the job begins anew. Raises ``Unavailable``.
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

    def store(self) -> None:
        """Store what the child left last, and name it in the job's row, if that has not been done."""
        with self._lock:
            found = _identity(self._path)
            if found is None or found == self._stored:
                return
            try:
                self._replace(self._parts.objects.put_file(self._path))
                self._stored = found
            except (StoreError, OSError) as error:
                self._log.warning("the checkpoint could not be stored", error=str(error))

    def drop(self) -> None:
        """The job has ended, and its row names no checkpoint any more."""
        with self._lock, contextlib.suppress(StoreError):
            if self._named is not None:
                self._parts.objects.delete(self._named)
                self._named = None

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
