"""Tables as Arrow, from whatever holds them: types kept; what no column can hold is refused by its name."""

from __future__ import annotations

import importlib
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gradkeel.errors import MissingExtra

WHAT_IS_TAKEN = (
    "a path, a binary file object, bytes, a data frame (pandas, polars), an Arrow table, "
    "a dict of columns or a 2-D array with columns="
)


def parquet_bytes(frame: Any, columns: Sequence[str] | None = None) -> bytes:
    """A table as Parquet, without its index; the same table gives the same bytes. See ``arrow_table``."""
    parquet = _import("pyarrow.parquet")
    out = io.BytesIO()
    parquet.write_table(arrow_table(frame, columns), out, compression="zstd")
    return out.getvalue()


def arrow_table(frame: Any, columns: Sequence[str] | None = None) -> Any:
    """A ``pyarrow.Table`` of plain columns with distinct names. ``columns`` names those of an array.

    Raises TypeError for what is no table and for columns that are nested or hold several types, ValueError
    for names that stand twice, ``MissingExtra`` where pyarrow is not installed.
    """
    arrow = _import("pyarrow")
    table = _converted(arrow, frame, columns)
    _check_names(table.column_names)
    for field in table.schema:
        _check_type(arrow, field)
    return table.replace_schema_metadata(None)


def _converted(arrow: Any, frame: Any, columns: Sequence[str] | None) -> Any:
    if _is_array(frame):
        return _from_array(arrow, frame, columns)
    if columns is not None:
        raise TypeError("columns= names the columns of an array; this table has names of its own")
    if isinstance(frame, arrow.Table):
        return frame
    if isinstance(frame, arrow.RecordBatch):
        return arrow.Table.from_batches([frame])
    if hasattr(frame, "iloc"):
        return _from_pandas(arrow, frame)
    if isinstance(frame, Mapping):
        return _from_columns(arrow, frame.items())
    if hasattr(frame, "collect") and hasattr(frame, "collect_schema"):
        raise TypeError("this is a lazy frame: give frame.collect()")
    if hasattr(frame, "get_columns") and hasattr(frame, "to_arrow"):
        return _from_polars(arrow, frame)
    if hasattr(frame, "__arrow_c_stream__"):
        return arrow.table(frame)
    raise TypeError(f"cannot upload {type(frame).__name__}: give {WHAT_IS_TAKEN}")


def _is_array(frame: Any) -> bool:
    """A numpy array (or what is like one), but no series and no frame."""
    return hasattr(frame, "ndim") and hasattr(frame, "dtype") and not hasattr(frame, "iloc")


def _from_array(arrow: Any, array: Any, columns: Sequence[str] | None) -> Any:
    fields = array.dtype.names
    if fields is not None:
        return _from_columns(arrow, ((name, array[name]) for name in fields))
    if array.ndim != 2:
        raise TypeError(f"a table has two dimensions; this array has {array.ndim}")
    if columns is None:
        raise TypeError(f"name the columns of an array: columns=[…], {array.shape[1]} names")
    if len(columns) != array.shape[1]:
        raise ValueError(f"{len(columns)} names are given for {array.shape[1]} columns")
    return _from_columns(arrow, ((name, array[:, index]) for index, name in enumerate(columns)))


def _from_pandas(arrow: Any, frame: Any) -> Any:
    if not hasattr(frame, "columns"):
        raise TypeError(f"cannot upload a {type(frame).__name__}: give a data frame, series.to_frame() say")
    if getattr(frame.columns, "nlevels", 1) > 1:
        raise TypeError(
            "the columns have several levels (a MultiIndex): join them to one, as in "
            "frame.columns = ['_'.join(map(str, names)) for names in frame.columns]"
        )
    names = [str(name) for name in frame.columns]
    _check_names(names)
    return _from_columns(arrow, ((name, frame.iloc[:, index]) for index, name in enumerate(names)))


def _from_polars(arrow: Any, frame: Any) -> Any:
    for column in frame.get_columns():
        if str(column.dtype) == "Object":
            raise TypeError(f"column {column.name!r} holds Python objects: give it one plain type")
    return frame.to_arrow()


def _from_columns(arrow: Any, columns: Iterable[tuple[Any, Any]]) -> Any:
    named = [(str(name), cells) for name, cells in columns]
    _check_names([name for name, _ in named])
    arrays = {name: _array(arrow, name, cells) for name, cells in named}
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the columns differ in length: {lengths}")
    return arrow.table(arrays)


def _array(arrow: Any, name: str, cells: Any) -> Any:
    """One column. NaN counts as missing, as pandas has it."""
    if isinstance(cells, str | bytes) or not hasattr(cells, "__len__"):
        raise TypeError(f"column {name!r} is a single {type(cells).__name__}: give a list of cells")
    if getattr(getattr(cells, "dtype", None), "kind", None) in ("S", "V"):
        raise TypeError(f"column {name!r} holds bytes: decode them to text first")
    try:
        return arrow.array(cells, from_pandas=True)
    except (arrow.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"column {name!r} cannot be uploaded: {_why(cells, error)}") from error


def _why(cells: Any, error: Exception) -> str:
    """The types that a column mixes, with the row of each; else what Arrow says."""
    seen: dict[str, int] = {}
    for row, cell in enumerate(cells):
        if cell is not None and cell == cell:
            seen.setdefault(type(cell).__name__, row)
    if len(seen) < 2:
        return str(error)[:200]
    told = ", ".join(f"{kind} (row {row})" for kind, row in seen.items())
    return f"it mixes {told}; give it one type, as in frame[name].astype(str)"


def _check_names(names: Sequence[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"the column name {twice[0]!r} stands {names.count(twice[0])} times: rename them")
    if not names:
        raise ValueError("the table has no columns")


def _check_type(arrow: Any, field: Any) -> None:
    kind, types = field.type, arrow.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    advice = next((words for test, words in _REFUSED if getattr(types, test, lambda _: False)(kind)), None)
    if isinstance(kind, arrow.BaseExtensionType):
        advice = "turn it into text, numbers or timestamps"
    if advice is not None:
        raise TypeError(f"column {field.name!r} is of type {field.type}, which no column can hold: {advice}")


_REFUSED = (
    ("is_nested", "make a plain column of each part"),
    ("is_duration", "turn it into seconds, as in column.dt.total_seconds()"),
    ("is_interval", "turn it into numbers"),
    ("is_time", "turn it into seconds or text"),
    ("is_binary", "decode it to text"),
    ("is_large_binary", "decode it to text"),
    ("is_binary_view", "decode it to text"),
    ("is_fixed_size_binary", "decode it to text"),
)
"""Test of ``pyarrow.types`` → what to do in place of it."""


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtra(
            "uploading a data frame needs pyarrow: pip install pyarrow (or write it to a CSV file first)"
        ) from error
