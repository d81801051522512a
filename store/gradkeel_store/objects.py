"""Bytes, named by their SHA-256: a local folder or an S3 bucket behind one interface.

An object appears whole or not at all. Locally: a temporary file outside the listed folder, fsync, rename,
fsync of the folder. On S3: a spooled file, then one PUT or multipart upload. A writer holds a lock on its
temporary file for as long as it lives, so `sweep` can tell an abandoned one without looking at a clock.
"""

from __future__ import annotations

import copy
import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError, GenericError
from obstore.exceptions import NotFoundError as KeyMissing
from obstore.store import LocalStore, S3Store

from gradkeel_store.errors import ObjectCorrupt, ObjectMissing, SettingsError, StorageFull, Unavailable
from gradkeel_store.settings import Settings

CHUNK = 1024 * 1024
BUFFER = 64 * 1024
"""Pieces from this size on go to the file as they are, and are hashed beside the writing."""
WRITEBACK = 8 * CHUNK
"""After so many bytes the kernel is asked to begin with the disk, so that the fsync at the end is short."""
_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
_SPACES = "apart"
_SPACE = re.compile(r"[0-9A-Za-z_]{1,64}")
_FULL = {errno.ENOSPC, errno.EDQUOT}


def plain_digest(digest: str) -> str:
    """64 lower-case hex digits, from a digest with or without ``sha256:``. ValueError for anything else."""
    match = _DIGEST.fullmatch(digest)
    if match is None:
        raise ValueError(f"{digest[:80]!r} is no SHA-256 digest")
    return match[1]


@contextmanager
def _translated(digest: str = "") -> Iterator[None]:
    """Failures of the file system and of obstore, in this package's words."""
    try:
        yield
    except (FileNotFoundError, KeyMissing) as error:
        raise ObjectMissing(f"there is no object {digest}") from error
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull("there is no room for the object") from error
        raise Unavailable(f"the object store failed: {error.strerror or error}") from error
    except BaseError as error:
        if "No space left" in str(error):
            raise StorageFull("there is no room for the object") from error
        raise Unavailable(f"the object store failed: {type(error).__name__}") from error


class _Hasher:
    """SHA-256 of pieces, large ones in a thread: hashing and writing both take their time without the GIL."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._thread: ThreadPoolExecutor | None = None
        self._running: Future[None] | None = None

    def update(self, data: bytes | bytearray | memoryview) -> None:
        self._wait()
        if len(data) < BUFFER or not isinstance(data, bytes):  # what may change is not kept for later
            self._hash.update(data)
            return
        self._thread = self._thread or ThreadPoolExecutor(1, "sha256")
        self._running = self._thread.submit(self._hash.update, data)

    def hexdigest(self) -> str:
        self._wait()
        return self._hash.hexdigest()

    def close(self) -> None:
        if self._thread is not None:
            self._thread.shutdown()

    def _wait(self) -> None:
        if self._running is not None:
            self._running.result()
            self._running = None


class Writer:
    """Collects the bytes of one object; nobody sees it before `commit`.

    As a context manager it aborts unless it was committed. `digest` and `size` cover what was written.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._hash = _Hasher()
        self.size = 0
        self._begun = 0
        self._file = _locked_temporary(objects.temporary)

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def write(self, data: bytes | bytearray | memoryview) -> int:
        self._hash.update(data)
        with _translated():
            self._file.write(data)
        self.size += len(data)
        if self.size - self._begun >= WRITEBACK:
            self._begin_writeback()
        return len(data)

    def _begin_writeback(self) -> None:
        """Linux starts writing dirty pages that it is told will not be needed, and keeps those."""
        if hasattr(os, "posix_fadvise"):
            length = self.size - self._begun
            with suppress(OSError):  # advice only
                os.posix_fadvise(self._file.fileno(), self._begun, length, os.POSIX_FADV_DONTNEED)
        self._begun = self.size

    def commit(self, expected: str | None = None) -> str:
        """Make the object visible, durably, and return its digest.

        With ``expected``, ``ObjectCorrupt`` when the bytes have another digest; nothing is kept then.
        """
        digest = self.digest
        if expected is not None and plain_digest(expected) != digest:
            self.abort()
            raise ObjectCorrupt(f"the bytes have the digest {digest}, not {plain_digest(expected)}")
        try:
            with _translated(digest):
                self._file.flush()
                self._objects._publish(Path(self._file.name), self._file, digest)
        finally:
            self.abort()
        return digest

    def abort(self) -> None:
        """Drop what was written. After a commit this does nothing."""
        self._hash.close()
        if not self._file.closed:
            Path(self._file.name).unlink(missing_ok=True)
            with suppress(OSError):  # a full disk cannot take the rest of the buffer, which nobody needs
                self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()


