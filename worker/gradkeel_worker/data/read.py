"""Reading the table that ingest wrote: Parquet with ``__row__`` and ``__line__`` beside the file's
columns."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gradkeel.contract.config import TrainConfig
from gradkeel_worker.data import datetimes
from gradkeel_worker.data.columns import apply_types
from gradkeel_worker.data.shelf import shelf
from gradkeel_worker.data.storage import MEMORY, Storage
from gradkeel_worker.data.table import (
    CATEGORICAL,
    DATETIME,
    ID,
    NUMERIC,
    TEXT,
    Array,
    Column,
    Floats,
    Integers,
    Table,
)

ROW, LINE = "__row__", "__line__"
_EXACT_INTEGERS = 2**53
_ROWS_AT_ONCE = 1 << 18


def read_table(
    path: str | Path, profile: Mapping[str, Any], config: TrainConfig, storage: Storage = MEMORY
) -> Table:
    """The columns that a job needs, typed as its config says. Raises DataError at cells that do not fit."""
    described = {column["name"]: column for column in profile["columns"]}
    wanted = [name for name in described if _needed(name, described[name], config)]
    with pq.ParquetFile(path, pre_buffer=False) as file:
        # one column at a time: a whole table of texts would not fit beside its numbers
        mark = (profile.get("format") or {}).get("decimal") or "."
        columns = shelf(storage)
        for name in wanted:
            columns[name] = _column(file, described[name], mark, storage)
        rows, lines = _rows(file, storage), _lines(file, storage)
    findings = _unread(described, wanted, config)
    return apply_types(Table(columns, rows, lines, findings, storage=storage), config)


def bytes_in_memory(profile: Mapping[str, Any], config: TrainConfig) -> int:
    """Roughly what a job's table and its prepared parts take in memory: 8 bytes a cell, 4 an input."""
    inputs = {
        column["name"]: _inputs(column, config)
        for column in profile["columns"]
        if _needed(column["name"], column, config)
    }
    rows: int = profile["rows"]
    return rows * sum(8 + 4 * count for count in inputs.values())


def _inputs(described: Mapping[str, Any], config: TrainConfig) -> int:
    """Columns of x that a column makes, roughly."""
    policy = config.prepare.categorical
    declared = config.columns.types.get(described["name"]) or described["type"]
    if declared != CATEGORICAL or policy.kind != "onehot":
        return len(datetimes.PARTS) if declared == DATETIME else 2
    return max(2, min(int(described.get("distinct") or 0), policy.max_levels))


def _needed(name: str, described: Mapping[str, Any], config: TrainConfig) -> bool:
    if name in named_columns(config):
        return True
    declared = config.columns.types.get(name) or config.columns.types.get("*")
    listed = config.columns.include is None or name in config.columns.include
    # a column that reads as text may turn out to be numbers once the job's own markers are known
    markers = name in config.columns.missing_values or "*" in config.columns.missing_values
    left_out = (declared or described["type"]) in (TEXT, ID) and (declared is not None or not markers)
    return listed and name not in config.columns.exclude and not left_out


def named_columns(config: TrainConfig) -> set[str]:
    """Columns with a part of their own: targets, split, order, group, weight."""
    roles = {*config.targets, config.columns.order, config.columns.group, config.columns.weight}
    return {name for name in roles | {getattr(config.split, "column", None)} if name is not None}


def _unread(described: Mapping[str, Any], read: list[str], config: TrainConfig) -> tuple[dict[str, Any], ...]:
    listed = config.columns.include
    return tuple(
        left_out(name, config.columns.types.get(name) or column["type"])
        for name, column in described.items()
        if name not in read and name not in config.columns.exclude and (listed is None or name in listed)
    )


def left_out(name: str, type_: str) -> dict[str, Any]:
    """The finding for a text or id column."""
    what = "an identifier" if type_ == ID else "free text"
    detail = f"the column is {what} and is left out; columns.types can make it a feature"
    return {"code": f"{ID if type_ == ID else TEXT}_left_out", "column": name, "count": 1, "detail": detail}


def _column(file: pq.ParquetFile, described: Mapping[str, Any], mark: str, storage: Storage) -> Column:
    """``mark``: the file's decimal mark, for texts that the job may read as numbers after all."""
    name, type_ = described["name"], described["type"]
    kind = file.schema_arrow.field(name).type
    integer = pa.types.is_integer(kind)
    if integer or pa.types.is_floating(kind):
        numbers = _numbers(file, name, storage)
        if numbers is not None:
            return Column(name, type_, numbers, integer=integer)
    own = described.get("decimal") if type_ == NUMERIC else None
    return Column(name, type_, _texts(file, name), decimal=own or mark)


def _numbers(file: pq.ParquetFile, name: str, storage: Storage) -> Floats | None:
    """A column as float64; None where it holds integers so long that only their text keeps them apart."""
    values = storage.empty(file.metadata.num_rows, np.float64)
    for first, cells in _read(file, name):
        if _beyond_floats(cells):
            return None
        floats = cells.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        values[first : first + len(cells)] = floats
    return values


def _texts(file: pq.ParquetFile, name: str) -> Array:
    """Equal cells share one text, which keeps long columns of few texts small."""
    values = np.empty(file.metadata.num_rows, dtype=object)
    known: dict[str, str] = {}
    for first, cells in _read(file, name):
        encoded = cells.cast(pa.string()).dictionary_encode()
        texts = [known.setdefault(text, text) for text in encoded.dictionary.to_pylist()]
        levels = np.array([*texts, None], dtype=object)
        codes = pc.fill_null(encoded.indices, len(texts)).to_numpy(zero_copy_only=False)
        values[first : first + len(cells)] = levels[codes]
    return values


def _read(file: pq.ParquetFile, name: str) -> Iterator[tuple[int, pa.Array]]:
    """A column in pieces, each with its first row."""
    first = 0
    for batch in file.iter_batches(_ROWS_AT_ONCE, columns=[name]):
        # by name once more: the reader takes "a" to mean "a.b" too
        yield first, batch.column(name)
        first += len(batch)


def _beyond_floats(data: pa.Array) -> bool:
    """Whether integers are too long for float64, so that only their text keeps them apart."""
    if not pa.types.is_integer(data.type):
        return False
    limits = pc.min_max(data).as_py()
    return limits["min"] is not None and max(-limits["min"], limits["max"]) > _EXACT_INTEGERS


def _rows(file: pq.ParquetFile, storage: Storage) -> Integers:
    if ROW not in file.schema_arrow.names:
        return storage.keep(np.arange(file.metadata.num_rows, dtype=np.int64))
    rows = _integers(file, ROW, storage)
    assert rows is not None
    return rows


def _lines(file: pq.ParquetFile, storage: Storage) -> Integers | None:
    return _integers(file, LINE, storage) if LINE in file.schema_arrow.names else None


def _integers(file: pq.ParquetFile, name: str, storage: Storage) -> Integers | None:
    """A column of whole numbers; None where one is missing."""
    values = storage.empty(file.metadata.num_rows, np.int64)
    for first, cells in _read(file, name):
        if cells.null_count:
            return None
        values[first : first + len(cells)] = cells.to_numpy()
    return values
