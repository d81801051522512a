"""Windows over series: which rows stand behind a prediction. They are gathered by index when they are needed;
no array of n times window rows is ever kept.

A series is the rows of one value of columns.group, in the order of columns.order; without a group all rows
are one. The prediction for a row rests on the ``length`` rows that end ``lead`` rows before it: at the row
itself, or for a forecast at its origin, the horizon earlier.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from gradkeel.contract.config import TrainConfig, Windowed
from gradkeel.contract.errors import FieldError
from gradkeel_worker.data.errors import DataError, fault
from gradkeel_worker.data.splits import as_text
from gradkeel_worker.data.table import DATETIME, NUMERIC, Array, Column, Floats, Integers, Mask, Table
from gradkeel_worker.data.target import FORECAST

_SHOWN_FAULTS = 5
_GAP = 1.5
"""A step along the order so many times the usual one is a gap."""


@dataclass(frozen=True)
class Series:
    """Where the rows of a table stand in their series.

    ``order`` [N]: positions in the table, series by series. ``place`` [N]: the other way round, where in
    ``order`` a row stands. ``start`` [N]: place of the first row of the series that the row at a place is in.
    """

    order: Integers
    place: Integers
    start: Integers

    def ends(self, rows: Integers, length: int, lead: int) -> tuple[Integers, Mask]:
        """Place of the last row behind the prediction for each of some table rows, [n], and whether the
        series has a full window there."""
        place = self.place[rows]
        ends = place - lead
        return ends, np.asarray(ends - length + 1 >= self.start[place])


@dataclass(frozen=True)
class Windows:
    """What is shared by the parts: ``x`` [N, d] and ``c`` [N, k] of every row, series by series, and of the
    part's own windows ``ends`` [n], the place of each one's last row. ``rows``, ``lines`` [N]: where each
    place stood in the file. ``target`` [N]: the target there, NaN where it is missing or no number.
    ``start`` [N]: place of the first row of the same series. ``order``, ``group`` [N]: cells of those
    columns. ``lead``: rows from a window's end to what is predicted."""

    x: Array
    c: Array
    ends: Integers
    length: int
    lead: int
    rows: Integers
    lines: Integers | None
    target: Floats
    start: Integers
    order: Array
    group: Array | None

    def places(self, chosen: Any = slice(None)) -> Integers:
        """Places of the rows of some windows, [n, length]."""
        return np.asarray(self.ends[chosen, None] + np.arange(1 - self.length, 1))

    def place(self, at: int) -> tuple[int, int | None]:
        """Row and line in the file of what stands at a place."""
        return int(self.rows[at]), None if self.lines is None else int(self.lines[at])

    def take(self, chosen: Any) -> Self:
        """Some of the windows, over the same rows."""
        return replace(self, ends=self.ends[chosen])

    def whole(self, bad: Mask) -> Mask:
        """Which windows hold no row that is ``bad`` [N], [n]."""
        before = np.concatenate([[0], np.cumsum(bad)])
        return np.asarray(before[self.ends + 1] == before[self.ends + 1 - self.length])

    def names(self) -> dict[str, Array]:
        """Order and group of the row that each window's prediction is for, by column role."""
        at = self.ends + self.lead
        return {"order": self.order[at]} | ({} if self.group is None else {"group": self.group[at]})


def lead_of(config: TrainConfig) -> int:
    """Rows from the last row of a window to the row whose target is predicted."""
    assert isinstance(config.model, Windowed)
    return config.model.horizon if config.task == FORECAST else 0


def read_series(table: Table, config: TrainConfig, findings: list[dict[str, Any]]) -> Series | None:
    """The series of a config whose model reads windows, else None. Raises DataError where rows have no place
    of their own: no order, or one that another row of the series has."""
    if not isinstance(config.model, Windowed):
        return None
    assert config.columns.order is not None
    moments = _moments(table, config.columns.order)
    codes = _codes(table, config.columns.group)
    order = np.lexsort((moments, codes))
    first = np.r_[True, codes[order][1:] != codes[order][:-1]]
    _refuse_equal(table, config, order, moments, ~first)
    findings += _gaps(table, config.columns.order, order, moments, ~first)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return Series(order, place, np.maximum.accumulate(np.where(first, np.arange(len(order)), 0)))


def _moments(table: Table, name: str) -> Floats:
    column = table.need(name, "/columns/order")
    if column.type not in (NUMERIC, DATETIME):
        detail = (
            f"rows are ordered by numbers or dates; {name!r} is {column.type}; name its type in columns.types"
        )
        raise fault("wrong_type", detail, pointer="/columns/order", column=name)
    missing = np.flatnonzero(~np.isfinite(column.values))
    if len(missing):
        detail = f"{len(missing)} rows have no place in the order, this one first"
        raise DataError([table.cell_fault(name, int(missing[0]), "missing_order", detail, "/columns/order")])
    return column.values


