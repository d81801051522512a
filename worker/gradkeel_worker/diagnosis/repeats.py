"""Rows that are held out and stand in the training part all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from gradkeel_worker.data import Part, Prepared

Array = np.ndarray[Any, Any]

_ODD = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)


def repeated_rows(prepared: Prepared, name: str) -> Array:
    """Which rows of the part ``name`` equal a training row in every column that is used and in the target,
    [n]; told by a 64-bit hash of each row. None of them in models over windows, which share rows by design.
    """
    part: Part = getattr(prepared, name)
    if prepared.train.windows is not None or not len(prepared.train.rows):
        return np.zeros(len(part.rows), bool)
    return np.isin(_hashes(part), _hashes(prepared.train))


def _hashes(part: Part) -> Array:
    """A number for each row's inputs, categories and target, uint64 [n]; −0 counts as 0."""
    from gradkeel_worker.data.storage import ROWS_AT_ONCE  # noqa: PLC0415 - brings scikit-learn along

    y = part.y_raw.reshape(len(part.rows), -1).astype(np.float64)
    found = np.zeros(len(part.rows), np.uint64)
    for start in range(0, len(found), ROWS_AT_ONCE):  # the parts may be files larger than memory
        chunk = slice(start, start + ROWS_AT_ONCE)
        for block in (part.x, part.c, y):
            for column in (block[chunk].astype(np.float64) + 0.0).T:
                mixed = (found[chunk] ^ np.ascontiguousarray(column).view(np.uint64)) * _ODD
                found[chunk] = mixed ^ (mixed >> _SHIFT)
    return found
