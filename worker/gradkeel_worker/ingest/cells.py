"""The cells of an upload as one Parquet file in the work folder: what every kind of file is brought to first.

Columns `c0 … cN` in file order (BIGINT, DOUBLE or VARCHAR; delimited text is all VARCHAR, exactly as
uploaded), then `__row__` and `__line__`. Rows without any content are left out and counted.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from gradkeel.contract import strict_json
from gradkeel.contract.errors import StrictJSONError
from gradkeel_worker.ingest.dialect import Dialect, column_names
from gradkeel_worker.ingest.errors import rejected, shown
from gradkeel_worker.ingest.options import Limits
from gradkeel_worker.ingest.records import Lines, Structure
from gradkeel_worker.ingest.source import BLOCK

ROW, LINE = "__row__", "__line__"
BATCH_ROWS = 16_384
STREAM_ROWS = 65_536
GROUP_ROWS = 131_072


@dataclass
class Cells:
    """The cell file: where it lies, the columns' final names, rows kept and rows left out as empty."""

    path: Path
    names: tuple[str, ...]
    rows: int = 0
    dropped: int = 0

    @cached_property
    def file(self) -> pq.ParquetFile:
        """The file, its footer read once; texts come as dictionaries."""
        names = [f"c{index}" for index in range(len(self.names))]
        return pq.ParquetFile(self.path, read_dictionary=names, pre_buffer=False)

    @cached_property
    def schema(self) -> pa.Schema:
        """The file's schema, made once: of a wide file that takes milliseconds."""
        return self.file.schema_arrow

    def column(self, index: int) -> pa.RecordBatchReader:
        """One column and the rows' numbers, to be read through once."""
        names = [f"c{index}", ROW]
        schema = pa.schema([self.schema.field(name) for name in names])
        return pa.RecordBatchReader.from_batches(schema, self.file.iter_batches(STREAM_ROWS, columns=names))


class _Writer:
    """Appends batches of columns; numbers rows and lines; leaves empty rows out."""

    def __init__(self, cells: Cells, lines: Callable[[int, int], Any] | None) -> None:
        self._cells, self._lines, self._seen = cells, lines, 0
        self._file: pq.ParquetWriter | None = None

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, columns: list[pa.Array]) -> None:
        count = len(columns[0])
        rows = pa.array(np.arange(self._seen, self._seen + count))
        lines = (
            pa.nulls(count, pa.int64()) if self._lines is None else pa.array(self._lines(self._seen, count))
        )
        self._seen += count
        names = [f"c{index}" for index in range(len(columns))]
        batch = pa.RecordBatch.from_arrays([*columns, rows, lines], names=[*names, ROW, LINE])
        batch = _without_empty_rows(batch, len(columns))
        self._cells.rows += len(batch)
        self._cells.dropped += count - len(batch)
        if self._file is None:
            texts = [field.name for field in batch.schema if pa.types.is_string(field.type)]
            self._file = pq.ParquetWriter(
                self._cells.path, batch.schema, compression="snappy", use_dictionary=texts
            )
        self._file.write_batch(batch, row_group_size=GROUP_ROWS)


def _without_empty_rows(batch: pa.RecordBatch, width: int) -> pa.RecordBatch:
    empty = None
    for column in batch.columns[:width]:
        blank = column.is_null()
        if pa.types.is_string(column.type):
            blank = pc.or_kleene(blank, pc.equal(pc.fill_null(pc.utf8_trim_whitespace(column), ""), ""))
        empty = blank if empty is None else pc.and_(empty, blank)
        if not pc.any(empty).as_py():
            return batch
    return batch.filter(pc.invert(empty))


def from_text(path: Path, work: Path, dialect: Dialect, structure: Structure) -> Cells:
    """The cells of delimited text whose structure has been found regular."""
    cells = Cells(work / "cells.parquet", dialect.names, dropped=structure.lines.blank)
    first = 1 if dialect.header else 0
    with _Writer(cells, lambda row, count: structure.lines.of(row + first, count)) as writer:
        seen = 0
        for batch in _parsed(path, dialect, structure.lines):
            seen += len(batch)
            columns = batch.columns if seen > len(batch) else [c.slice(first) for c in batch.columns]
            if len(columns[0]):
                writer.write(columns)
    if seen != structure.lines.count:
        by_structure = structure.lines.count
        detail = f"two readings disagree: {by_structure} records by the file's structure, {seen} by its cells"
        raise rejected("bad_quoting", detail)
    return cells


def _parsed(path: Path, dialect: Dialect, lines: Lines) -> Iterator[pa.RecordBatch]:
    names = [f"c{index}" for index in range(len(dialect.names))]
    reader = pyarrow.csv.open_csv(
        path,
        read_options=pyarrow.csv.ReadOptions(column_names=names, block_size=BLOCK, use_threads=False),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter=dialect.delimiter, newlines_in_values=lines.multiline, ignore_empty_lines=True
        ),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False, null_values=[]
        ),
    )
    yield from reader


def from_json_lines(path: Path, work: Path, limits: Limits) -> Cells:
    """The cells of JSON lines: numbers as JSON spells them, true and false as words, null is no cell.

    Raises:
        Rejected: a line that is not one flat object.
    """
    names, any_record = _json_names(path, limits)
    if not any_record:
        raise rejected("header_only", "the file holds no record with a field")
    cells = Cells(work / "cells.parquet", column_names(names))
    lines = Lines()
    with _Writer(cells, lines.of) as writer:
        for batch in _json_batches(path, limits):
            lines.append(np.array([line for line, _ in batch]))
            records = [record for _, record in batch]
            writer.write(
                [pa.array([_json_cell(r.get(name)) for r in records], pa.string()) for name in names]
            )
    return cells


