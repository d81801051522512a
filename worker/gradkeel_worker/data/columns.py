"""Typing at job time: the config's types and missing markers, applied to cells as they were uploaded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradkeel.contract.config import TrainConfig
from gradkeel.contract.errors import FieldError, escape_pointer
from gradkeel.local import cells
from gradkeel_worker.data.errors import DataError, shown
from gradkeel_worker.data.shelf import distinct, shelf
from gradkeel_worker.data.table import (
    BOOLEAN,
    CATEGORICAL,
    DATETIME,
    ID,
    NUMERIC,
    TEXT,
    Array,
    Column,
    Floats,
    Table,
)

_EVERY = "*"
_SHOWN_FAULTS = 5
_Markers = tuple[str | float, ...]


class _BadCells(Exception):
    """Cells that the type does not allow."""

    def __init__(self, indices: Sequence[int], why: str) -> None:
        self.indices = indices
        self.why = why


@dataclass(frozen=True)
class _Typed:
    column: Column
    findings: list[dict[str, Any]]


def apply_types(table: Table, config: TrainConfig) -> Table:
    """The table with every column in its type and missing cells marked.

    Raises DataError that names column, row, line and cell where a declared type does not fit.
    """
    if table.typed:
        return table
    columns, findings, faults = shelf(table.storage), list(table.findings), []
    for column in table.columns.values():
        try:
            typed = _typed(column, config)
        except _BadCells as bad:
            faults += _faults(table, column, config, bad)
            continue
        columns[column.name] = typed.column
        findings += typed.findings
    if faults:
        raise DataError(faults)
    return replace(table, columns=columns, findings=tuple(findings), typed=True)


def markers_of(config: TrainConfig, name: str) -> _Markers:
    """The config's own markers of a missing cell in a column."""
    given = config.columns.missing_values
    return tuple(given.get(_EVERY, ())) + tuple(given.get(name, ()))


def number_markers(markers: _Markers, decimal: str = ".") -> tuple[float, ...]:
    """The markers that are numbers, whichever way they were written."""
    found = []
    for marker in markers:
        try:
            found.append(cells.parse_number(marker, decimal) if isinstance(marker, str) else float(marker))
        except ValueError:
            continue
    return tuple(found)


def _typed(column: Column, config: TrainConfig) -> _Typed:
    markers = markers_of(config, column.name)
    types = config.columns.types
    declared = types.get(column.name) or types.get(_EVERY)
    if declared is None and markers and _may_hide_numbers(column):
        try:
            return _to_numeric(column, markers)
        except _BadCells:
            pass  # the cells are text after all, and stay it
    return CONVERSIONS[declared or column.type](column, markers)


def _may_hide_numbers(column: Column) -> bool:
    return column.values.dtype == object and column.type in (CATEGORICAL, TEXT)


def _to_numeric(column: Column, markers: _Markers) -> _Typed:
    values = column.values
    if values.dtype == object:
        values = _parse(values, cells.MISSING_NUMBER | _texts(markers), _number(column.decimal), "a number")
    values = _blank_numbers(values, number_markers(markers, column.decimal))
    return _Typed(replace(column, type=NUMERIC, values=values), [])


def _to_datetime(column: Column, markers: _Markers) -> _Typed:
    if column.values.dtype != object:
        return _Typed(
            replace(column, type=DATETIME, values=_blank_numbers(column.values, number_markers(markers))), []
        )
    missing = cells.MISSING_NUMBER | _texts(markers)
    values = _parse(column.values, missing, cells.parse_datetime, "a date or time in ISO 8601 form")
    return _Typed(replace(column, type=DATETIME, values=values), [])


def _to_boolean(column: Column, markers: _Markers) -> _Typed:
    text = _to_categorical(column, markers).column
    _parse(text.values, cells.MISSING_TEXT, cells.parse_boolean, "true or false")
    return _Typed(replace(text, type=BOOLEAN), [])


def _to_categorical(column: Column, markers: _Markers) -> _Typed:
    values = column.values if column.values.dtype == object else _number_texts(column)
    codes, levels = distinct(values)
    numbers = set(number_markers(markers, column.decimal))
    blank = cells.MISSING_TEXT | _texts(markers)
    kept = [None if _is_blank(level, blank, numbers, column.decimal) else level for level in levels]
    typed = replace(column, type=CATEGORICAL, values=np.array([*kept, None], dtype=object)[codes])
    return _Typed(typed, _kept_none(typed, codes, kept))


def _left_out(column: Column, markers: _Markers) -> _Typed:
    typed = _to_categorical(column, markers).column
    return _Typed(replace(typed, type=column.type if column.type == ID else TEXT), [])


CONVERSIONS: dict[str, Callable[[Column, _Markers], _Typed]] = {
    NUMERIC: _to_numeric,
    CATEGORICAL: _to_categorical,
    DATETIME: _to_datetime,
    BOOLEAN: _to_boolean,
    TEXT: _left_out,
    ID: _left_out,
}


def _number(decimal: str) -> Callable[[str], float]:
    def parse(text: str) -> float:
        return cells.parse_number(text, decimal)

    return parse


def _texts(markers: _Markers) -> frozenset[str]:
    return frozenset(marker.strip() for marker in markers if isinstance(marker, str))


def _is_blank(level: str, blank: frozenset[str], numbers: set[float], decimal: str) -> bool:
    if level.strip() in blank:
        return True
    try:
        return bool(numbers) and cells.parse_number(level, decimal) in numbers
    except ValueError:
        return False


def _kept_none(column: Column, codes: Array, levels: list[str | None]) -> list[dict[str, Any]]:
    count = int(np.sum(codes == levels.index("None"))) if "None" in levels else 0
    if not count:
        return []
    detail = f'{count} cells say "None"; in a column of categories that is a category, not a missing cell'
    return [{"code": "none_kept_as_category", "column": column.name, "count": count, "detail": detail}]


def _parse(values: Array, missing: frozenset[str], parse: Callable[[str], float], what: str) -> Floats:
    """Parse each distinct text once. Raises _BadCells."""
    codes, levels = distinct(values)
    numbers = np.full(len(levels) + 1, np.nan)
    bad = []
    for index, level in enumerate(levels):
        if level.strip() in missing:
            continue
        try:
            numbers[index] = parse(level)
        except (ValueError, OverflowError):
            bad.append(index)
    if bad:
        raise _BadCells(np.flatnonzero(np.isin(codes, bad)).tolist(), f"is not {what}")
    return numbers[codes]


def _blank_numbers(values: Floats, markers: tuple[float, ...]) -> Floats:
    if not markers:
        return values
    return np.where(np.isin(values, markers), np.nan, values)


def _number_texts(column: Column) -> Array:
    distinct, codes = np.unique(column.values, return_inverse=True)
    texts = [
        None if np.isnan(value) else cells.number_text(float(value), integer=column.integer)
        for value in distinct
    ]
    return np.array(texts, dtype=object)[codes]


def _faults(table: Table, column: Column, config: TrainConfig, bad: _BadCells) -> list[FieldError]:
    declared = next((key for key in (column.name, _EVERY) if key in config.columns.types), None)
    pointer = None if declared is None else f"/columns/types/{escape_pointer(declared)}"
    faults = [
        table.cell_fault(
            column.name, index, "wrong_type", f"{shown(column.values[index])} {bad.why}", pointer
        )
        for index in bad.indices[:_SHOWN_FAULTS]
    ]
    more = len(bad.indices) - _SHOWN_FAULTS
    if more > 0:
        detail = f"{more} more cells of the column have the same fault"
        faults.append(FieldError(pointer, "wrong_type", detail, column=column.name))
    return faults
