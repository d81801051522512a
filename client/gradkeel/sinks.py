"""Where downloads go: a file that appears only once it is whole, or memory."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO


class HashingSink:
    """Writes to a seekable file and knows the sha256 of what it holds."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()

    def restart(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._digest = hashlib.sha256()

    def write(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self._digest.update(chunk)

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


class MemorySink(HashingSink):
    """Keeps the bytes in memory."""

    def __init__(self) -> None:
        self._memory = io.BytesIO()
        super().__init__(self._memory)

    def value(self) -> bytes:
        return self._memory.getvalue()


@contextlib.contextmanager
def file_sink(path: Path) -> Iterator[HashingSink]:
    """A sink beside ``path`` that takes its place when the block ends well, and vanishes when it does not."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield HashingSink(file)
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
