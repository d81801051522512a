"""What kind of column each is, decided on its distinct cells, all of them.

A column is grouped by its text once; everything else looks at the groups, which are few even in long files.
"""

from dataclasses import dataclass
from typing import Any

import duckdb

from gradkeel.contract.states import ColumnType
from gradkeel.local.cells import MISSING_NUMBER, MISSING_TEXT
from gradkeel_worker.ingest.cells import Cells

BOOLEAN_PAIRS = (("false", "true"), ("no", "yes"), ("f", "t"), ("n", "y"))
MIN_IDS = 20
MANY_LEVELS = 50
LONG_TEXT = 50

_DIGITS = r"[+-]?(([0-9]+{d}?[0-9]*|{d}[0-9]+)([eE][+-]?[0-9]+)?|[iI][nN][fF]([iI][nN][iI][tT][yY])?)"
NUMBER = {".": _DIGITS.format(d=r"\."), ",": _DIGITS.format(d=",")}
CODE = r"[+-]?0[0-9]+"
_CLOCK = r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2}([.,][0-9]+)?)?\s?(Z|[+-][0-9]{2}:?[0-9]{2})?"
DATE = rf"[0-9]{{4}}[-/][0-9]{{1,2}}([-/][0-9]{{1,2}}([T ]{_CLOCK})?)?"

_TRIM = r"trim(text, E' \t\r\n')"

# A number without a point is a number by either mark, and only such a one can be a code; so most cells
# are held against one pattern alone.
_GROUPS = """
CREATE OR REPLACE TEMP TABLE text_groups AS
SELECT text, n, first, kind, kind = 'number' OR kind = 'either' AS is_number,
    kind = 'comma' OR kind = 'either' AS is_comma,
    CASE WHEN kind IN ('number', 'either') THEN try_cast(trimmed AS DOUBLE)
         WHEN kind = 'comma' THEN try_cast(replace(trimmed, ',', '.') AS DOUBLE) END AS value
FROM (
    SELECT *, CASE
        WHEN text IS NULL OR trimmed IN {missing} THEN 'missing'
        WHEN trimmed IN {none} THEN 'none'
        WHEN regexp_full_match(trimmed, '{point}') THEN
            CASE WHEN contains(trimmed, '.') THEN 'number'
                 WHEN regexp_full_match(trimmed, '{code}') THEN 'code' ELSE 'either' END
        WHEN contains(trimmed, ',') AND regexp_full_match(trimmed, '{comma}') THEN 'comma'
        WHEN regexp_full_match(trimmed, '{date}') AND try_cast(
            CASE WHEN length(trimmed) <= 7 THEN replace(trimmed, '/', '-') || '-01'
                 ELSE replace(replace(trimmed, '/', '-'), ',', '.') END AS TIMESTAMP) IS NOT NULL THEN 'date'
        ELSE 'text' END AS kind
    FROM (SELECT *, {trim} AS trimmed
          FROM (SELECT {cell} AS text, count(*) AS n, min(__row__) AS first FROM one_column GROUP BY 1))
)
"""

_TEXT_CELLS = "CREATE OR REPLACE TEMP VIEW cell_groups AS SELECT *, text AS cell FROM text_groups"

# Numbers that the file itself holds as such are grouped as such; the few that are shown become text.
_NUMBER_GROUPS = """
CREATE OR REPLACE TEMP TABLE number_groups AS
SELECT {cell} AS cell, count(*) AS n, min(__row__) AS first FROM one_column GROUP BY 1
"""

_NUMBER_CELLS = """
CREATE OR REPLACE TEMP VIEW cell_groups AS
SELECT cell, cell::VARCHAR AS text, n, first, CASE WHEN cell IS NULL THEN 'missing' ELSE 'number' END AS kind,
    cell IS NOT NULL AS is_number, false AS is_comma, cell::DOUBLE AS value
FROM number_groups
"""

_NUMBER_SUMMARY = """
SELECT coalesce(sum(n) FILTER (cell IS NULL), 0)::BIGINT,
    coalesce(sum(n) FILTER (cell IS NOT NULL), 0)::BIGINT, count(cell)
FROM number_groups
"""

_SUMMARY = """
SELECT
    coalesce(sum(n) FILTER (kind = 'missing'), 0)::BIGINT AS missing,
    coalesce(sum(n) FILTER (kind = 'none'), 0)::BIGINT AS nones,
    coalesce(sum(n) FILTER (is_number), 0)::BIGINT AS numbers,
    coalesce(sum(n) FILTER (is_comma), 0)::BIGINT AS commas,
    coalesce(sum(n) FILTER (kind = 'code'), 0)::BIGINT AS codes,
    coalesce(sum(n) FILTER (kind = 'date'), 0)::BIGINT AS dates,
    coalesce(sum(n) FILTER (kind <> 'missing'), 0)::BIGINT AS present,
    count(*) FILTER (kind <> 'missing') AS levels,
    coalesce(sum(n * length(text)) FILTER (kind <> 'missing'), 0)::BIGINT AS characters,
    count(*) FILTER (CASE kind WHEN 'number' THEN true
        WHEN 'either' THEN text IS DISTINCT FROM try_cast(text AS BIGINT)::VARCHAR
        ELSE false END) = 0 AS integers,
    count(*) FILTER (is_number AND text IS DISTINCT FROM value::VARCHAR) = 0 AS doubles
FROM cell_groups
"""


@dataclass(frozen=True)
class Counts:
    """How many cells of a column are what (see the summary query).

    levels: distinct texts. integers, doubles: whether each number's text comes back exactly from that type.
    """

    missing: int
    nones: int
    numbers: int
    commas: int
    codes: int
    dates: int
    present: int
    levels: int
    characters: int
    integers: bool
    doubles: bool


