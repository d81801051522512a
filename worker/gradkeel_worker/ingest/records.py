"""Where each record of a delimited text begins, and whether every record has as many fields as the first.

The parser that reads the cells says nothing of physical lines, so the structure is read here first, in numpy,
block by block: 122 MB take 0.3 s. Text that this quick look cannot vouch for (stray quotes, lone carriage
returns, lines of blanks) is rewritten by the csv module, record by record, and looked at again.
"""

import contextlib
import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from gradkeel.contract.errors import FieldError
from gradkeel_worker.ingest.dialect import Dialect
from gradkeel_worker.ingest.errors import IngestError, Rejected, rejected
from gradkeel_worker.ingest.options import Limits
from gradkeel_worker.ingest.source import BLOCK

QUOTE, NEWLINE, RETURN = 34, 10, 13
SHOWN_FAULTS = 20
RECORDS_AT_ONCE = 65_536

Ints = NDArray[np.int64]


class Irregular(IngestError):
    """The quick look cannot vouch for this text; the csv module has to read it."""


@dataclass
class Lines:
    """Physical line (1-based) of each record (0-based), as runs in which both count up together."""

    count: int = 0
    blank: int = 0
    multiline: bool = False
    _starts: list[Ints] = field(default_factory=list)
    _offsets: list[Ints] = field(default_factory=list)
    _last_offset: int | None = None

    def append(self, lines: Ints) -> None:
        """Add the lines of the records that follow."""
        offsets = lines - np.arange(self.count, self.count + len(lines))
        changes = np.flatnonzero(
            np.diff(offsets, prepend=-1 if self._last_offset is None else self._last_offset)
        )
        self._starts.append(changes + self.count)
        self._offsets.append(offsets[changes])
        if len(lines):
            self._last_offset = int(offsets[-1])
        self.count += len(lines)

    def of(self, first: int, count: int) -> Ints:
        """The lines of records `first` to `first + count`."""
        if len(self._starts) > 1:
            self._starts, self._offsets = [np.concatenate(self._starts)], [np.concatenate(self._offsets)]
        starts, offsets = self._starts[0], self._offsets[0]
        records = np.arange(first, first + count)
        lines: Ints = records + offsets[np.searchsorted(starts, records, side="right") - 1]
        return lines


@dataclass
class Structure:
    """What the look at a text found: the records' lines, and the records that do not fit."""

    width: int
    header: bool
    lines: Lines = field(default_factory=Lines)
    faults: list[FieldError] = field(default_factory=list)
    misfits: int = 0

    def add(self, lines: Ints, widths: Ints) -> None:
        """Records that are not blank, with their field counts."""
        odd = np.flatnonzero(widths != self.width)
        for place in odd[: max(0, SHOWN_FAULTS - len(self.faults))]:
            self._misfit(self.lines.count + int(place), int(lines[place]), int(widths[place]))
        self.misfits += len(odd)
        self.lines.append(lines)

    def _misfit(self, record: int, line: int, width: int) -> None:
        detail = f"line {line} has {width} fields where {self.width} are expected"
        row = record - self.header
        self.faults.append(FieldError(None, "ragged_row", detail, row=row if row >= 0 else None, line=line))

    def refuse_misfits(self) -> None:
        """Raises Rejected when a record has another number of fields than the first."""
        if self.misfits:
            others = f" (and {self.misfits - 1} more)" if self.misfits > 1 else ""
            raise Rejected(f"{self.faults[0].detail}{others}", self.faults)


def read_structure(path: Path, work: Path, dialect: Dialect, limits: Limits) -> tuple[Path, Structure]:
    """The structure of a UTF-8 text, and the file to parse: the same, or a rewritten one with the same cells.

    Raises:
        Rejected: ragged records, quotes that do not close, a record that is too long.
    """
    try:
        structure = _look(path, dialect, limits)
    except Irregular:
        source, path = path, work / "rewritten.csv"
        structure = _rewrite(source, path, dialect, limits)
    structure.refuse_misfits()
    return path, structure


