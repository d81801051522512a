"""Rows in any of the accepted forms, as the arrays that the exported graph takes."""

import datetime as dt
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gradkeel.contract.nearest import nearest_name
from gradkeel.local import cells
from gradkeel.local.errors import BadValue, LocalModelError, MissingColumn

Array = npt.NDArray[Any]
STRICT, IMPUTE = "strict", "impute"
_REFUSING = ("refuse", "drop_rows")
_NUMERIC_CHARACTERS = frozenset("0123456789+-.eE")
_SHOWN_UNKNOWN = 10
_PLAIN_NUMBERS = {int, float, type(None)}


@dataclass(frozen=True)
class Column:
    """One input of the model, as the manifest describes it."""

    name: str
    type: str
    required: bool
    input: str
    missing_numbers: tuple[float, ...]
    missing_texts: frozenset[str]
    integer: bool
    decimal: str
    levels: frozenset[str] | None
    above: float | None

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "Column":
        levels = entry["levels"]
        return cls(
            entry["name"],
            entry["type"],
            entry["required"],
            entry["input"],
            tuple(float(number) for number in entry["missing_numbers"]),
            frozenset(text.strip() for text in entry["missing_texts"]),
            entry["integer"],
            entry["decimal"],
            None if levels is None else frozenset(levels),
            entry["above"],
        )


@dataclass
class Reading:
    """How rows are to be read: the policy, what the preparation does about missing cells, and what to warn
    of. ``known``: the columns of the training table, or None where the bundle does not name them."""

    policy: str
    missing: str
    warnings: list[str] = field(default_factory=list)
    known: frozenset[str] | None = None

    @property
    def strict(self) -> bool:
        return self.policy == STRICT


def known_columns(manifest: Mapping[str, Any]) -> frozenset[str] | None:
    """The columns of the training table, target included; None where the bundle does not name them."""
    names = manifest.get("dataset", {}).get("columns")
    return None if names is None else frozenset(names)


def feed(columns: Sequence[Column], rows: Any, reading: Reading) -> tuple[dict[str, Array], int]:
    """Array [n, 1] of each input, and n. Raises MissingColumn, BadValue."""
    given, n = _as_columns(rows, [column.name for column in columns])
    if reading.known is not None:
        _warn_of_unknown(reading, reading.known, _names(rows))
    fed = {}
    for column in columns:
        values = given.get(column.name)
        if values is None:
            values = _absent(column, n, reading)
        elif len(values) != n:
            raise BadValue(column.name, None, f"the column has {len(values)} cells where others have {n}")
        fed[column.input] = READERS[column.type](column, values, reading)[:, None]
    return fed, n


def columns_of_rows(rows: Any, wanted: list[str]) -> tuple[dict[str, Any], int]:
    """The cells of the wanted columns that there are, and the number of rows."""
    return _as_columns(rows, wanted)


def texts_of(column: Column, cells: Any) -> list[str]:
    """Cells as texts, whatever they are; the empty text for missing ones."""
    return _each_text(column, cells)


def _absent(column: Column, n: int, reading: Reading) -> list[None]:
    if reading.strict:
        raise MissingColumn(column.name)
    reading.warnings.append(f"column {column.name!r} is missing; every cell of it counts as missing")
    return [None] * n


# ------------------------------------------------------------------------------------------------ forms of ro


def _as_columns(rows: Any, wanted: list[str]) -> tuple[dict[str, Any], int]:
    if isinstance(rows, Mapping):
        given = {str(name): values for name, values in rows.items()}
    elif hasattr(rows, "column_names") and hasattr(rows, "to_pydict"):
        given = {name: rows.column(name).to_pylist() for name in rows.column_names if name in wanted}
    elif hasattr(rows, "columns") and hasattr(rows, "iloc"):
        given = {str(name): rows[name].tolist() for name in rows.columns if str(name) in wanted}
        return given, len(rows)
    elif hasattr(rows, "get_columns") and hasattr(rows, "height"):  # polars
        given = {column.name: column.to_list() for column in rows.get_columns() if column.name in wanted}
        return given, rows.height
    elif isinstance(rows, Sequence) and all(isinstance(record, Mapping) for record in rows):
        return _from_records(rows, wanted), len(rows)
    else:
        raise LocalModelError(
            "rows must be a dict of columns, a list of records, a DataFrame or an Arrow table"
        )
    lengths = [len(values) for values in given.values()]
    return given, lengths[0] if lengths else 0


def _from_records(records: Sequence[Mapping[str, Any]], wanted: list[str]) -> dict[str, list[Any]]:
    present = set().union(*records)
    return {name: [record.get(name) for record in records] for name in wanted if name in present}


