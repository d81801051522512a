"""The end of a resumable upload: its pieces become one object, and the upload becomes a data set."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import structlog
from celery import Celery

from gradkeel.contract.problems import Problem
from gradkeel_service.errors import Refusal
from gradkeel_store.errors import Held, StoreError, Unavailable
from gradkeel_store.objects import Objects, Writer
from gradkeel_store.queue import ring_ingest
from gradkeel_store.records import DatasetRow, Records, UploadRow

log = structlog.get_logger(__name__)

SIGN_SECONDS = 2.0
"""Between two signs of life of who holds an upload; see ``records.uploads.HOLD_SECONDS``."""

AT_ONCE = 2
"""Uploads that one process puts together at a time: each reads and writes the whole file."""


class Assembly:
    """Puts whole uploads together in threads of its own, so that no request has to outlast it.

    What is cut short (the process is stopped or killed) is begun anew by whoever asks for the upload next.
    """

    def __init__(self, records: Records, objects: Objects, celery: Celery, stopping: threading.Event) -> None:
        self._records, self._objects, self._celery = records, objects, celery
        self._stopping = stopping
        self._threads = ThreadPoolExecutor(AT_ONCE, "assembly")

    def start(self, held: UploadRow) -> "Future[DatasetRow]":
        """Finish an upload whose bytes are all there; the hold passes on to the thread.

        The result is the data set. Raises there what ``UploadRecords.finish_upload`` and the object store
        raise, and ``Refusal`` where the digest is not the declared one.
        """
        return self._threads.submit(self._finish, held)

    def start_unless_held(self, upload: UploadRow) -> None:
        """Take up what another process may have left half done."""
        try:
            held = self._records.hold_upload(upload.project, upload.id, upload.length)
        except StoreError:  # held, finished or gone by now
            return
        self.start(held)

    def _finish(self, held: UploadRow) -> DatasetRow:
        space = self._objects.apart(held.id)
        try:
            with kept(self._records, held):
                digest = self._assemble(held, space)
                dataset = self._records.finish_upload(held, digest)
        except Exception as error:
            log.warning("assembly_stopped", upload_id=held.id, error=str(error))
            self._records.release_upload(held)
            raise
        ring_ingest(self._celery, dataset.id)
        drop(space)
        return dataset

    def _assemble(self, held: UploadRow, space: Objects) -> str:
        with self._objects.writer() as writer:
            for piece in self._records.pieces_of(held.id):
                for chunk in space.open(piece.sha256):
                    if self._stopping.is_set():
                        raise Unavailable("the service is stopping; the upload is finished when it is back")
                    writer.write(chunk)
            self._check(held, space, writer)
            return writer.commit()

    def _check(self, held: UploadRow, space: Objects, writer: Writer) -> None:
        if writer.size != held.length:
            raise Unavailable(f"{writer.size} of {held.length} bytes were found")
        if held.sha256 is None or writer.digest == held.sha256:
            return
        refusal = Refusal(
            "digest_mismatch",
            f"the bytes have the sha-256 digest {writer.digest}, declared was {held.sha256}; send them anew",
        )
        fail(self._records, held, space, refusal)
        raise refusal


def fail(records: Records, held: UploadRow, space: Objects, refusal: Refusal) -> None:
    """End an upload whose bytes cannot be used: they go, and its record says why."""
    records.fail_upload(held, Problem(refusal.code, refusal.detail, refusal.errors).to_json())
    drop(space)


def drop(space: Objects) -> None:
    """Remove the pieces of an upload that ended. What is left behind, the worker's tidying finds."""
    try:
        space.discard()
    except StoreError as error:
        log.warning("pieces_left_behind", error=str(error))


@contextmanager
def kept(records: Records, held: UploadRow) -> Iterator[None]:
    """Within the block, the hold is kept by signs of life, however long one step of the work takes."""
    ended = threading.Event()
    thread = threading.Thread(target=_sign, args=(records, held, ended), name="upload-hold", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _sign(records: Records, held: UploadRow, ended: threading.Event) -> None:
    while not ended.wait(SIGN_SECONDS):
        try:
            records.renew_upload(held)
        except Held:
            return
        except StoreError as error:
            log.warning("hold_not_renewed", upload_id=held.id, error=str(error))