def _look(path: Path, dialect: Dialect, limits: Limits) -> Structure:
    structure = Structure(len(dialect.names), dialect.header)
    line, trailing_blanks = 1, 0
    for chunk in _whole_records(path, limits):
        found = _Chunk(chunk, ord(dialect.delimiter), structure.width)
        if found.longest > limits.record_bytes:
            raise _too_long(line + int(found.lines_before[found.longest_at]), limits.record_bytes)
        lines, blank = line + found.lines_before, found.blank
        structure.add(lines[~blank], found.widths[~blank])
        structure.lines.multiline |= found.multiline
        inner, trailing_blanks = _count_blanks(blank, trailing_blanks)
        structure.lines.blank += inner
        line += found.newlines
    return structure


def _count_blanks(blank: NDArray[np.bool_], pending: int) -> tuple[int, int]:
    """Blank lines that a record follows, and those at the end, where they mean nothing yet."""
    records = np.flatnonzero(~blank)
    if not len(records):
        return 0, pending + len(blank)
    last = int(records[-1])
    return pending + int(blank[:last].sum()), len(blank) - 1 - last


def _whole_records(path: Path, limits: Limits) -> Iterator[bytes]:
    """The file in pieces that end where a record ends."""
    rest, line = b"", 1
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            data = rest + block
            end = _last_record_end(data)
            rest = data[end:]
            line += data.count(b"\n", 0, end)
            _refuse_long(rest, line, limits)
            if end:
                yield data[:end]
    if rest:
        yield rest + b"\n"


def _last_record_end(data: bytes) -> int:
    """Just behind the last line end that lies outside of quotes; 0 when there is none."""
    if b'"' not in data:
        return data.rfind(b"\n") + 1
    array = np.frombuffer(data, np.uint8)
    newlines = np.flatnonzero(array == NEWLINE)
    outside = newlines[np.searchsorted(np.flatnonzero(array == QUOTE), newlines) % 2 == 0]
    return int(outside[-1]) + 1 if len(outside) else 0


def _refuse_long(rest: bytes, line: int, limits: Limits) -> None:
    if len(rest) > max(limits.record_bytes, BLOCK):
        if b"\n" in rest or b"\r" in rest:
            raise Irregular("a quote that seems to stay open")
        raise _too_long(line, limits.record_bytes)


def _too_long(line: int, limit: int) -> Rejected:
    detail = f"the record that begins in line {line} is longer than {limit} bytes; is a quote left open?"
    return rejected("record_too_long", detail, line=line)


class _Chunk:
    """One piece of text: for each of its lines' records the field count, blankness and line."""

    def __init__(self, data: bytes, delimiter: int, width: int) -> None:
        self.bytes = np.frombuffer(data, np.uint8)
        newlines = np.flatnonzero(self.bytes == NEWLINE)
        delimiters = np.flatnonzero(self.bytes == delimiter)
        quotes = np.flatnonzero(self.bytes == QUOTE) if b'"' in data else newlines[:0]
        if b"\r" in data:
            self._check_returns(quotes)
        ends = newlines
        if len(quotes):
            self._check_quotes(quotes, delimiter)
            ends = newlines[np.searchsorted(quotes, newlines) % 2 == 0]
            delimiters = delimiters[np.searchsorted(quotes, delimiters) % 2 == 0]
        starts = np.concatenate(([0], ends[:-1] + 1))
        counts = np.searchsorted(delimiters, ends) - np.searchsorted(delimiters, starts)
        self.newlines = len(newlines)
        self.multiline = len(ends) < len(newlines)
        self.widths: Ints = counts + 1
        self.lines_before: Ints = np.searchsorted(newlines, starts)
        self.blank = self._blank(starts, ends)
        self.longest_at = int((ends - starts).argmax())
        self.longest = int(ends[self.longest_at] - starts[self.longest_at])
        self._check_blanks(starts, ends, width)

    def _check_returns(self, quotes: Ints) -> None:
        returns = np.flatnonzero(self.bytes == RETURN)
        outside = returns[np.searchsorted(quotes, returns) % 2 == 0]
        if len(outside) and (
            outside[-1] + 1 >= len(self.bytes) or (self.bytes[outside + 1] != NEWLINE).any()
        ):
            raise Irregular("a carriage return that no newline follows")

    def _check_quotes(self, quotes: Ints, delimiter: int) -> None:
        """An opening quote stands at the start of a field, a closing one at its end; doubled ones inside."""
        if len(quotes) % 2:
            raise Irregular("a quote that does not close")
        before = np.where(quotes[0::2] > 0, self.bytes[quotes[0::2] - 1], NEWLINE)
        after = self.bytes[np.minimum(quotes[1::2] + 1, len(self.bytes) - 1)]
        if not np.isin(before, (delimiter, NEWLINE, QUOTE)).all():
            raise Irregular("a quote inside an unquoted field")
        if not np.isin(after, (delimiter, NEWLINE, RETURN, QUOTE)).all():
            raise Irregular("text behind a closing quote")

    def _blank(self, starts: Ints, ends: Ints) -> NDArray[np.bool_]:
        lengths = ends - starts
        lone_return = (lengths == 1) & (self.bytes[starts] == RETURN)
        blank: NDArray[np.bool_] = (lengths == 0) | lone_return
        return blank

    def _check_blanks(self, starts: Ints, ends: Ints, width: int) -> None:
        """Lines of blanks alone are no ragged records; the csv module tells them."""
        narrow = np.flatnonzero((self.widths == 1) & ~self.blank) if width > 1 else ends[:0]
        for place in narrow[:SHOWN_FAULTS]:
            if not self.bytes[starts[place] : ends[place]].tobytes().strip():
                raise Irregular("a line of blanks")