def _names(rows: Any) -> list[str]:
    """The columns that were given, in their order where they have one."""
    if isinstance(rows, Mapping):
        return [str(name) for name in rows]
    for attribute in ("column_names", "columns"):  # Arrow; pandas and polars
        if hasattr(rows, attribute):
            return [str(name) for name in getattr(rows, attribute)]
    return sorted(str(name) for name in set().union(*rows))


def _warn_of_unknown(reading: Reading, known: frozenset[str], names: list[str]) -> None:
    """Columns that training did not know. A blank name is an index that was written along."""
    unknown = [name for name in names if name not in known and name.strip()]
    absent = sorted(known.difference(names))
    for name in unknown[:_SHOWN_UNKNOWN]:
        meant = nearest_name(name, absent)
        hint = "" if meant is None else f"; did you mean {meant!r}?"
        reading.warnings.append(f"column {_shown(name)} was not in the training table and is not used{hint}")
    more = len(unknown) - _SHOWN_UNKNOWN
    if more > 0:
        columns = "1 more column was" if more == 1 else f"{more} more columns were"
        reading.warnings.append(f"{columns} not in the training table")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


# ---------------------------------------------------------------------------------------------------- numbers


def _read_numbers(column: Column, values: Any, reading: Reading) -> Array:
    numbers = _fast_numbers(values)
    if numbers is None:
        numbers = _each(column, values, _number)
    if column.missing_numbers:
        numbers = np.where(np.isin(numbers, column.missing_numbers), np.nan, numbers)
    _check_domain(column, numbers)
    absent = np.isnan(numbers) if reading.missing == "propagate" else ~np.isfinite(numbers)
    _note_missing(column, absent, reading)
    return numbers


def _fast_numbers(values: Any) -> Array | None:
    """The whole column at once where every cell is plainly a number, or a text of digits; else None."""
    if isinstance(values, np.ndarray):
        return values.astype(np.float64) if values.dtype.kind in "iuf" else None
    kinds = set(map(type, values))
    try:
        if kinds <= _PLAIN_NUMBERS:
            return np.array(values, dtype=np.float64)
        if kinds == {str} and set().union(*values) <= _NUMERIC_CHARACTERS:
            return np.array([float(text) for text in values], dtype=np.float64)
    except (ValueError, OverflowError):
        return None
    return None


def _number(column: Column, cell: Any) -> float:
    if _is_none(cell):
        return math.nan
    if isinstance(cell, str):
        if _is_marker(column, cell, cells.MISSING_NUMBER):
            return math.nan
        return cells.parse_number(cell, column.decimal)
    if isinstance(cell, bool | np.bool_):
        raise ValueError("true or false where a number is expected")
    return float(cell)


def _check_domain(column: Column, numbers: Array) -> None:
    if column.above is None:
        return
    outside = np.flatnonzero(numbers <= column.above)
    if len(outside):
        row = int(outside[0])
        raise BadValue(column.name, row, f"{numbers[row]:g} is outside the domain: above {column.above:g}")


# ------------------------------------------------------------------------------------------- dates and times


def _read_datetimes(column: Column, values: Any, reading: Reading) -> Array:
    if isinstance(values, np.ndarray) and values.dtype.kind == "M":
        values = values.astype("datetime64[us]").tolist()
    moments = _fast_numbers(values)
    if moments is None:
        moments = _each(column, values, _moment)
    if column.missing_numbers:
        moments = np.where(np.isin(moments, column.missing_numbers), np.nan, moments)
    _note_missing(column, ~np.isfinite(moments), reading)
    return moments


def _moment(column: Column, cell: Any) -> float:
    if _is_none(cell):
        return math.nan
    if isinstance(cell, dt.datetime):
        aware = cell if cell.tzinfo is not None else cell.replace(tzinfo=dt.UTC)
        return aware.timestamp()
    if isinstance(cell, dt.date):
        return dt.datetime(cell.year, cell.month, cell.day, tzinfo=dt.UTC).timestamp()
    if isinstance(cell, str):
        return math.nan if _is_marker(column, cell, cells.MISSING_NUMBER) else cells.parse_datetime(cell)
    return _number(column, cell)


# ------------------------------------------------------------------------------------------------------- text


def _read_categories(column: Column, values: Any, reading: Reading) -> Array:
    texts = _each_text(column, values)
    assert column.levels is not None
    unseen = set(texts) - column.levels - {""}
    if unseen:
        rows = [row for row, text in enumerate(texts) if text in unseen]
        _unseen(column, rows[0], texts[rows[0]], len(rows), reading)
    return _text_array(column, texts, reading)


def _read_booleans(column: Column, values: Any, reading: Reading) -> Array:
    texts = [text.strip().lower() for text in _each_text(column, values)]
    wrong = [
        row for row, text in enumerate(texts) if text and text not in cells.TRUE_WORDS | cells.FALSE_WORDS
    ]
    if wrong:
        _unseen(column, wrong[0], texts[wrong[0]], len(wrong), reading)
        texts = [text if text in cells.TRUE_WORDS | cells.FALSE_WORDS else "" for text in texts]
    return _text_array(column, texts, reading)


