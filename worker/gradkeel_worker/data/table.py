"""A table in memory: named columns, and where each row stood in the file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from gradkeel.contract.errors import FieldError
from gradkeel.contract.nearest import nearest_name
from gradkeel_worker.data.errors import DataError
from gradkeel_worker.data.storage import MEMORY, Storage

Array = npt.NDArray[Any]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

NUMERIC, CATEGORICAL, DATETIME, TEXT, ID, BOOLEAN = (
    "numeric",
    "categorical",
    "datetime",
    "text",
    "id",
    "boolean",
)


@dataclass(frozen=True)
class Column:
    """One column, [n] values.

    numeric and datetime hold float64 (NaN is missing; datetimes are seconds since 1970 UTC), the other
    types an object array of str or None. ``integer``: the file writes these numbers without a point.
    ``decimal``: the file's decimal mark.
    """

    name: str
    type: str
    values: Array
    integer: bool = False
    decimal: str = "."

    def missing(self) -> Mask:
        """Which cells are missing, [n]."""
        if self.values.dtype == object:
            return is_none(self.values)
        return np.isnan(self.values)


@dataclass(frozen=True)
class Table:
    """Columns of equal length.

    ``rows`` [n]: index of each record in the file, from 0. ``lines`` [n]: its first line in the file, from
    1, or None where the file has no lines. ``typed``: the config's types and markers have been applied.
    ``findings``: what was noticed on the way (code, column, count, detail). ``storage``: where its columns
    are kept, and what is prepared from them.
    """

    columns: Mapping[str, Column]
    rows: Integers
    lines: Integers | None = None
    findings: tuple[dict[str, Any], ...] = field(default=())
    typed: bool = False
    storage: Storage = MEMORY

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any], types: Mapping[str, str] | None = None) -> Self:
        """A table of one-dimensional arrays: numbers become numeric columns, anything else categories."""
        columns = {
            name: _column(name, np.asarray(values), (types or {}).get(name))
            for name, values in arrays.items()
        }
        lengths = {len(column.values) for column in columns.values()}
        if len(lengths) != 1:
            raise ValueError(f"columns need one common length, found {sorted(lengths)}")
        return cls(columns, np.arange(lengths.pop(), dtype=np.int64))

    @classmethod
    def from_frame(cls, frame: Any) -> Self:
        """A table of a pandas DataFrame."""
        return cls.from_arrays({str(name): frame[name].to_numpy() for name in frame.columns})

    def __len__(self) -> int:
        return len(self.rows)

    def place(self, index: int) -> dict[str, int | None]:
        """Where a row stood in the file."""
        line = None if self.lines is None else int(self.lines[index])
        return {"row": int(self.rows[index]), "line": line}

    def cell_fault(
        self, column: str, index: int, code: str, detail: str, pointer: str | None = None
    ) -> FieldError:
        """A fault of one cell."""
        place = self.place(index)
        return FieldError(pointer, code, detail, column=column, row=place["row"], line=place["line"])

    def need(self, name: str, pointer: str) -> Column:
        """A column that the config names. Raises DataError where the table lacks it."""
        if name not in self.columns:
            meant = nearest_name(name, self.columns)
            hint = "" if meant is None else f"; did you mean {meant!r}?"
            raise DataError([FieldError(pointer, "unknown_column", f"there is no column {name!r}{hint}")])
        return self.columns[name]


def is_none(values: Array) -> Mask:
    """Which entries of an object array are None, [n]."""
    return np.asarray(values == np.array(None), dtype=bool)


def _column(name: str, values: Array, declared: str | None) -> Column:
    if values.ndim != 1:
        raise ValueError(f"column {name!r} has shape {values.shape}, not one dimension")
    if values.dtype.kind in "iuf":
        return Column(name, declared or NUMERIC, values.astype(np.float64), integer=values.dtype.kind in "iu")
    if values.dtype.kind == "M":
        return Column(name, declared or DATETIME, _epoch_seconds(values))
    if values.dtype.kind == "b":
        return Column(name, declared or BOOLEAN, np.where(values, "true", "false").astype(object))
    return Column(name, declared or CATEGORICAL, np.array([_text(value) for value in values], dtype=object))


def _epoch_seconds(values: Array) -> Floats:
    seconds = values.astype("datetime64[us]").astype(np.int64) / 1e6
    seconds[np.isnat(values)] = np.nan
    return seconds


def _text(value: Any) -> str | None:
    if value is None or value != value:
        return None
    return ("true" if value else "false") if isinstance(value, bool | np.bool_) else str(value)
