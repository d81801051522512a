"""What can be uploaded: a path, a file object, bytes, a table in memory; read anew at each try."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, TypeAlias

from gradkeel.frames import parquet_bytes

PIECE = 1 << 20
IN_MEMORY = 16 << 20

Progress: TypeAlias = Callable[[int, int], Any]


@dataclass(frozen=True)
class Source:
    """Bytes that can be read more than once. ``open`` gives a reader at the first byte, ``close`` ends it."""

    name: str
    size: int
    sha256: str
    open: Callable[[], IO[bytes]]
    close: Callable[[IO[bytes]], None]
    progress: Progress | None = None

    def chunks(self, start: int = 0) -> Iterator[bytes]:
        """The bytes from ``start`` on, in pieces; ``progress`` is told (bytes handed over, bytes in all)."""
        reader = self.open()
        done = start
        try:
            reader.seek(start, os.SEEK_CUR)
            while piece := reader.read(PIECE):
                done += len(piece)
                yield piece
                if self.progress is not None:
                    self.progress(done, self.size)
        finally:
            self.close(reader)

    def part(self, start: int) -> Part:
        """What is left to send after ``start`` bytes."""
        return Part(self, start)

    def watched(self, progress: Progress | None) -> Source:
        return replace(self, progress=progress)

    @property
    def repr_digest(self) -> str:
        """The ``Repr-Digest`` header (RFC 9530)."""
        return f"sha-256=:{base64.b64encode(bytes.fromhex(self.sha256)).decode()}:"


@dataclass(frozen=True)
class Part:
    """A source from one of its bytes to its end."""

    source: Source
    start: int

    @property
    def size(self) -> int:
        return self.source.size - self.start

    def chunks(self) -> Iterator[bytes]:
        return self.source.chunks(self.start)


def source_of(
    data: Any,
    name: str | None = None,
    columns: Sequence[str] | None = None,
    hashing: Progress | None = None,
) -> Source:
    """Whatever was given, as a ``Source``. Raises TypeError for things that are not a table.

    ``columns`` names the columns of an array. ``hashing`` is told (bytes read, bytes in all) while a file is
    read for its digest.
    """
    if isinstance(data, str | os.PathLike):
        return from_path(Path(data), name, hashing)
    if isinstance(data, bytes | bytearray | memoryview):
        return from_bytes(bytes(data), name or "data")
    if callable(getattr(data, "read", None)):  # not a frame's column of that name
        return from_file(data, name or _file_name(data), hashing)
    return from_bytes(parquet_bytes(data, columns), name or "frame.parquet")


def from_path(path: Path, name: str | None = None, hashing: Progress | None = None) -> Source:
    """A file. What can be read only once, such as a pipe of the shell, is copied first."""
    with path.open("rb") as file:
        if not _seekable(file):
            return from_file(_copied(file), name or path.name, hashing)
        size, digest = _measure(file, hashing)
    return Source(name or path.name, size, digest, lambda: path.open("rb"), lambda reader: reader.close())


def from_bytes(data: bytes, name: str) -> Source:
    digest = hashlib.sha256(data).hexdigest()
    return Source(name, len(data), digest, lambda: io.BytesIO(data), lambda reader: reader.close())


def from_file(file: IO[bytes], name: str, hashing: Progress | None = None) -> Source:
    """A binary file object, from where it stands to its end; left open. If it cannot seek, it is copied."""
    if isinstance(file, io.TextIOBase):
        raise TypeError("open the file in binary mode ('rb'): what is uploaded is bytes")
    if not _seekable(file):
        file = _copied(file)
    start = file.tell()
    size, digest = _measure(file, hashing)

    def rewound() -> IO[bytes]:
        file.seek(start)
        return file

    return Source(name, size, digest, rewound, lambda reader: None)


def _seekable(file: IO[bytes]) -> bool:
    return bool(getattr(file, "seekable", lambda: False)())


def _copied(file: IO[bytes]) -> IO[bytes]:
    spool: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 (lives as long as the source)
    shutil.copyfileobj(file, spool, PIECE)
    spool.seek(0)
    return spool


def _file_name(file: Any) -> str:
    name = getattr(file, "name", None)
    return Path(name).name if isinstance(name, str) else "data"


def _measure(file: IO[bytes], hashing: Progress | None) -> tuple[int, str]:
    """Size and sha256 of the rest of a file."""
    start = file.tell()
    total = file.seek(0, os.SEEK_END) - start
    file.seek(start)
    digest = hashlib.sha256()
    size = 0
    while piece := file.read(PIECE):
        digest.update(piece)
        size += len(piece)
        if hashing is not None:
            hashing(size, total)
    return size, digest.hexdigest()