def _unseen(column: Column, row: int, text: str, count: int, reading: Reading) -> None:
    shown = _shown(text)
    if reading.strict:
        raise BadValue(column.name, row, f"{shown} was not among the categories in training")
    reading.warnings.append(
        f"column {column.name!r}: {_cells(count, 'holds a category', 'hold categories')} "
        f"not seen in training, {shown} first"
    )


def _text_array(column: Column, texts: list[str], reading: Reading) -> Array:
    array = np.array(texts, dtype=object)
    _note_missing(column, array == "", reading)
    return array


def _each_text(column: Column, values: Any) -> list[str]:
    if isinstance(values, np.ndarray):
        values = values.tolist()
    try:
        known = {cell: _text(column, cell) for cell in set(values)}
    except TypeError:  # a cell that cannot be hashed; the slow way names it
        return [_text_or_fault(column, cell, row) for row, cell in enumerate(values)]
    # True == 1 == 1.0 share one key of a dict, so mixed columns go cell by cell
    if len(set(map(type, values)) - {str, type(None)}) > 1:
        return [_text(column, cell) for cell in values]
    return [known[cell] for cell in values]


def _text_or_fault(column: Column, cell: Any, row: int) -> str:
    if hasattr(cell, "__len__") and not isinstance(cell, str):
        raise BadValue(column.name, row, "a cell must be text, a number, true, false or nothing")
    return _text(column, cell)


def _text(column: Column, cell: Any) -> str:
    if _is_none(cell):
        return ""
    if isinstance(cell, bool | np.bool_):
        return "true" if cell else "false"
    if isinstance(cell, int | float | np.number):
        number = float(cell)
        if number in column.missing_numbers:
            return ""
        # an integer too long for a float keeps its digits
        exact = isinstance(cell, int) and column.integer
        return (
            str(cell)
            if exact
            else cells.number_text(number, integer=column.integer or column.type == "boolean")
        )
    text = str(cell)
    return "" if _is_marker(column, text, cells.MISSING_TEXT) or _is_marked_number(column, text) else text


def _is_marked_number(column: Column, text: str) -> bool:
    if not column.missing_numbers:
        return False
    try:
        return cells.parse_number(text, column.decimal) in column.missing_numbers
    except ValueError:
        return False


# ------------------------------------------------------------------------------------------------ every colum


def _each(column: Column, values: Any, read: Callable[[Column, Any], float]) -> Array:
    """Cell by cell; a text that comes again is not read again."""
    numbers = np.empty(len(values), dtype=np.float64)
    known: dict[str, float] = {}
    for row, cell in enumerate(values):
        number = known.get(cell) if type(cell) is str else None
        if number is None:
            number = _read_one(column, cell, row, read)
            if type(cell) is str:
                known[cell] = number
        numbers[row] = number
    return numbers


def _read_one(column: Column, cell: Any, row: int, read: Callable[[Column, Any], float]) -> float:
    try:
        return read(column, cell)
    except (ValueError, TypeError, OverflowError) as error:
        shown = repr(cell)
        shown = shown if len(shown) <= 80 else shown[:77] + "..."
        raise BadValue(column.name, row, f"{shown} is not a {column.type} value: {error}") from error


def _is_none(cell: Any) -> bool:
    if cell is None or type(cell).__name__ in ("NAType", "NaTType"):  # pandas' own, which is not imported
        return True
    return isinstance(cell, float | np.floating) and bool(np.isnan(cell))


def _is_marker(column: Column, text: str, markers: frozenset[str]) -> bool:
    plain = text.strip()
    return plain in markers or plain in column.missing_texts


def _note_missing(column: Column, missing: Array, reading: Reading) -> None:
    """Warn of missing cells that training did not know; refuse them where training refused them."""
    if not missing.any():
        return
    row = int(np.argmax(missing))
    if reading.strict and reading.missing in _REFUSING:
        raise BadValue(column.name, row, "the cell is missing, and the model was trained on whole rows only")
    if column.required:
        count = int(missing.sum())
        reading.warnings.append(
            f"column {column.name!r}: {_cells(count, 'is', 'are')} missing, row {row} first; "
            "none was in training"
        )


def _cells(count: int, one: str, many: str) -> str:
    return f"1 cell {one}" if count == 1 else f"{count} cells {many}"


READERS: dict[str, Callable[[Column, Any, Reading], Array]] = {
    "numeric": _read_numbers,
    "datetime": _read_datetimes,
    "categorical": _read_categories,
    "boolean": _read_booleans,
}
"""Column type → function(column, cells, reading) → array [n]."""
