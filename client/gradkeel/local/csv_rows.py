"""Rows of delimited text, read by the model's own columns: nothing is guessed but the delimiter."""

import codecs
import csv
import io
from collections.abc import Mapping
from typing import Any

from gradkeel.local.errors import LocalModelError
from gradkeel.local.rows import known_columns

_DELIMITERS = (",", ";", "\t", "|")
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks and what they begin; that of UTF-16 begins that of UTF-32."""
_UNDEFINED_IN_CP1252 = frozenset(b"\x81\x8d\x8f\x90\x9d")


def rows_from_csv(text: str | bytes, manifest: Mapping[str, Any]) -> dict[str, list[str]]:
    """The model's columns as texts, for ``Model.predict``.

    Other columns of the training table are passed over; those that it did not have go along, so that
    ``predict`` warns of them. A header without any of the model's columns gives no rows.

    The first line must name the columns; the delimiter is the one under which it names most of the model's.
    Raises LocalModelError, with the line, for text that is no table.
    """
    content = _decoded(text)
    wanted = read_columns(manifest)
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=_delimiter(content, wanted), strict=True)
    try:
        header = next(reader, [])
        records = _records(reader, header)
    except csv.Error as error:
        raise LocalModelError(f"line {reader.line_num}: {error}") from error
    columns = list(zip(*records, strict=True)) if records else [()] * len(header)
    known = known_columns(manifest)
    if not set(wanted).intersection(header):
        return {}
    taken = [name in wanted or (known is not None and name not in known) for name in header]
    return {name: list(columns[i]) for i, name in enumerate(header) if taken[i]}


def read_columns(manifest: Mapping[str, Any]) -> list[str]:
    """Names of the columns that predicting reads: the features, and what orders and parts series."""
    windows = manifest.get("windows") or {}
    roles = [windows[role]["name"] for role in ("order", "group") if windows.get(role)]
    return [*(column["name"] for column in manifest["columns"]), *roles]


def _decoded(text: str | bytes) -> str:
    """The text. Bytes are read as uploads are: by a byte order mark, as UTF-8, or as one byte a letter."""
    if isinstance(text, str):
        return text.removeprefix("\ufeff")
    marked = next((encoding for mark, encoding in _MARKS if text.startswith(mark)), None)
    if marked is not None:
        return _as(marked, text)
    if b"\0" in text:
        raise LocalModelError(
            "the text holds a zero byte: CSV in UTF-8, Windows-1252 or ISO 8859-1 is read, and UTF-16 or "
            "UTF-32 with a byte order mark"
        )
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError:
        return text.decode(_one_byte_encoding(text))


def _as(encoding: str, text: bytes) -> str:
    try:
        return text.decode(encoding)
    except UnicodeDecodeError as error:
        raise LocalModelError(
            f"the text is no {encoding.upper()}, as its first bytes say: {error}"
        ) from error


def _one_byte_encoding(text: bytes) -> str:
    controls = {byte for byte in text if 0x80 <= byte < 0xA0}
    return "cp1252" if controls and controls.isdisjoint(_UNDEFINED_IN_CP1252) else "latin-1"


def _delimiter(content: str, wanted: list[str]) -> str:
    head = content.split("\n", 1)[0]
    return max(_DELIMITERS, key=lambda mark: len(set(wanted).intersection(_split(head, mark))))


def _split(head: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([head], delimiter=delimiter), [])
    except csv.Error:
        return []


def _records(reader: Any, header: list[str]) -> list[list[str]]:
    if len(set(header)) != len(header):
        raise LocalModelError("line 1: a column is named twice")
    records = []
    for record in reader:
        if not record:
            continue
        if len(record) != len(header):
            detail = f"{len(record)} cells where the header names {len(header)} columns"
            raise LocalModelError(f"line {reader.line_num}: {detail}")
        records.append(record)
    return records
