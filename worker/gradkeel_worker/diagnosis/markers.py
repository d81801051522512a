"""Numbers that stand for a missing cell: −999 among ages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradkeel_worker.diagnosis.sampling import sample

if TYPE_CHECKING:
    from gradkeel_worker.data import Prepared

Array = np.ndarray[Any, Any]
Json = dict[str, Any]

_MOST_ROWS = 20_000
_FEWEST, _SHARE = 5, 0.002
"""Cells, and share of the cells, that have the value."""
_GAP = 2.5
"""Distance to the nearest other value, in robust standard deviations of the others."""
_FEWEST_OTHERS = 10
"""Different values besides: a code of a few levels has no outsiders."""


@dataclass(frozen=True)
class Marker:
    """A value at the end of its column that stands apart from all others and occurs again and again.

    ``text``: as the file writes it. ``gap``: to the nearest other value, in robust standard deviations of the
    others. ``share``: of the cells that are not missing.
    """

    column: str
    text: str
    share: float
    gap: float


def markers_of(prepared: Prepared, profile: Json) -> list[Marker]:
    """Of the columns of numbers and the target. What a value is multiplied by makes no difference."""
    rows = sample(len(prepared.train.rows), _MOST_ROWS, prepared.config.seed)
    part = prepared.train.take(rows) if prepared.train.windows is None else prepared.train
    fed = {one.source: part.x[:, j] for j, one in enumerate(prepared.inputs) if one.role == "value"}
    if prepared.classes is None:
        fed |= dict(zip(prepared.config.targets, part.y_raw.reshape(len(part.rows), -1).T, strict=True))
    found = []
    for column in profile.get("columns") or ():
        values = fed.get(column["name"])
        end = None if values is None else outsider(np.asarray(values, np.float64))
        text = None if end is None else _text(column, low=end[0])
        if end is not None and text is not None:
            found.append(Marker(column["name"], text, end[1], end[2]))
    return found


def outsider(values: Array) -> tuple[bool, float, float] | None:
    """Whether it is the lowest (else the highest) value that stands apart, its share, and its gap; None where
    neither end does.
    """
    finite = values[np.isfinite(values)]
    distinct, counts = np.unique(finite, return_counts=True)
    if len(distinct) <= _FEWEST_OTHERS:
        return None
    for end, other in ((0, 1), (-1, -2)):
        share = float(counts[end] / len(finite))
        gap = abs(float(distinct[other] - distinct[end]))
        spread = _spread(finite[finite != distinct[end]])
        if counts[end] >= _FEWEST and share >= _SHARE and gap > _GAP * spread > 0:
            return end == 0, share, gap / spread
    return None


def _spread(values: Array) -> float:
    """1.4826 · MAD, or the standard deviation where that is larger: a long tail has no outsiders."""
    return max(1.4826 * float(np.median(np.abs(values - np.median(values)))), float(values.std()))


def _text(column: Json, *, low: bool) -> str | None:
    """The column's lowest or highest value as the file writes it, if it is among the commonest cells."""
    wanted = column.get("min" if low else "max")
    for text, _ in column.get("top") or ():
        if wanted is not None and _number(text, column.get("decimal")) == wanted:
            return str(text)
    return None


def _number(text: str, decimal: str | None) -> float | None:
    try:
        return float(text.replace(decimal, ".") if decimal else text)
    except ValueError:
        return None
