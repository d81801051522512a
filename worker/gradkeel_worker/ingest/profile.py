"""The profile of a data set: what each column is and holds, and what a reader should know about the whole."""

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import numpy as np

from gradkeel.contract.states import ColumnType
from gradkeel_worker.ingest.cells import Cells
from gradkeel_worker.ingest.columns import Kind, decide
from gradkeel_worker.ingest.errors import shown
from gradkeel_worker.ingest.statistics import NO_NUMBERS, describe

EXACT_VALUES = 2_000_000
SHOWN_TOP = 10
SHOWN_EXAMPLES = 3
SHOWN_BAD_CELLS = 20
CUT = 200
COLUMNS_AT_ONCE = 64
HASH_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no part's bits are lost

Connection = duckdb.DuckDBPyConnection


def profile_columns(
    connection: Connection, cells: Cells, storages: Sequence[str], decimal: str | None
) -> tuple[list[Kind], list[dict[str, Any]], list[dict[str, Any]]]:
    """Kind, profile entry, and findings of every column of the cell file."""
    kinds: list[Kind] = []
    entries: list[dict[str, Any]] = []
    findings: list[dict[str, Any]] = []
    for index, (name, storage) in enumerate(zip(cells.names, storages, strict=True)):
        kind = decide(connection, cells, index, storage, decimal)
        kinds.append(kind)
        entries.append(_entry(connection, name, kind))
        findings += _column_findings(connection, name, kind, entries[-1])
    return kinds, entries, findings


def _entry(connection: Connection, name: str, kind: Kind) -> dict[str, Any]:
    """One column as the profile shows it."""
    top = _first(connection, kind, "n DESC, first", SHOWN_TOP)
    examples = _first(connection, kind, "first", SHOWN_EXAMPLES)
    levels = kind.counts.levels - (1 if kind.missing > kind.counts.missing else 0)
    return {
        "name": name,
        "type": str(kind.type),
        "storage": kind.storage,
        "decimal": kind.decimal,
        "missing": kind.missing,
        "distinct": levels,
        **(_numbers(connection, kind) if _numeric(kind) else NO_NUMBERS),
        "top": [[text[:CUT], count] for text, count in top],
        "examples": [text[:CUT] for text, _ in examples],
    }


def _first(connection: Connection, kind: Kind, order: str, count: int) -> list[tuple[str, int]]:
    """Text and number of the first cells in an order; only these are made text."""
    query = f"SELECT cell, n, first FROM cell_groups WHERE {_present(kind)} ORDER BY {order} LIMIT {count}"
    return connection.execute(f"SELECT cell::VARCHAR, n FROM ({query}) ORDER BY {order}").fetchall()


def _numeric(kind: Kind) -> bool:
    return kind.type is ColumnType.NUMERIC or kind.storage != "VARCHAR"


def _present(kind: Kind) -> str:
    return "kind NOT IN ('missing', 'none')" if _numeric(kind) else "kind <> 'missing'"


def _numbers(connection: Connection, kind: Kind) -> dict[str, Any]:
    """Exact statistics; beyond two million distinct values all but the extremes come from a fixed sample of
    about a million."""
    query = "SELECT value, n FROM cell_groups WHERE value IS NOT NULL"
    sampled = kind.counts.levels > EXACT_VALUES
    if sampled:
        # by the values' hashes, which is the same sample at every reading and needs no memory
        query += f" AND hash(value) < {int(EXACT_VALUES / 2 / kind.counts.levels * 2**64)}::UBIGINT"
    columns = connection.execute(query).fetchnumpy()
    values, counts = np.asarray(columns["value"], np.float64), np.asarray(columns["n"], np.int64)
    result = describe(values, counts)
    return result | _extremes(connection) if sampled else result


def _extremes(connection: Connection) -> dict[str, Any]:
    query = "SELECT min(value), max(value) FROM cell_groups WHERE isfinite(value)"
    low, high = connection.execute(query).fetchall()[0]
    return {"min": low, "max": high, "outliers": None, "sampled": True}


def _column_findings(
    connection: Connection, name: str, kind: Kind, entry: Mapping[str, Any]
) -> list[dict[str, Any]]:
    counts = kind.counts
    findings = [_mixed_types(connection, name, kind)] if _is_mixed(kind) else []
    if counts.codes and counts.codes + counts.numbers + counts.nones == counts.present:
        detail = f"{counts.codes} cells have leading zeros, so the column is read as codes, not as numbers"
        findings.append(_finding("leading_zeros", name, detail, count=counts.codes))
    if counts.nones and kind.type is not ColumnType.NUMERIC and kind.storage == "VARCHAR":
        detail = (
            f'{counts.nones} cells say "None"; in a column of text that is a category, not a missing cell'
        )
        findings.append(_finding("none_as_category", name, detail, count=counts.nones))
    if entry["nonfinite"]:
        detail = f"{entry['nonfinite']} cells are infinite"
        findings.append(_finding("nonfinite_cells", name, detail, count=entry["nonfinite"]))
    return findings