def _json_names(path: Path, limits: Limits) -> tuple[list[str], bool]:
    names: dict[str, None] = {}
    for row, (line, record) in enumerate(_json_records(path, limits)):
        for key, value in record.items():
            if isinstance(value, dict | list):
                detail = f"line {line}: the field {shown(key)} is nested; only plain values are read"
                raise rejected("nested_column", detail, column=key, row=row, line=line)
            names[key] = None
        if len(names) > limits.columns:
            detail = f"more than {limits.columns} different fields"
            raise rejected("too_many_columns", detail, row=row, line=line)
    return list(names), bool(names)


def _json_batches(path: Path, limits: Limits) -> Iterator[list[tuple[int, dict[str, Any]]]]:
    batch: list[tuple[int, dict[str, Any]]] = []
    for record in _json_records(path, limits):
        batch.append(record)
        if len(batch) == BATCH_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _json_records(path: Path, limits: Limits) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each object with its line; blank lines are passed over."""
    number = row = 0
    with path.open("rb") as file:
        while text := file.readline(limits.record_bytes + 1):
            number += 1
            if len(text) > limits.record_bytes:
                raise rejected(
                    "record_too_long",
                    f"line {number} is longer than {limits.record_bytes} bytes",
                    row=row,
                    line=number,
                )
            if text.strip():
                yield number, _json_object(text, row, number)
                row += 1


def _json_object(text: bytes, row: int, line: int) -> dict[str, Any]:
    try:
        record = strict_json.loads(text)
    except StrictJSONError as error:
        detail = f"line {line} is not strict JSON: {error.detail}"
        raise rejected("bad_json", detail, row=row, line=line) from error
    if not isinstance(record, dict):
        raise rejected("bad_json", f"line {line} holds no JSON object", row=row, line=line)
    return record


def _json_cell(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value)


def from_parquet(path: Path, work: Path, limits: Limits) -> Cells:
    """The cells of a Parquet file. The footer is only believed once the pages have been read and counted.

    Raises:
        Rejected: a file that cannot be read, holds nested or binary columns, or unpacks to too much.
    """
    try:
        return _read_parquet(path, work, limits)
    except MemoryError:  # Arrow's own is an ArrowException as well, and says nothing about the file
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        detail = f"the Parquet file cannot be read; it may be truncated or forged: {str(error)[:200]}"
        raise rejected("unreadable_parquet", detail) from error


def _read_parquet(path: Path, work: Path, limits: Limits) -> Cells:
    file = pq.ParquetFile(path, pre_buffer=False)  # it would keep every row group that was read
    schema = file.schema_arrow
    if len(schema) > limits.columns:
        detail = f"the file has {len(schema)} columns; at most {limits.columns} are read"
        raise rejected("too_many_columns", detail)
    if not len(schema):
        raise rejected("empty", "the Parquet file has no columns")
    conversions = [_conversion(column) for column in schema]
    cells = Cells(work / "cells.parquet", column_names(schema.names))
    unpacked = 0
    with _Writer(cells, None) as writer:
        for batch in file.iter_batches(BATCH_ROWS):
            unpacked += sum(_decoded_bytes(column) for column in batch.columns)
            if unpacked > limits.unpacked_bytes:
                detail = f"unpacked, the file holds more than {limits.unpacked_bytes} bytes"
                raise rejected("unpacked_too_large", detail, problem="too_large")
            batch.validate(full=True)
            writer.write(
                [convert(column) for convert, column in zip(conversions, batch.columns, strict=True)]
            )
    declared, found = file.metadata.num_rows, cells.rows + cells.dropped
    if declared != found:
        raise rejected("forged_parquet", f"the footer declares {declared} rows, the pages hold {found}")
    return cells


def _decoded_bytes(column: pa.Array) -> int:
    """Bytes of a column once decoded: a dictionary counts each value as often as it is used."""
    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    values = column.dictionary
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        return int(column.indices.nbytes) + len(column) * 8
    used = pc.binary_length(values).take(column.indices)
    return int(column.indices.nbytes) + int(pc.sum(used).as_py() or 0)


Conversion = Callable[[pa.Array], pa.Array]


def _integers(column: pa.Array) -> pa.Array:
    return column.cast(pa.int64())


def _floats(column: pa.Array) -> pa.Array:
    values = column.cast(pa.float64())
    return pc.if_else(pc.is_nan(values), None, values)


def _words(column: pa.Array) -> pa.Array:
    return column.cast(pa.string())


def _dates(column: pa.Array) -> pa.Array:
    return pa.array(
        [None if value is None else value.isoformat() for value in column.to_pylist()], pa.string()
    )


def _moments(column: pa.Array) -> pa.Array:
    return _dates(column.cast(pa.timestamp("us", column.type.tz), safe=False))


def _decoded(column: pa.Array) -> pa.Array:
    return column.dictionary_decode().cast(pa.string())


CONVERSIONS: tuple[tuple[Callable[[pa.DataType], bool], Conversion], ...] = (
    (pa.types.is_boolean, _words),
    (pa.types.is_uint64, _words),  # beyond BIGINT, and DOUBLE would round
    (pa.types.is_integer, _integers),
    (pa.types.is_floating, _floats),
    (pa.types.is_decimal, _floats),
    (pa.types.is_date, _dates),
    (pa.types.is_timestamp, _moments),
    (pa.types.is_string, _words),
    (pa.types.is_large_string, _words),
    (pa.types.is_string_view, _words),
    (pa.types.is_null, _words),
)


def _conversion(column: pa.Field) -> Conversion:
    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return _decoded
    for test, conversion in CONVERSIONS:
        if test(kind):
            return conversion
    detail = f"the column {shown(column.name)} is of type {column.type}; only plain columns are read"
    raise rejected("nested_column", detail, column=column.name)
