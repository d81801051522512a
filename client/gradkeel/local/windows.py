"""Rows of series, for models that read windows: which given rows stand behind each prediction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gradkeel.local.errors import BadValue, MissingColumn
from gradkeel.local.rows import READERS, Array, Column, Reading, columns_of_rows, texts_of

Integers = npt.NDArray[np.int64]
_TEXT = "categorical"


@dataclass(frozen=True)
class Series:
    """How a model reads rows, as its manifest says. ``length``: rows of a window. ``lead``: rows from its
    end to what is predicted; 0 unless the model forecasts. ``input``: the graph's name for the windows."""

    order: Column
    group: Column | None
    length: int
    lead: int
    input: str

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Series:
        group = entry["group"]
        return cls(
            Column.of(entry["order"]),
            None if group is None else Column.of(group),
            entry["length"],
            entry["lead"],
            entry["input"],
        )

    @property
    def names(self) -> list[str]:
        """The columns beside the features."""
        return [self.order.name] + ([] if self.group is None else [self.group.name])


@dataclass(frozen=True)
class Layout:
    """The windows of a table of n rows.

    ``sorted`` [n]: the rows, series by series. ``ends`` [m]: place among them of each window's last row,
    ascending. ``answers`` [m]: which prediction each window makes; the first n are the rows', in their
    order, the others those of steps after the last row of a series. ``places``: what each prediction is for.
    """

    sorted: Integers
    ends: Integers
    answers: Integers
    places: list[dict[str, Any]]


def lay_out(series: Series, rows: Any, reading: Reading) -> Layout:
    """Find the windows. Raises MissingColumn and BadValue: rows without a place in the order, two of a
    series at the same, or too few rows for a single window."""
    given, n = columns_of_rows(rows, series.names)
    order, moments = _moments(series.order, given, reading)
    groups = None if series.group is None else _groups(series.group, given)
    codes = np.zeros(n, np.int64) if groups is None else np.unique(groups, return_inverse=True)[1]
    chosen = np.lexsort((moments, codes))
    first = np.r_[True, codes[chosen][1:] != codes[chosen][:-1]] if n else np.zeros(0, bool)
    _refuse_equal(series, chosen, moments, ~first)
    start = np.maximum.accumulate(np.where(first, np.arange(n), 0))
    ends, answers, steps = _windows(series, chosen, first, start)
    if not len(ends):
        _too_few(series, start)
    if missing := n - int(np.sum(answers < n)):
        reading.warnings.append(
            f"{missing} rows have no prediction: fewer than {series.length + series.lead} rows of their "
            "series end there"
        )
    places = [{"row": row, "order": order[row], "step": 0} for row in range(n)]
    places += [{"row": None, "order": order[row], "step": step} for row, step in steps]
    if groups is not None:
        at = [*range(n), *(row for row, _ in steps)]
        places = [place | {"group": groups[row]} for place, row in zip(places, at, strict=True)]
    return Layout(chosen, ends, answers, places)


def _windows(
    series: Series, chosen: Integers, first: npt.NDArray[np.bool_], start: Integers
) -> tuple[Integers, Integers, list[tuple[int, int]]]:
    """Ends and answers of the windows; of predictions after the last row of a series, that row and the
    step."""
    n, length, lead = len(chosen), series.length, series.lead
    at = np.arange(n)
    full = at - lead - length + 1 >= start
    ends, answers = [at[full] - lead], [chosen[full]]
    steps: list[tuple[int, int]] = []
    lasts = np.flatnonzero(np.r_[first[1:], True]) if n else at
    for step in range(1, lead + 1):
        behind = lasts - lead + step
        known = behind - length + 1 >= start[lasts]
        ends.append(behind[known])
        answers.append(n + len(steps) + np.arange(int(known.sum())))
        steps += [(int(chosen[last]), step) for last in lasts[known]]
    every, made = np.concatenate(ends), np.concatenate(answers)
    by_place = np.argsort(every, kind="stable")
    return every[by_place], made[by_place], steps


def _moments(column: Column, given: Mapping[str, Any], reading: Reading) -> tuple[list[Any], Array]:
    """The cells of the order column as given, and as numbers, [n]."""
    cells = given.get(column.name)
    if cells is None:
        raise MissingColumn(column.name)
    quiet = Reading(reading.policy, reading.missing)
    moments = READERS[column.type](column, cells, quiet)
    missing = np.flatnonzero(~np.isfinite(moments))
    if len(missing):
        raise BadValue(column.name, int(missing[0]), "the row has no place in the order")
    return [_plain(cell) for cell in cells], moments


def _plain(cell: Any) -> Any:
    """A cell as JSON can hold it."""
    if hasattr(cell, "isoformat"):
        return cell.isoformat()
    return (
        cell.item() if isinstance(cell, np.number) else cell if isinstance(cell, int | float) else str(cell)
    )


def _groups(column: Column, given: Mapping[str, Any]) -> Array:
    cells = given.get(column.name)
    if cells is None:
        raise MissingColumn(column.name)
    return np.array(texts_of(column, cells), dtype=object)


def _refuse_equal(series: Series, chosen: Integers, moments: Array, inner: npt.NDArray[np.bool_]) -> None:
    equal = np.flatnonzero(inner & (np.diff(moments[chosen], prepend=np.nan) == 0))
    if len(equal):
        other, row = int(chosen[equal[0] - 1]), int(chosen[equal[0]])
        raise BadValue(
            series.order.name, row, f"the row stands at the same place of its series as row {other}"
        )


def _too_few(series: Series, start: Integers) -> None:
    longest = int((np.arange(len(start)) - start).max(initial=-1)) + 1
    detail = f"a prediction needs {series.length} rows of one series; the longest given has {longest}"
    raise BadValue(series.order.name, None, detail)
