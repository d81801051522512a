"""Bytes of a resumable upload on their way in: stored piece by piece, so that a cut loses little."""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from gradkeel_service import magic
from gradkeel_service.errors import Refusal
from gradkeel_service.uploading.assembly import SIGN_SECONDS, fail, kept
from gradkeel_store.errors import NotFound, ObjectMissing
from gradkeel_store.objects import Objects, Writer
from gradkeel_store.records import Piece, Records, UploadRow

PIECE_BYTES = 16 * 1024 * 1024
"""A piece of this size is stored, and counts, while the next one comes in."""

SMALL_PIECE_BYTES = 1024 * 1024
PIECE_SECONDS = 5.0
"""On slow lines a piece is stored after so long, once it has the smaller size."""

SMALLEST_PIECES = 10_000
"""So many pieces of any size an upload may have, beside those of the smaller size that its length allows."""


@dataclass(frozen=True)
class Yard:
    """Where pieces are stored and counted. ``seconds``: how long an upload lives without new ones."""

    records: Records
    objects: Objects
    seconds: float
    clock: Callable[[], float] = time.monotonic


def refuse_crumbs(yard: Yard, held: UploadRow) -> None:
    """413 where the upload came in so many tiny pieces that storing each costs more than its bytes."""
    most = SMALLEST_PIECES + held.length // SMALL_PIECE_BYTES
    if yard.records.count_pieces(held.id) >= most:
        raise Refusal(
            "too_large",
            f"the upload came in {most} pieces, the most that one of its length may have; delete it, and "
            "send larger pieces to a new one, at best the whole file in one request",
        )


def receive(yard: Yard, held: UploadRow, pieces: Iterable[bytes]) -> UploadRow:
    """Add ``pieces`` to the upload: the upload as it stands then, still held.

    When their stream breaks (a ``Refusal`` from it), what came before is kept and the refusal goes on. 415
    when the first bytes are no table's: the upload is refused for good. ``Held``, ``NotFound``: it was taken
    over or deleted meanwhile, and what was not yet counted does not count.
    """
    reception = _Reception(yard, held)
    try:
        try:
            for piece in pieces:
                reception.take(piece)
        except Refusal:
            reception.store()
            raise
        return reception.store()
    except ObjectMissing as error:
        raise NotFound(f"the upload {held.id} was deleted") from error
    finally:
        reception.close()


class _Reception:
    """One request's bytes: the piece being written, the one being stored, and the file's beginning."""

    def __init__(self, yard: Yard, held: UploadRow) -> None:
        self._yard = yard
        self._held = held
        self._space = yard.objects.apart(held.id)
        self._head: bytearray | None = self._head_so_far()
        self._start = held.received
        self._writer: Writer | None = None
        self._began = self._signed = yard.clock()
        self._storing: Future[UploadRow] | None = None
        self._thread: ThreadPoolExecutor | None = None

    def take(self, data: bytes) -> None:
        if self._writer is None:
            self._writer, self._began = self._space.writer(), self._yard.clock()
        self._look(data)
        self._writer.write(data)
        now = self._yard.clock()
        if self._writer.size >= PIECE_BYTES or self._slow(now):
            self._begin_storing()
        elif now - self._signed >= SIGN_SECONDS:
            self._yard.records.renew_upload(self._held)
            self._signed = now

    def _slow(self, now: float) -> bool:
        assert self._writer is not None
        return self._writer.size >= SMALL_PIECE_BYTES and now - self._began >= PIECE_SECONDS

    def store(self) -> UploadRow:
        """Make everything that came safe, and count it."""
        if self._writer is not None and self._writer.size:
            self._look_at_end()
            self._begin_storing()
        self._end_storing()
        return self._held

    def _begin_storing(self) -> None:
        """Store the piece while the next one comes in; one at a time."""
        self._end_storing()
        assert self._writer is not None
        self._thread = self._thread or ThreadPoolExecutor(1, "piece")
        self._storing = self._thread.submit(self._store, self._writer, self._start)
        self._start += self._writer.size
        self._writer = None

    def _end_storing(self) -> None:
        if self._storing is not None:
            storing, self._storing = self._storing, None
            self._held = storing.result()
            self._signed = self._yard.clock()

    def _store(self, writer: Writer, start: int) -> UploadRow:
        """The bytes are on the disk before the record says so."""
        with kept(self._yard.records, self._held):
            digest = writer.commit()
        piece = Piece(start, writer.size, digest)
        return self._yard.records.add_piece(self._held, piece, self._yard.seconds)

    def close(self) -> None:
        if self._thread is not None:
            self._thread.shutdown()
        self._drop()

    def _drop(self) -> None:
        if self._writer is not None:
            self._writer.abort()
            self._writer = None

    # The first bytes of the file

    def _head_so_far(self) -> bytearray | None:
        """What earlier requests brought of the beginning; None once that was checked."""
        if self._held.received >= magic.HEAD_BYTES:
            return None
        head = bytearray()
        for piece in self._yard.records.pieces_of(self._held.id):
            head += self._space.read(piece.sha256)
        return head

    def _look(self, data: bytes) -> None:
        if self._head is None:
            return
        self._head += data[: magic.HEAD_BYTES - len(self._head)]
        if len(self._head) >= magic.HEAD_BYTES:
            self._check(whole=False)

    def _look_at_end(self) -> None:
        assert self._writer is not None
        if self._head is not None and self._start + self._writer.size == self._held.length:
            self._check(whole=True)

    def _check(self, whole: bool) -> None:
        assert self._head is not None
        try:
            magic.check(bytes(self._head), whole)
        except Refusal as refusal:
            self._drop()
            fail(self._yard.records, self._held, self._space, refusal)
            raise
        self._head = None