def _locked_temporary(folder: Path) -> IO[bytes]:
    """A fresh file under an exclusive lock that the kernel drops with this process."""
    with _translated():
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            path = folder / secrets.token_hex(16)
            file = path.open("xb", buffering=BUFFER)
            fcntl.flock(file, fcntl.LOCK_EX)
            if path.exists():  # a sweep may have taken it before it was locked
                return file
            file.close()


class Objects(ABC):
    """The interface. Digests are hex, with or without ``sha256:``; others are a ValueError.

    Open it after a fork, never before: obstore's threads do not survive one.
    """

    def __init__(self, store: LocalStore | S3Store, temporary: Path) -> None:
        self._store = store
        self._prefix = ""
        self.temporary = temporary

    def _key(self, digest: str) -> str:
        """Where an object lies: 256 folders keep each one small."""
        return f"{self._prefix}{digest[:2]}/{digest}"

    @abstractmethod
    def _publish(self, path: Path, file: IO[bytes], digest: str) -> None:
        """Make the temporary file's bytes the object ``digest``, durably and at once."""

    @abstractmethod
    def local_path(self, digest: str) -> Path | None:
        """The object's file where it is one on this machine, unverified; None on S3 or when missing."""

    def writer(self) -> Writer:
        """``with objects.writer() as w: w.write(…); w.commit()``."""
        return Writer(self)

    def put_bytes(self, data: bytes) -> str:
        """Store and return the digest."""
        with self.writer() as writer:
            writer.write(data)
            return writer.commit()

    def put_file(self, path: Path | str) -> str:
        """Store a copy of the file and return the digest. Memory stays flat."""
        with self.writer() as writer, Path(path).open("rb") as file:
            while chunk := file.read(CHUNK):
                writer.write(chunk)
            return writer.commit()

    def size(self, digest: str) -> int:
        """Bytes. Raises ``ObjectMissing``."""
        return int(self._head(plain_digest(digest))["size"])

    def _head(self, digest: str) -> Any:
        with _translated(digest):
            return obstore.head(self._store, self._key(digest))

    def exists(self, digest: str) -> bool:
        try:
            self.size(digest)
        except ObjectMissing:
            return False
        return True

    def open(self, digest: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from ``start`` up to but not including ``end``, in chunks of about 1 MiB.

        Raises ``ObjectMissing`` at once. Read whole, the bytes are verified: the last chunk is held back
        until the digest is right, and ``ObjectCorrupt`` is raised instead of handing it out. A part cannot
        be verified by itself; its length is.
        """
        digest = plain_digest(digest)
        size = self.size(digest)
        stop = size if end is None else min(end, size)
        if not 0 <= start <= stop:
            raise ValueError(f"bytes {start} to {end} lie outside an object of {size}")
        if stop == start:
            return iter(()) if size or digest == hashlib.sha256().hexdigest() else _corrupt(digest)
        chunks = self._chunks(digest, start, stop)
        return _verified(chunks, digest) if stop - start == size else _measured(chunks, digest, stop - start)

    def _chunks(self, digest: str, start: int, stop: int) -> Iterator[bytes]:
        with _translated(digest):
            options = {"range": (start, stop)}
            answer = obstore.get(self._store, self._key(digest), options=options)  # type: ignore[arg-type]
            for chunk in answer.stream(min_chunk_size=CHUNK):
                yield bytes(chunk)

    def read(self, digest: str) -> bytes:
        """All bytes, verified. For small objects such as reports."""
        return b"".join(self.open(digest))

    def fetch(self, digest: str, path: Path | str) -> None:
        """Copy the object to ``path``, verified; the file appears whole or not at all."""
        path = Path(path)
        partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            with partial.open("xb") as file:
                for chunk in self.open(digest):
                    file.write(chunk)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def delete(self, digest: str) -> None:
        """Remove the object; a missing one is no error. See `collect` for the safe way."""
        try:
            with _translated(digest):
                obstore.delete(self._store, self._key(plain_digest(digest)))
        except ObjectMissing:
            return

    def list(self) -> Iterator[tuple[str, datetime]]:
        """Every object's digest and when it was last written."""
        with _translated():
            for batch in obstore.list(self._store, self._prefix or None):
                for meta in batch:
                    name = meta["path"].rpartition("/")[2]
                    if _DIGEST.fullmatch(name) and meta["path"] == self._key(name):
                        yield name, meta["last_modified"]

    def apart(self, name: str) -> Self:
        """A space of its own in the same store, for objects that come and go together.

        Neither ``list`` nor ``collect`` of the store sees them. ``name``: letters, digits and ``_``.
        """
        if not _SPACE.fullmatch(name):
            raise ValueError(f"{name[:80]!r} cannot name a space")
        space = copy.copy(self)
        space._prefix = f"{_SPACES}/{name}/"
        return space

    def spaces(self) -> Iterator[str]:
        """The names of the spaces that hold something."""
        with _translated():
            found = obstore.list_with_delimiter(self._store, f"{_SPACES}/")
        for prefix in found["common_prefixes"]:
            yield prefix.strip("/").rpartition("/")[2]

    def discard(self) -> None:
        """Remove everything of this space; what is gone already is no error."""
        assert self._prefix, "only a space can be discarded"
        for digest, _ in list(self.list()):
            self.delete(digest)

    def sweep(self) -> int:
        """Remove temporary files whose writers are gone; how many. Safe beside live writers."""
        found = list(self.temporary.iterdir()) if self.temporary.is_dir() else []
        return sum(_remove_abandoned(path) for path in found)

    def collect(self, referenced: Callable[[set[str]], set[str]], min_age: float = 3600.0) -> int:
        """Delete objects that no record names; how many. Sweeps temporary files too.

        ``referenced`` says which of some digests are named (``Records.referenced``). Objects written
        within the last ``min_age`` seconds stay, since their record may be on its way; storing the same
        bytes again makes them young again.
        """
        self.sweep()
        limit = datetime.now(UTC) - timedelta(seconds=min_age)
        old = {digest for digest, written in self.list() if written < limit}
        unnamed = [digest for digest in old - referenced(old) if self._still_old(digest, limit)]
        for digest in unnamed:
            self.delete(digest)
        return len(unnamed)

    def _still_old(self, digest: str, limit: datetime) -> bool:
        try:
            return bool(self._head(digest)["last_modified"] < limit)
        except ObjectMissing:
            return False


def _remove_abandoned(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            return True
    except (BlockingIOError, FileNotFoundError):
        return False


def _corrupt(digest: str) -> Iterator[bytes]:
    raise ObjectCorrupt(f"the object {digest} is damaged: its bytes have another digest")


def _verified(chunks: Iterator[bytes], digest: str) -> Iterator[bytes]:
    """The chunks, the last one only after all bytes proved right."""
    seen = hashlib.sha256()
    held = b""
    for chunk in chunks:
        seen.update(chunk)
        if held:
            yield held
        held = chunk
    if seen.hexdigest() != digest:
        _corrupt(digest)
    yield held


def _measured(chunks: Iterator[bytes], digest: str, length: int) -> Iterator[bytes]:
    received = 0
    for chunk in chunks:
        received += len(chunk)
        yield chunk
    if received != length:
        raise ObjectCorrupt(f"the object {digest} ended after {received} of {length} bytes")


class LocalObjects(Objects):
    """Objects in a folder: ``objects/ab/abcd…`` beside ``temporary/``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "sha256"
        with _translated():
            self.folder.mkdir(parents=True, exist_ok=True)
        super().__init__(LocalStore(prefix=str(self.folder)), folder / "temporary")

    def _publish(self, path: Path, file: IO[bytes], digest: str) -> None:
        os.fsync(file.fileno())
        target = self.folder / self._key(digest)
        fresh = [folder for folder in target.parents[: self._depth] if not folder.exists()]
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
        _sync_folder(target.parent)
        for folder in fresh:
            _sync_folder(folder.parent)

    @property
    def _depth(self) -> int:
        """How many folders lie between an object and the store's own folder."""
        return 1 + self._prefix.count("/")

    def discard(self) -> None:
        super().discard()
        shutil.rmtree(self.folder / self._prefix, ignore_errors=True)  # the empty folders

    def _chunks(self, digest: str, start: int, stop: int) -> Iterator[bytes]:
        # obstore's stream of a local file is some ten times slower than reading it.
        with _translated(digest), (self.folder / self._key(digest)).open("rb", buffering=0) as file:
            file.seek(start)
            while start < stop and (chunk := file.read(min(CHUNK, stop - start))):
                start += len(chunk)
                yield chunk

    def local_path(self, digest: str) -> Path | None:
        path = self.folder / self._key(plain_digest(digest))
        return path if path.is_file() else None


def _sync_folder(path: Path) -> None:
    """Make a rename in this folder survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class S3Objects(Objects):
    """Objects in a bucket. Bytes are spooled to a local file first: a name needs the whole digest.

    obstore tries 5xx answers and lost connections again, well within a lease. Give the bucket a rule that
    drops unfinished multipart uploads.
    """

    def __init__(self, store: S3Store, temporary: Path) -> None:
        super().__init__(store, temporary)

    def _publish(self, path: Path, file: IO[bytes], digest: str) -> None:
        try:
            obstore.put(self._store, self._key(digest), path)
        except (FileNotFoundError, KeyMissing) as error:
            raise Unavailable("the bucket of GRADKEEL_OBJECTS_URL does not exist") from error
        if self.size(digest) != path.stat().st_size:
            raise GenericError("the bucket holds another size than was sent")

    def local_path(self, digest: str) -> Path | None:
        plain_digest(digest)
        return None


def open_objects(settings: Settings) -> Objects:
    """The object store that ``objects_url`` names: ``file://FOLDER`` or ``s3://BUCKET/PREFIX``."""
    parts = urlsplit(settings.objects_url)
    if parts.scheme == "file":
        return LocalObjects(Path(unquote(parts.netloc + parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        return S3Objects(_s3_store(settings, parts.netloc, parts.path), settings.data / "temporary")
    raise SettingsError("GRADKEEL_OBJECTS_URL must be file://FOLDER or s3://BUCKET/PREFIX")


def _s3_store(settings: Settings, bucket: str, path: str) -> S3Store:
    given = {
        "endpoint": settings.s3_endpoint,
        "access_key_id": settings.s3_access_key,
        "secret_access_key": settings.s3_secret_key,
        "prefix": path.strip("/"),
    }
    return S3Store(
        bucket,
        region=settings.s3_region,
        client_options={
            "allow_http": settings.s3_endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=5),
            "timeout": timedelta(seconds=30),
        },
        retry_config={"max_retries": 4, "retry_timeout": timedelta(seconds=20)},
        **{name: value for name, value in given.items() if value},  # type: ignore[arg-type]
    )
