"""Reads batches: a thread that makes jobs of lines, and ends batches whose jobs have all ended.

Batches are served by turns of some thousand lines, so that a long one does not hold up the others. A turn is
made of chunks, each one transaction, and goes on behind the last chunk that was written, whoever wrote it.
While a project's queue is full its batches wait; their lines are not refused for it.
"""

import itertools
import threading
import time
from collections.abc import Iterator

from gradkeel.contract.problems import Problem
from gradkeel_service.consumer.batch_lines import Examiner, RememberingAdmission
from gradkeel_service.consumer.parts import ConsumerParts
from gradkeel_service.jsonl import Line, lines_of
from gradkeel_store.errors import DatasetRejected, NotFound, ObjectError, StoreError
from gradkeel_store.leases import LeaseWatch
from gradkeel_store.logs import get_logger
from gradkeel_store.queue import ring_train
from gradkeel_store.records import BatchRow

CHUNK_LINES = 200
CHUNK_BYTES = 2 * 1024 * 1024
TURN_LINES = 2000
RINGS = 8
"""Rings for each chunk: a ring wakes a worker, which then asks the records for more by itself."""

LOOK_SECONDS = 1.0
"""Between two looks for unread batches, and for batches whose jobs have all ended."""

LEASE_SECONDS = 15.0
"""A reader that gave no sign for so long is replaced. Taken from a living one in error, a batch loses
nothing: only the newest claim can write."""


class BatchReader:
    """The thread. It opens nothing of its own: ``parts`` are those of its process."""

    def __init__(self, parts: ConsumerParts) -> None:
        self._parts = parts
        self._log = get_logger(__name__)
        self._leases = LeaseWatch(min(parts.settings.lease_seconds, LEASE_SECONDS))
        self._verified: set[str] = set()
        self._looked = float("-inf")
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="batch reader", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """There may be something to read."""
        self._wake.set()

    def close(self) -> None:
        """Give back the batch at hand, and end; at most a chunk is waited for."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.read_all()
            except StoreError as error:
                self._log.warning("batches have to wait", error=str(error))
            except Exception:
                self._log.exception("reading of batches failed")
            self._wake.wait(LOOK_SECONDS)
            self._wake.clear()

    def read_all(self) -> None:
        """Look after all batches, and read those that can be read now."""
        self._looked = float("-inf")
        full: set[str] = set()
        self._look_after()
        while not self._stopping.is_set():
            batch = self._parts.records.claim_next_batch(self._parts.owner, full)
            if batch is None:
                break
            if not self._take_turn(batch):
                full.add(batch.project)
        self._looked = float("-inf")
        self._look_after()

    # What all batches need from time to time

    def _look_after(self) -> None:
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        records = self._parts.records
        for lease in self._leases.expired(records.batch_leases()):
            if records.requeue_lost_batch(lease):
                self._log.warning("a dead lease was taken back", batch_id=lease.id)
        for batch_id in records.batches_to_cancel():
            while records.cancel_batch_jobs(batch_id):
                pass
        for batch_id in records.end_batches():
            self._log.info("a batch has ended", batch_id=batch_id)

    # One turn of one batch

    def _take_turn(self, batch: BatchRow) -> bool:
        """Read on in a claimed batch. False where its project's queue is full."""
        if batch.attempt > batch.max_attempts:
            self._give_up(batch, f"its reader died again and again behind line {batch.last_line}")
            return True
        try:
            return self._read_on(batch)
        except ObjectError as error:
            self._give_up(batch, str(error))
        except StoreError:
            self._parts.records.release_batch(batch)
            raise
        return True

    def _give_up(self, batch: BatchRow, reason: str) -> None:
        problem = Problem("internal", f"the rest of the batch could not be read: {reason}")
        self._parts.records.fail_batch(batch, problem.to_json())
        self._log.error("a batch is given up", batch_id=batch.id, reason=reason)

    def _read_on(self, batch: BatchRow) -> bool:
        records = self._parts.records
        admission = RememberingAdmission(records, self._parts.settings)
        examiner = Examiner(batch, admission, records.custom_ids(batch.id))
        lines, budget, room = self._lines(batch), TURN_LINES, TURN_LINES
        while budget > 0 and room > 0 and not self._stopping.is_set():
            room = budget if batch.cancel_requested else admission.room(batch.project)
            chunk = _chunk(lines, min(CHUNK_LINES, budget, room))
            if room > 0 and not chunk:
                self._finish(batch)
                return True
            if not chunk or not self._write(batch, admission, examiner, chunk):
                break
            budget -= len(chunk)
            self._look_after()
        records.release_batch(batch)
        return room > 0

    def _finish(self, batch: BatchRow) -> None:
        self._parts.records.add_lines(batch, [], batch.bytes, at_end=True)
        self._verified.discard(batch.id)
        self._log.info("a batch was read", batch_id=batch.id, lines=batch.lines)

    def _lines(self, batch: BatchRow) -> Iterator[Line]:
        """The lines that were not read yet, of a file whose digest was seen to be right."""
        objects = self._parts.objects
        if batch.id not in self._verified:
            for _ in objects.open(batch.sha256):
                pass
            self._verified.add(batch.id)
        return lines_of(objects.open(batch.sha256, batch.bytes_read), batch.last_line, batch.bytes_read)

    def _write(
        self, batch: BatchRow, admission: RememberingAdmission, examiner: Examiner, chunk: list[Line]
    ) -> bool:
        """Examine and write a chunk. False where the batch is no longer ours, or was cancelled meanwhile."""
        while True:
            found = examiner.examine(chunk)
            try:
                made = self._parts.records.add_lines(batch, found, chunk[-1].end)
            except (NotFound, DatasetRejected):
                admission.forget()  # a data set went away since it was asked for
                continue
            if made is None:
                return False
            examiner.keep()
            self._ring(made)
            return True

    def _ring(self, job_ids: list[str]) -> None:
        for job_id in job_ids[:RINGS]:
            if not ring_train(self._parts.celery, job_id):
                return


def _chunk(lines: Iterator[Line], most: int) -> list[Line]:
    """The next lines, up to ``most`` of them and a bounded number of bytes."""
    chunk: list[Line] = []
    size = 0
    for line in itertools.islice(lines, max(most, 0)):
        chunk.append(line)
        size += len(line.text or b"")
        if size >= CHUNK_BYTES:
            break
    return chunk