def _finding(code: str, column: str | None, detail: str, **more: Any) -> dict[str, Any]:
    return {"code": code, "column": column, "detail": detail, **more}


def _is_mixed(kind: Kind) -> bool:
    """A column of text of which more than half the cells are numbers, codes with leading zeros apart."""
    counts = kind.counts
    if _numeric(kind) or counts.codes:
        return False
    numbers = max(counts.numbers, counts.commas)
    return counts.present - counts.nones > numbers > 0.5 * (counts.present - counts.nones)


def _mixed_types(connection: Connection, name: str, kind: Kind) -> dict[str, Any]:
    """Which cells keep the column from being numeric: the first few texts, each with row and line.

    ``count`` is how many cells they are, ``texts`` how many different ones.
    """
    counts = kind.counts
    flag = "is_number" if counts.numbers >= counts.commas else "is_comma"
    groups = connection.execute(
        "SELECT text, first, count(*) OVER () FROM cell_groups "
        f"WHERE kind NOT IN ('missing', 'none') AND NOT {flag} ORDER BY first LIMIT {SHOWN_BAD_CELLS}"
    ).fetchall()
    cells = [{"row": row, "line": _line(connection, row), "cell": text[:CUT]} for text, row, _ in groups]
    numbers = max(counts.numbers, counts.commas)
    others = counts.present - counts.nones - numbers
    first = cells[0]
    where = f"row {first['row']}" + (f", line {first['line']}" if first["line"] is not None else "")
    rest = "1 is not" if others == 1 else f"{others} are not"
    detail = (
        f"mixed types: {numbers} cells are numbers, {rest}, so the column is read as {kind.type}; "
        f"the first that is not a number is {shown(first['cell'])} in {where}"
    )
    texts = groups[0][2]
    return _finding("mixed_types", name, detail, count=others, texts=texts, **first, cells=cells)


def _line(connection: Connection, row: int) -> int | None:
    found = connection.execute("SELECT __line__ FROM cells() WHERE __row__ = ?", [row]).fetchall()
    line: int | None = found[0][0]
    return line


def whole(connection: Connection, entries: Sequence[dict[str, Any]], rows: int) -> dict[str, Any]:
    """What holds of the table as a whole: scales, constant, empty and repeated columns, repeated rows."""
    empty = [entry["name"] for entry in entries if entry["missing"] == rows]
    constant = [entry["name"] for entry in entries if entry["distinct"] == 1 and entry["missing"] == 0]
    return {
        "scale_ratio": _scale_ratio(entries),
        "constant_columns": constant,
        "empty_columns": empty,
        "duplicate_columns": _duplicate_columns(connection, entries, frozenset([*empty, *constant])),
        "duplicate_rows": _duplicate_rows(connection, len(entries), rows),
        "leak_suspects": [],
    }


def _scale_ratio(entries: Sequence[Mapping[str, Any]]) -> float | None:
    """Largest over smallest standard deviation of the numeric columns that vary."""
    scales = [entry["std"] for entry in entries if entry["type"] == "numeric" and entry["std"]]
    return max(scales) / min(scales) if scales else None


def _duplicate_columns(
    connection: Connection, entries: Sequence[Mapping[str, Any]], apart: frozenset[str]
) -> list[list[str]]:
    """Pairs of columns that hold the same in every row. Candidates share their summary, then cells decide."""
    groups: dict[str, list[int]] = {}
    for index, entry in enumerate(entries):
        if entry["name"] not in apart:
            summary = repr([entry[key] for key in ("type", "missing", "distinct", "mean", "top", "examples")])
            groups.setdefault(summary, []).append(index)
    pairs = []
    for group in groups.values():
        first = group[0]
        for other in group[1:]:
            query = f"SELECT count(*) FROM cells() WHERE c{first} IS DISTINCT FROM c{other}"
            if connection.execute(query).fetchall()[0][0] == 0:
                pairs.append([entries[first]["name"], entries[other]["name"]])
    return pairs


def _duplicate_rows(connection: Connection, width: int, rows: int) -> int:
    """Rows that stand earlier in the file already (told by a 64-bit hash of the row).

    A few columns at a time: reading many at once takes memory for each.
    """
    hashes = np.zeros(rows, np.uint64)
    for first in range(0, width, COLUMNS_AT_ONCE):
        cells = ", ".join(f"c{index}" for index in range(first, min(first + COLUMNS_AT_ONCE, width)))
        part = connection.execute(f"SELECT hash({cells}) AS part FROM cells()").fetchnumpy()["part"]
        hashes = hashes * HASH_MULTIPLIER + np.asarray(part, np.uint64)
    hashes.sort()  # of millions of hashes, six times as fast as np.unique
    return int(np.count_nonzero(hashes[1:] == hashes[:-1]))
