"""Reading the table that ingest wrote: Parquet with ``__row__`` and ``__line__`` beside the file's
columns."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gradkeel.contract.config import TrainConfig
from gradkeel_worker.data.columns import apply_types
from gradkeel_worker.data.table import ID, NUMERIC, TEXT, Array, Column, Integers, Table

ROW, LINE = "__row__", "__line__"
_EXACT_INTEGERS = 2**53


def read_table(path: str | Path, profile: Mapping[str, Any], config: TrainConfig) -> Table:
    """The columns that a job needs, typed as its config says. Raises DataError at cells that do not fit."""
    described = {column["name"]: column for column in profile["columns"]}
    wanted = [name for name in described if _needed(name, described[name], config)]
    with pq.ParquetFile(path) as file:
        # one column at a time: a whole table of texts would not fit beside its numbers
        mark = (profile.get("format") or {}).get("decimal") or "."
        columns = {name: _column(_read(file, name), described[name], mark) for name in wanted}
        table = Table(columns, _rows(file), _lines(file), findings=_unread(described, wanted, config))
    return apply_types(table, config)


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
    """Columns with a part of their own: target, split, order, group, weight."""
    roles = {config.target, config.columns.order, config.columns.group, config.columns.weight}
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


def _column(data: pa.ChunkedArray, described: Mapping[str, Any], mark: str) -> Column:
    """``mark``: the file's decimal mark, for texts that the job may read as numbers after all."""
    name, type_ = described["name"], described["type"]
    numbers = pa.types.is_integer(data.type) or pa.types.is_floating(data.type)
    if numbers and not _beyond_floats(data):
        return Column(name, type_, _floats(data), integer=pa.types.is_integer(data.type))
    own = described.get("decimal") if type_ == NUMERIC else None
    return Column(name, type_, _texts(data), decimal=own or mark)


def _texts(data: pa.ChunkedArray) -> Array:
    """Equal cells share one text, which keeps long columns of few texts small."""
    encoded = data.cast(pa.string()).combine_chunks().dictionary_encode()
    levels = np.array([*encoded.dictionary.to_pylist(), None], dtype=object)
    return np.asarray(levels[pc.fill_null(encoded.indices, len(levels) - 1).to_numpy(zero_copy_only=False)])


def _read(file: pq.ParquetFile, name: str) -> pa.ChunkedArray:
    # by name once more: the reader takes "a" to mean "a.b" too
    return file.read(columns=[name]).column(name)


def _beyond_floats(data: pa.ChunkedArray) -> bool:
    """Whether integers are too long for float64, so that only their text keeps them apart."""
    if not pa.types.is_integer(data.type):
        return False
    limits = pc.min_max(data).as_py()
    return limits["min"] is not None and max(-limits["min"], limits["max"]) > _EXACT_INTEGERS


def _floats(data: pa.ChunkedArray) -> Array:
    return np.asarray(data.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)


def _rows(file: pq.ParquetFile) -> Integers:
    if ROW not in file.schema_arrow.names:
        return np.arange(file.metadata.num_rows, dtype=np.int64)
    return np.asarray(_read(file, ROW).to_numpy(), dtype=np.int64)


def _lines(file: pq.ParquetFile) -> Integers | None:
    if LINE not in file.schema_arrow.names:
        return None
    lines = _read(file, LINE)
    return None if lines.null_count else np.asarray(lines.to_numpy(), dtype=np.int64)
