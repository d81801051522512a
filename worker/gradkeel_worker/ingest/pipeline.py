"""The way of an upload: unpack, find its kind, read its cells, decide types, write the table, describe it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gradkeel_worker.ingest.cells import (
    LINE,
    ROW,
    Cells,
    from_json_lines,
    from_parquet,
    from_text,
)
from gradkeel_worker.ingest.database import connect
from gradkeel_worker.ingest.dialect import find_dialect
from gradkeel_worker.ingest.errors import rejected
from gradkeel_worker.ingest.options import Limits, Options
from gradkeel_worker.ingest.profile import profile_columns, whole
from gradkeel_worker.ingest.records import read_structure
from gradkeel_worker.ingest.source import kind_of, unpack
from gradkeel_worker.ingest.table import write_table
from gradkeel_worker.ingest.text import to_utf8

STORAGES = {pa.int64(): "BIGINT", pa.float64(): "DOUBLE", pa.string(): "VARCHAR"}


@dataclass(frozen=True)
class Ingested:
    """The table's file in the work folder, its profile, and what the data set's record shows."""

    path: Path
    profile: dict[str, Any]

    @property
    def rows(self) -> int:
        rows: int = self.profile["rows"]
        return rows

    @property
    def columns(self) -> list[dict[str, Any]]:
        """Name, type and missing cells of each column."""
        return [{key: c[key] for key in ("name", "type", "missing")} for c in self.profile["columns"]]


def ingest(source: Path, work: Path, options: Options, limits: Limits | None = None) -> Ingested:
    """Read an uploaded file into `work/table.parquet`.

    source: the file as uploaded.    work: an empty folder of this call's own.

    Raises:
        Rejected: with the places that have to be mended.
    """
    limits = limits or Limits()
    path, compression = unpack(source, work, limits.unpacked_bytes)
    kind = kind_of(path)
    cells, form = READERS[kind](path, work, options, limits)
    if cells.rows == 0:
        raise rejected("header_only", "the file holds no row with any content")
    if 0 < limits.rows < cells.rows:
        detail = f"the file has {cells.rows} rows; a data set may have {limits.rows} (GRADKEEL_MAX_ROWS)"
        raise rejected("too_many_rows", detail, row=limits.rows)
    return _typed(cells, {"compression": compression, **form}, work, options, limits)


def _read_text(path: Path, work: Path, options: Options, limits: Limits) -> tuple[Cells, dict[str, Any]]:
    path, encoding = to_utf8(path, work, options.encoding)
    dialect = find_dialect(path, options, limits)
    path, structure = read_structure(path, work, dialect, limits)
    kind = "tsv" if dialect.delimiter == "\t" else "csv"
    form = {"kind": kind, "delimiter": dialect.delimiter, "encoding": encoding, "header": dialect.header}
    return from_text(path, work, dialect, structure), form | {"quote": '"'}


def _read_json_lines(
    path: Path, work: Path, options: Options, limits: Limits
) -> tuple[Cells, dict[str, Any]]:
    path, encoding = to_utf8(path, work, options.encoding)
    return from_json_lines(path, work, limits), _plain_form("jsonl", encoding)


def _read_parquet(path: Path, work: Path, options: Options, limits: Limits) -> tuple[Cells, dict[str, Any]]:
    return from_parquet(path, work, limits), _plain_form("parquet", None)


def _plain_form(kind: str, encoding: str | None) -> dict[str, Any]:
    return {"kind": kind, "delimiter": None, "encoding": encoding, "header": None, "quote": None}


READERS = {"csv": _read_text, "jsonl": _read_json_lines, "parquet": _read_parquet}


def _typed(cells: Cells, form: dict[str, Any], work: Path, options: Options, limits: Limits) -> Ingested:
    schema = pq.read_schema(cells.path)
    storages = [STORAGES[column.type] for column in schema if column.name not in {ROW, LINE}]
    with connect(work, cells.path, limits) as connection:
        kinds, entries, findings = profile_columns(connection, cells, storages, options.decimal)
        decimal = options.decimal or ("," if any(kind.decimal == "," for kind in kinds) else ".")
        profile = {
            "rows": cells.rows,
            "dropped_empty_rows": cells.dropped,
            "format": form | {"decimal": decimal},
            "columns": entries,
            **whole(connection, entries, cells.rows),
            "findings": findings,
        }
    table = work / "table.parquet"
    write_table(cells, [kind.storage for kind in kinds], table)
    return Ingested(table, profile)
