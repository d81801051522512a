"""Where long arrays are kept: in memory, or in files of a scratch folder that are mapped into it.

What is prepared is the same to the last bit either way. The kernel writes mapped pages out and drops them
when memory is short; beyond them a process holds little, however wide the table is.
"""

import math
import mmap
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MIB = 1 << 20
ARENA_BYTES = 256 * MIB
"""Size of a scratch file at least; arrays share one, for each of them takes a file descriptor."""
SMALLEST_BYTES = MIB // 16
"""Arrays smaller than this are not worth a place in a file."""
PAGE = mmap.PAGESIZE
ROWS_AT_ONCE = 1 << 16
"""Rows that are brought from columns side by side into rows, or looked at, at once."""


class NoRoom(OSError):
    """The scratch folder's disk is too full for the arrays."""


class Storage(Protocol):
    """Makes and keeps arrays."""

    def empty(self, shape: int | tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """An array to be written, C order."""
        ...

    def keep(self, array: Array) -> Array:
        """The same values where this storage keeps them."""
        ...

    def matrix(self, rows: int, columns: int, dtype: npt.DTypeLike) -> Array:
        """A matrix that will be written column by column; then ``by_rows`` takes it."""
        ...

    def by_rows(self, matrix: Array) -> Array:
        """A finished matrix in C order."""
        ...


class Memory:
    """Plain arrays."""

    def empty(self, shape: int | tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        return np.empty(shape, dtype)

    def keep(self, array: Array) -> Array:
        return array

    def matrix(self, rows: int, columns: int, dtype: npt.DTypeLike) -> Array:
        return np.empty((rows, columns), dtype)

    def by_rows(self, matrix: Array) -> Array:
        return matrix


MEMORY = Memory()


class Scratch:
    """Arrays in files of a folder. A file has no name once it is mapped: its room is free again as soon as
    its last array is gone, or the process, whatever ends it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._arena: mmap.mmap | None = None
        self._used = 0

    def empty(self, shape: int | tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        shape, kind = (shape,) if isinstance(shape, int) else shape, np.dtype(dtype)
        count = math.prod(shape)
        if count * kind.itemsize < SMALLEST_BYTES:
            return np.empty(shape, kind)
        arena, offset = self._place(count * kind.itemsize)
        return np.frombuffer(arena, kind, count, offset).reshape(shape)

    def keep(self, array: Array) -> Array:
        if array.dtype == object or is_mapped(array):
            return array
        kept = self.empty(array.shape, array.dtype)
        kept[...] = array
        return kept

    def matrix(self, rows: int, columns: int, dtype: npt.DTypeLike) -> Array:
        return self.empty((columns, rows), dtype).T

    def by_rows(self, matrix: Array) -> Array:
        found = self.empty(matrix.shape, matrix.dtype)
        for start in range(0, len(matrix), ROWS_AT_ONCE):
            found[start : start + ROWS_AT_ONCE] = matrix[start : start + ROWS_AT_ONCE]
        return found

    def _place(self, size: int) -> tuple[mmap.mmap, int]:
        """A mapped file with so many bytes left, and where they begin."""
        start = -(-self._used // PAGE) * PAGE
        if self._arena is None or start + size > len(self._arena):
            self._arena, start = self._mapped(max(size, ARENA_BYTES)), 0
        self._used = start + size
        return self._arena, start

    def _mapped(self, size: int) -> mmap.mmap:
        # shared, so that RLIMIT_DATA does not count it; reserved, for writing to a full disk would be fatal
        with tempfile.TemporaryFile(dir=self.folder) as file:
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                raise NoRoom(_no_room(self.folder, size)) from error
            return mmap.mmap(file.fileno(), size)


def is_mapped(array: Any) -> bool:
    """Whether an array's memory is a mapped file's."""
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array, mmap.mmap | memoryview)


def check_room(folder: Path, size: int) -> None:
    """Raise NoRoom where the folder's disk has fewer bytes left than that."""
    if shutil.disk_usage(folder).free < size:
        raise NoRoom(_no_room(folder, size))


def _no_room(folder: Path, size: int) -> str:
    free = shutil.disk_usage(folder).free
    return (
        f"the table is prepared in files, for which {size // MIB:,} MiB are needed, and the disk of the "
        f"worker's folder has {free // MIB:,} MiB left: make room, exclude columns, or raise "
        "GRADKEEL_JOB_IN_MEMORY_MB"
    )
