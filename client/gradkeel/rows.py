"""Rows to predict, in the forms a caller may hold them, as the JSON that the service takes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from gradkeel.errors import GradkeelError

ROWS_A_REQUEST = 5000

Json = dict[str, Any]


def bodies(rows: Any, at_once: int = ROWS_A_REQUEST) -> Iterator[Json]:
    """Request bodies for a data frame, an Arrow table, a dict of columns, one record or a list of records.

    NaN, NaT and infinities become null, a missing cell. A large table becomes several bodies.
    """
    if isinstance(rows, Sequence) and not isinstance(rows, str | bytes):
        yield from _record_bodies(rows, at_once)
        return
    columns = columns_of(rows)
    length = _length(columns)
    for start in range(0, max(length, 1), at_once):
        piece = {name: cells[start : start + at_once] for name, cells in columns.items()}
        yield {"columns": {name: [plain(cell) for cell in cells] for name, cells in piece.items()}}


def _record_bodies(records: Sequence[Any], at_once: int) -> Iterator[Json]:
    if not all(isinstance(record, Mapping) for record in records):
        raise TypeError("records are dicts of column name → cell")
    for start in range(0, max(len(records), 1), at_once):
        piece = records[start : start + at_once]
        yield {"records": [{str(k): plain(v) for k, v in record.items()} for record in piece]}


def columns_of(rows: Any) -> dict[str, list[Any]]:
    """Column name → list of cells. Raises TypeError for what is no table, ValueError for doubled names."""
    if isinstance(rows, Mapping):
        scalar = not any(_is_column(cells) for cells in rows.values())
        return _distinct((name, [cells] if scalar else list(cells)) for name, cells in rows.items())
    if hasattr(rows, "to_pydict"):  # pyarrow
        return _distinct((name, rows.column(index).to_pylist()) for index, name in enumerate(_names(rows)))
    if hasattr(rows, "iloc") and hasattr(rows, "columns"):  # pandas
        if getattr(rows.columns, "nlevels", 1) > 1:
            raise TypeError("the columns have several levels (a MultiIndex): join them to one")
        return _distinct((name, rows.iloc[:, index].tolist()) for index, name in enumerate(rows.columns))
    if hasattr(rows, "get_columns"):  # polars
        return {column.name: column.to_list() for column in rows.get_columns()}
    fields = getattr(getattr(rows, "dtype", None), "names", None)
    if fields is not None:  # a numpy array of records
        return {name: rows[name].tolist() for name in fields}
    raise TypeError(
        f"cannot predict from {type(rows).__name__}: give a data frame, a dict of columns or records"
    )


def _names(table: Any) -> list[str]:
    """Of a table or a record batch."""
    return [str(name) for name in table.schema.names]


def _distinct(columns: Iterable[tuple[Any, list[Any]]]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for name, cells in columns:
        if str(name) in found:
            raise ValueError(f"the column name {str(name)!r} stands twice: rename one")
        found[str(name)] = cells
    return found


def _is_column(cells: Any) -> bool:
    return hasattr(cells, "__len__") and not isinstance(cells, str | bytes)


def _length(columns: Mapping[str, Sequence[Any]]) -> int:
    lengths = {name: len(cells) for name, cells in columns.items()}
    if len(set(lengths.values())) > 1:
        raise GradkeelError(f"the columns differ in length: {lengths}")
    return next(iter(lengths.values()), 0)


def plain(cell: Any) -> Any:
    """A cell as JSON: numpy and pandas scalars become Python's, dates ISO 8601 text, missing cells None."""
    if hasattr(cell, "isoformat"):
        return None if cell != cell else cell.isoformat()
    if hasattr(cell, "item") and not isinstance(cell, bool | int | float | str):
        cell = cell.item()
    if isinstance(cell, float) and not math.isfinite(cell):
        return None
    return cell if cell is None or isinstance(cell, bool | int | float | str) else _other(cell)


def _other(cell: Any) -> Any:
    """pandas' NA says what it is only in words; decimals and the like are sent as their text."""
    return None if type(cell).__name__ in {"NAType", "NaTType"} else str(cell)