@dataclass(frozen=True)
class Kind:
    """A column's type, how its cells are stored, its decimal mark, and the counts behind the decision."""

    type: ColumnType
    storage: str
    decimal: str
    counts: Counts

    @property
    def missing(self) -> int:
        """Missing cells; "None" is one of them only among numbers."""
        return self.counts.missing + (self.counts.nones if self.type is ColumnType.NUMERIC else 0)


def decide(
    connection: duckdb.DuckDBPyConnection, cells: Cells, index: int, storage: str, decimal: str | None
) -> Kind:
    """Group a column's cells into the table `cell_groups` and say what it is.

    storage: of the cell file.    decimal: the mark to insist on, or None to find it.
    """
    name = cells.names[index]
    counts = (_grouped_texts if storage == "VARCHAR" else _grouped_numbers)(connection, cells, index)
    if storage != "VARCHAR":
        kind = _integer_kind(connection, name, counts) if storage == "BIGINT" else ColumnType.NUMERIC
        return Kind(kind, storage, ".", counts)
    mark = _decimal_mark(counts, decimal)
    if mark is None:
        return Kind(_text_kind(connection, counts), "VARCHAR", _mark_in_text(counts), counts)
    stored = _number_storage(counts) if mark == "." else "VARCHAR"
    kind = _integer_kind(connection, name, counts) if stored == "BIGINT" else ColumnType.NUMERIC
    return Kind(kind, stored, mark, counts)


def _grouped_texts(connection: duckdb.DuckDBPyConnection, cells: Cells, index: int) -> Counts:
    _group(connection, cells, index, _groups_query(f"c{index}"), _TEXT_CELLS)
    return Counts(*_one(connection, _SUMMARY))


def _grouped_numbers(connection: duckdb.DuckDBPyConnection, cells: Cells, index: int) -> Counts:
    _group(connection, cells, index, _NUMBER_GROUPS.format(cell=f"c{index}"), _NUMBER_CELLS)
    missing, numbers, levels = _one(connection, _NUMBER_SUMMARY)
    return Counts(missing, 0, numbers, 0, 0, 0, numbers, levels, 0, integers=True, doubles=True)


def _group(connection: duckdb.DuckDBPyConnection, cells: Cells, index: int, query: str, view: str) -> None:
    for table in ("text_groups", "number_groups"):  # of the column before
        connection.execute(f"DROP TABLE IF EXISTS {table}")
    connection.register("one_column", cells.column(index))
    connection.execute(query)
    connection.unregister("one_column")
    connection.execute(view)


def _groups_query(cell: str) -> str:
    return _GROUPS.format(
        cell=cell,
        trim=_TRIM,
        missing=_sql_set(MISSING_TEXT),
        none=_sql_set(MISSING_NUMBER - MISSING_TEXT),
        code=CODE,
        point=NUMBER["."],
        comma=NUMBER[","],
        date=DATE,
    )


def _sql_set(texts: frozenset[str]) -> str:
    return "(" + ", ".join("'" + text.replace("'", "''") + "'" for text in sorted(texts)) + ")"


def _one(connection: duckdb.DuckDBPyConnection, query: str, parameters: list[Any] | None = None) -> Any:
    return connection.execute(query, parameters).fetchall()[0]


def _decimal_mark(counts: Counts, wanted: str | None) -> str | None:
    """The mark under which every cell that is there is a number; None when there is none, or no number."""
    present = counts.present - counts.nones
    for mark, numbers in ((".", counts.numbers), (",", counts.commas)):
        if wanted in {None, mark} and 0 < present == numbers:
            return mark
    return None


def _mark_in_text(counts: Counts) -> str:
    """The mark of the numbers in a column of text, for jobs that read it as numbers after all."""
    return "," if counts.commas > max(counts.numbers, 0.5 * counts.present) else "."


def _number_storage(counts: Counts) -> str:
    if counts.integers:
        return "BIGINT"
    return "DOUBLE" if counts.doubles else "VARCHAR"


def _integer_kind(connection: duckdb.DuckDBPyConnection, name: str, counts: Counts) -> ColumnType:
    """An id is named like one and counts up without gap or repetition."""
    if not _named_like_id(name) or counts.present < MIN_IDS or counts.missing + counts.nones:
        return ColumnType.NUMERIC
    low, high, repeated = _one(connection, "SELECT min(value), max(value), max(n) > 1 FROM cell_groups")
    consecutive = not repeated and high - low + 1 == counts.present
    return ColumnType.ID if consecutive else ColumnType.NUMERIC


def _named_like_id(name: str) -> bool:
    lowered = name.lower()
    return lowered in {"id", "index", "idx", "row", "rowid", "unnamed: 0"} or (
        name.endswith(("Id", "ID")) or lowered.endswith(("_id", " id", ".id", "_index"))
    )


def _text_kind(connection: duckdb.DuckDBPyConnection, counts: Counts) -> ColumnType:
    if counts.present and counts.dates == counts.present:
        return ColumnType.DATETIME
    if counts.levels == 2 and _is_boolean(connection):
        return ColumnType.BOOLEAN
    if counts.levels == counts.present >= MIN_IDS:
        return ColumnType.ID
    many = counts.levels > MANY_LEVELS and counts.levels > 0.5 * counts.present
    long = counts.characters > LONG_TEXT * counts.present
    return ColumnType.TEXT if many or long else ColumnType.CATEGORICAL


def _is_boolean(connection: duckdb.DuckDBPyConnection) -> bool:
    query = f"SELECT lower({_TRIM}) AS word FROM cell_groups WHERE kind <> 'missing' ORDER BY word"
    return tuple(row[0] for row in connection.execute(query).fetchall()) in BOOLEAN_PAIRS
