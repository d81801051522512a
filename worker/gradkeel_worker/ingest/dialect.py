"""How a delimited text is written: delimiter, header, column names. Decided on the first records."""

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from gradkeel.contract.errors import FieldError
from gradkeel_worker.ingest.errors import Rejected, rejected, shown
from gradkeel_worker.ingest.options import Limits, Options

CANDIDATES = (",", ";", "\t", "|")
SAMPLE_RECORDS = 500
RESERVED = frozenset({"__row__", "__line__"})

NUMBER = re.compile(r"[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?")
DATE = re.compile(r"\d{4}[-/]\d{1,2}([-/]\d{1,2}.*)?")
BOOLEANS = frozenset({"true", "false", "yes", "no"})
BLANK = frozenset({"", "na", "n/a", "nan", "null", "none", "?", "-"})


@dataclass(frozen=True)
class Dialect:
    """delimiter: one character. header: whether the first record names the columns. names: one a column."""

    delimiter: str
    header: bool
    names: tuple[str, ...]


def find_dialect(path: Path, options: Options, limits: Limits) -> Dialect:
    """Delimiter, header and names of a UTF-8 text.

    Raises:
        Rejected: no record, too many columns, names that stand twice, nothing below the header.
    """
    text, whole = _head(path, 2 * limits.record_bytes)
    delimiter = options.delimiter or _delimiter(text, whole)
    records = _records(text, whole, delimiter)
    if not records:
        raise rejected("empty", "the file holds no record, only blank lines")
    _refuse_too_many(len(records[0]), limits)
    header = _has_header(records) if options.header is None else options.header
    if header and whole and len(records) == 1:
        raise rejected("header_only", "the file holds a header and no rows", line=1)
    first = records[0] if header else [""] * len(records[0])
    return Dialect(delimiter, header, column_names(first))


def _refuse_too_many(columns: int, limits: Limits) -> None:
    if columns > limits.columns:
        detail = f"the file has {columns} columns; at most {limits.columns} are read"
        raise rejected("too_many_columns", detail, line=1)


def _head(path: Path, characters: int) -> tuple[str, bool]:
    """The begin of the text, and whether that is all of it. It holds at least one record."""
    with path.open(encoding="utf-8", newline="", errors="replace") as file:
        text = file.read(characters)
    return text, len(text) < characters


def _records(text: str, whole: bool, delimiter: str) -> list[list[str]]:
    """The first records that are not blank; a last one that is cut off is left out when others are there."""
    csv.field_size_limit(len(text) + 1)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    records = list(islice((record for record in reader if "".join(record).strip()), SAMPLE_RECORDS))
    return records if whole or len(records) in {1, 2, SAMPLE_RECORDS} else records[:-1]


def _delimiter(text: str, whole: bool) -> str:
    scored = {mark: _score(_records(text, whole, mark)) for mark in CANDIDATES}
    best = max(scored, key=lambda mark: scored[mark])
    return best if scored[best] > (0, 0, 0) else ","


def _score(records: Sequence[Sequence[str]]) -> tuple[float, float, int]:
    """How regular the records are under a delimiter, then how much of it is numbers or dates, then width."""
    if not records:
        return (0, 0, 0)
    width, alike = Counter(len(record) for record in records).most_common(1)[0]
    if width == 1:
        return (0, 0, 0)
    cells = [cell for record in records[1:] or records for cell in record]
    typed = sum(_kind(cell) != "text" for cell in cells) / max(len(cells), 1)
    return (round(alike / len(records), 1), typed, width)


def _kind(cell: str) -> str:
    text = cell.strip()
    if text.lower() in BLANK:
        return "blank"
    if NUMBER.fullmatch(text):
        return "number"
    if DATE.fullmatch(text):
        return "date"
    return "boolean" if text.lower() in BOOLEANS else "text"


def _has_header(records: Sequence[Sequence[str]]) -> bool:
    """Whether the first record names columns: its cells are of another kind than what stands below them."""
    first, rest = records[0], records[1:]
    if not rest:
        return all(_kind(cell) in {"text", "blank"} for cell in first)
    votes = [_vote(cell, _below(rest, index)) for index, cell in enumerate(first)]
    if any(votes):
        return sum(votes) > 0
    recurring = any(cell and cell in _below(rest, index) for index, cell in enumerate(first))
    return not recurring


def _below(rest: Sequence[Sequence[str]], index: int) -> list[str]:
    return [record[index] for record in rest if index < len(record)]


def _vote(cell: str, below: Sequence[str]) -> int:
    """1: this cell is a name above data of another kind; -1: it is data itself; 0: cannot be told."""
    kinds = Counter(kind for kind in map(_kind, below) if kind != "blank")
    if not kinds:
        return 0
    kind, count = kinds.most_common(1)[0]
    if kind == "text" or count < 0.8 * kinds.total():
        return -1 if _kind(cell) in {"number", "date"} else 0
    return {kind: -1, "text": 1}.get(_kind(cell), 0)


def column_names(raw: Sequence[str]) -> tuple[str, ...]:
    """The names without surrounding blanks; an unnamed column becomes `column_N`, N counted from 1.

    Raises:
        Rejected: a name stands twice, or is one of the two that the table uses itself.
    """
    stripped = [name.strip() for name in raw]
    taken = {name for name in stripped if name}
    _refuse_repeated(stripped)
    for name in sorted(taken & RESERVED):
        raise rejected("reserved_name", f"the column name {name} is reserved; rename it", column=name, line=1)
    return tuple(name or _unnamed(position, taken) for position, name in enumerate(stripped, 1))


def _refuse_repeated(names: Sequence[str]) -> None:
    repeated = [name for name, count in Counter(names).items() if name and count > 1]
    if repeated:
        places = [
            FieldError(
                None, "duplicate_column", f"{shown(name)} names {names.count(name)} columns", name, line=1
            )
            for name in repeated
        ]
        listed = ", ".join(shown(name) for name in repeated[:5])
        raise Rejected(f"column names stand more than once: {listed}", places)


def _unnamed(position: int, taken: set[str]) -> str:
    name = f"column_{position}"
    while name in taken:
        name += "_"
    return name