def _rewrite(path: Path, target: Path, dialect: Dialect, limits: Limits) -> Structure:
    """The same cells in the plainest form, one record a line where no cell holds a line end."""
    csv.field_size_limit(limits.record_bytes)
    try:
        return _rewritten(path, target, dialect, limits, {"strict": True})
    except csv.Error as fault:
        return _rewritten_with_escapes(path, target, dialect, limits, fault)


def _rewritten_with_escapes(
    path: Path, target: Path, dialect: Dialect, limits: Limits, fault: csv.Error
) -> Structure:
    form = {"strict": True, "doublequote": False, "escapechar": "\\"}
    try:
        if not _has_escaped_quotes(path):
            raise fault
        return _rewritten(path, target, dialect, limits, form)
    except csv.Error:
        line = _fault_line(path, dialect, limits)
        if "field limit" in str(fault):
            raise _too_long(line, limits.record_bytes) from fault
        detail = f"the record that begins in line {line} is not well quoted: {fault}"
        raise rejected("bad_quoting", detail, line=line) from fault


def _has_escaped_quotes(path: Path) -> bool:
    with path.open("rb") as file:
        return any(b'\\"' in line for line in file)


def _rewritten(path: Path, target: Path, dialect: Dialect, limits: Limits, form: dict[str, Any]) -> Structure:
    structure = Structure(len(dialect.names), dialect.header)
    with (
        path.open(encoding="utf-8", newline="") as source,
        target.open("w", encoding="utf-8", newline="") as out,
    ):
        writer = csv.writer(out, delimiter=dialect.delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)
        reader = csv.reader(_bounded_lines(source, limits), delimiter=dialect.delimiter, **form)
        line, blanks, records = 1, 0, _Records(structure)
        for record in reader:
            if len(record) <= 1 and not "".join(record).strip():
                blanks += 1
            else:
                structure.lines.blank, blanks = structure.lines.blank + blanks, 0
                records.add(line, len(record))
                writer.writerow(record)
            structure.lines.multiline |= reader.line_num > line
            line = reader.line_num + 1
        records.flush()
    return structure


class _Records:
    """Records on their way into a structure, many at a time: one by one, each costs some arrays."""

    def __init__(self, structure: Structure) -> None:
        self._structure = structure
        self._lines: list[int] = []
        self._widths: list[int] = []

    def add(self, line: int, width: int) -> None:
        self._lines.append(line)
        self._widths.append(width)
        if len(self._lines) == RECORDS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        self._structure.add(np.array(self._lines, np.int64), np.array(self._widths, np.int64))
        self._lines, self._widths = [], []


def _bounded_lines(source: TextIO, limits: Limits) -> Iterator[str]:
    number = 1
    while line := source.readline(limits.record_bytes):
        if len(line) == limits.record_bytes:
            raise _too_long(number, limits.record_bytes)
        yield line
        number += 1


def _fault_line(path: Path, dialect: Dialect, limits: Limits) -> int:
    """The line in which the first record begins that the strict reader refuses."""
    line = 1
    with path.open(encoding="utf-8", newline="") as source, contextlib.suppress(csv.Error):
        reader = csv.reader(_bounded_lines(source, limits), delimiter=dialect.delimiter, strict=True)
        for _ in reader:
            line = reader.line_num + 1
    return line
