"""What the text of one cell means. The worker reads files and the local predictor reads rows by these rules.

Standard library only.
"""

import math
import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo

MISSING_TEXT = frozenset({"", "NA", "N/A", "NaN", "nan", "null", "NULL", "?", "-"})
"""Markers of a missing cell in every column, blanks around them aside."""

MISSING_NUMBER = MISSING_TEXT | {"None"}
"""In numeric columns "None" is missing too; a text column keeps it as a category."""

TRUE_WORDS = frozenset({"true", "yes", "t", "y", "1"})
FALSE_WORDS = frozenset({"false", "no", "f", "n", "0"})

_NUMBER = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|inf|infinity)", re.ASCII | re.IGNORECASE)
_DATETIME = re.compile(
    r"(\d{4})[-/](\d{1,2})(?:[-/](\d{1,2})(?:[T ](\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?"
    r"\s*(Z|[+-]\d{2}(?::?\d{2})?)?)?)?",
    re.ASCII,
)


def is_missing(text: str, *, numeric: bool) -> bool:
    """Whether a cell's text is one of the default markers."""
    return text.strip() in (MISSING_NUMBER if numeric else MISSING_TEXT)


def parse_number(text: str, decimal: str = ".") -> float:
    """The number a cell holds. Raises ValueError for anything else; infinities are numbers, NaN is not."""
    plain = text.strip()
    if decimal != ".":
        plain = plain.replace(decimal, ".", 1)
    if not _NUMBER.fullmatch(plain):
        raise ValueError("not a number")
    return float(plain)


def parse_boolean(text: str) -> float:
    """1.0 or 0.0. Raises ValueError for other words."""
    word = text.strip().lower()
    if word in TRUE_WORDS:
        return 1.0
    if word in FALSE_WORDS:
        return 0.0
    raise ValueError("neither true nor false")


def parse_datetime(text: str) -> float:
    """Seconds since 1970-01-01 UTC of an ISO 8601 date or time; no zone means UTC. Raises ValueError."""
    match = _DATETIME.fullmatch(text.strip())
    if match is None:
        raise ValueError("not a date or time")
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    moment = datetime(
        int(year), int(month), int(day or 1), int(hour or 0), int(minute or 0), tzinfo=_zone(zone)
    ) + timedelta(seconds=int(second or 0))
    return moment.timestamp() + float(f"0.{fraction or 0}")


def _zone(text: str | None) -> tzinfo:
    if text is None or text == "Z":
        return UTC
    minutes = int(text[1:3]) * 60 + int(text[3:].replace(":", "") or 0)
    return timezone(timedelta(minutes=-minutes if text[0] == "-" else minutes))


def number_text(value: float, *, integer: bool) -> str:
    """A number as the file wrote it: ``integer`` columns without a point, others in shortest form."""
    if integer and math.isfinite(value) and value == math.floor(value):
        return str(int(value))
    return repr(float(value))