def order_cells(column: Column) -> Array:
    """Cells of an order column as text: dates in ISO 8601, numbers as the file has them."""
    if column.type == DATETIME:
        moments = (column.values * 1e6).round().astype("datetime64[us]")
        return np.array([_moment_text(each) for each in moments], dtype=object)
    return as_text(column)


def _moment_text(moment: np.datetime64) -> str:
    text = str(moment)
    return text.removesuffix(".000000")


def _codes(table: Table, name: str | None) -> Integers:
    """A number for the series of each row, [N]."""
    if name is None:
        return np.zeros(len(table), np.int64)
    return np.asarray(
        np.unique(as_text(table.need(name, "/columns/group")), return_inverse=True)[1], np.int64
    )


def _refuse_equal(table: Table, config: TrainConfig, order: Integers, moments: Floats, inner: Mask) -> None:
    """``inner`` [N]: whether the place has one before it in its series."""
    name = config.columns.order
    assert name is not None
    equal = np.flatnonzero(inner & (np.diff(moments[order], prepend=np.nan) == 0))
    if not len(equal):
        return
    way = (
        "name the column that tells several series apart in columns.group"
        if config.columns.group is None
        else "keep one row of each"
    )
    faults: list[FieldError] = []
    for at in equal[:_SHOWN_FAULTS]:
        other = table.place(int(order[at - 1]))
        where = f"row {other['row']}" if other["line"] is None else f"line {other['line']}"
        detail = (
            f"the row stands at the same place of its series as {where}, one of {len(equal)} such rows; {way}"
        )
        faults.append(table.cell_fault(name, int(order[at]), "duplicate_order", detail, "/columns/order"))
    raise DataError(faults)


def _gaps(table: Table, name: str, order: Integers, moments: Floats, inner: Mask) -> list[dict[str, Any]]:
    steps = np.diff(moments[order], prepend=np.nan)
    if not inner.any():
        return []
    usual = float(np.median(steps[inner]))
    wide = np.flatnonzero(inner & (steps > _GAP * usual))
    if not len(wide):
        return []
    detail = (
        f"{len(wide)} steps along {name!r} are longer than the usual one; windows count rows, not time, and "
        "reach across such gaps"
    )
    found = {"code": "irregular_order", "column": name, "count": len(wide), "detail": detail}
    return [found | table.place(int(order[wide[0]]))]


def windowed(
    series: Series, config: TrainConfig, parts: Mapping[str, Integers], findings: list[dict[str, Any]]
) -> dict[str, tuple[Integers, Mask]]:
    """Of the table rows of each part: where each one's window ends, and which rows have one.

    A row too near the start of its series has none. Nor has one whose window would hold rows of a later part
    (validation after train, test after both), for those would then be known to the model.
    """
    assert isinstance(config.model, Windowed)
    length, lead = config.model.window, lead_of(config)
    rank = np.zeros(len(series.order), np.int64)
    for number, rows in enumerate(parts.values()):
        rank[series.place[rows]] = number
    found, short, mixed = {}, 0, 0
    for number, (name, rows) in enumerate(parts.items()):
        ends, full = series.ends(rows, length, lead)
        later = np.concatenate([[0], np.cumsum(rank > number)])
        own = np.zeros(len(rows), dtype=bool)
        own[full] = later[ends[full] + 1] == later[ends[full] + 1 - length]
        short, mixed = short + int(np.sum(~full)), mixed + int(np.sum(full & ~own))
        found[name] = (ends, own)
    _check_any(series, found, length, lead)
    findings += _left_out(config, short, mixed, length + lead)
    return found


def _check_any(series: Series, found: Mapping[str, tuple[Integers, Mask]], length: int, lead: int) -> None:
    empty = [name for name, (ends, kept) in found.items() if len(ends) and not kept.any()]
    if not empty:
        return
    longest = int((np.arange(len(series.start)) - series.start).max()) + 1
    horizon = f" and a horizon of {lead}" if lead else ""
    detail = (
        f"no row of the {empty[0]} part has a full window of {length} rows{horizon} behind it; the longest "
        f"series has {longest} rows. Use a shorter window or horizon, longer series, or another split"
    )
    raise fault("window_too_long", detail, pointer="/model/window")


def _left_out(config: TrainConfig, short: int, mixed: int, needed: int) -> list[dict[str, Any]]:
    found = []
    if short:
        detail = f"{short} rows stand too near the start of their series to have {needed} rows behind them"
        found.append(
            {"code": "short_windows", "column": config.columns.order, "count": short, "detail": detail}
        )
    if mixed:
        detail = f"{mixed} rows whose windows hold rows of a later part are left out"
        found.append({"code": "mixed_windows", "column": None, "count": mixed, "detail": detail})
    return found
