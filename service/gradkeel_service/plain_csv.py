"""The common form of delimited text, read quickly: UTF-8, commas, no quotes.

Whatever is not plainly of that form is left to `gradkeel.local`, which decides what a file means and words
what is wrong with it; here nothing is ever refused.
"""

import csv
import importlib
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradkeel.local.rows import Column

_UNUSUAL = (b'"', b"\0", b";", b"\t", b"|")
"""Bytes that quote, or that may be the delimiter."""

_BOM = b"\xef\xbb\xbf"


def plain_columns(
    body: bytes, columns: Sequence["Column"], known: frozenset[str] | None = None
) -> dict[str, Any] | None:
    """The model's columns: float64 [n] where every cell is a number or empty, lists of texts elsewhere.

    Columns that are not among the ``known`` ones go along as texts, to be warned of. None where the text is
    not of the common form.
    """
    if any(mark in body for mark in _UNUSUAL):
        return None
    try:
        names = next(csv.reader([body.removeprefix(_BOM).split(b"\n", 1)[0].decode()]), [])
    except (UnicodeDecodeError, csv.Error):
        return None
    wanted = [column for column in columns if column.name in names]
    if not wanted or len(set(names)) < len(names):
        return None
    unknown = [] if known is None else [name for name in names if name not in known]
    return _read(body, names, wanted, unknown)


def _read(body: bytes, names: list[str], wanted: list["Column"], unknown: list[str]) -> dict[str, Any] | None:
    arrow, arrow_csv = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.csv")
    try:
        table = arrow_csv.read_csv(
            io.BytesIO(body),
            read_options=arrow_csv.ReadOptions(use_threads=False, column_names=names, skip_rows=1),
            parse_options=arrow_csv.ParseOptions(quote_char=False),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, arrow.string()),
                include_columns=[*(column.name for column in wanted), *unknown],
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
    except arrow.ArrowException:
        return None
    read = {column.name: _cells(table.column(column.name), column) for column in wanted}
    return read | {name: table.column(name).to_pylist() for name in unknown}


def _cells(texts: Any, column: "Column") -> Any:
    arrow = importlib.import_module("pyarrow")
    if column.type == "numeric" and column.decimal == ".":
        try:
            return texts.cast(arrow.float64()).to_numpy()
        except arrow.ArrowException:
            pass  # a marker of a missing cell, blanks around a number, or no number at all
    return texts.to_pylist()
