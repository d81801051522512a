"""The quick reader of CSV gives what the careful one gives, or leaves the text to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradkeel.local.csv_rows import rows_from_csv
from gradkeel.local.errors import LocalModelError
from gradkeel.local.rows import IMPUTE, Column, Reading, feed
from gradkeel_service.plain_csv import plain_columns


def column(name: str, kind: str, **more: Any) -> Column:
    entry = {
        "name": name,
        "type": kind,
        "required": False,
        "input": name,
        "missing_numbers": [],
        "missing_texts": [],
        "integer": False,
        "decimal": ".",
        "levels": None,
        "above": None,
    }
    return Column.of(entry | more)


COLUMNS = (
    column("a", "numeric", missing_numbers=[-999.0]),
    column("b", "numeric", missing_texts=["x"]),
    column("c", "categorical", levels=["", "u", "1", "NA", "-999"]),
    column("d", "datetime"),
)
KNOWN = frozenset({"a", "b", "c", "d"})
MANIFEST = {"columns": [{"name": entry.name} for entry in COLUMNS], "dataset": {"columns": sorted(KNOWN)}}

ODD = (
    "1 -1.5 +2 .5 5. 1e5 1E400 NA nan NaN inf -999 None x u 1_0 0x10 00123 true é Infinity "
    "2024-01-05 2024-01-05T10:00:00Z"
)
CELLS = st.one_of(
    st.sampled_from(["", " ", " 7", "7 ", *ODD.split()]),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(10**20), 10**20).map(str),
)
TABLES = st.lists(st.tuples(CELLS, CELLS, CELLS, CELLS, CELLS), min_size=1, max_size=6)


def fed(rows: Any) -> tuple[Any, list[str]]:
    """The arrays that a model would take, and its warnings; or what it refuses."""
    reading = Reading(IMPUTE, "median", known=KNOWN)
    try:
        arrays, count = feed(COLUMNS, rows, reading)
    except LocalModelError as error:
        return str(error), []
    return ({name: array.tolist() for name, array in arrays.items()}, count), reading.warnings


@given(rows=TABLES, newline=st.sampled_from(["\n", "\r\n"]), ending=st.booleans(), marked=st.booleans())
def test_what_is_read_quickly_is_read_the_same(
    rows: list[tuple[str, ...]], newline: str, ending: bool, marked: bool
) -> None:
    lines = ["a,other,b,c,d", *(",".join(row) for row in rows)]
    body = (newline.join(lines) + newline * ending).encode("utf-8-sig" if marked else "utf-8")
    quick = plain_columns(body, COLUMNS, KNOWN)
    assert quick is not None
    np.testing.assert_equal(fed(quick), fed(rows_from_csv(body, MANIFEST)))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n\n",
        b"q,r\n1,2\n",
        b"a,a\n1,2\n",
        b'a,b\n"1",2\n',
        b"a;b\n1;2\n",
        b"a\tb\n1\t2\n",
        b"a,b\n1,2,3\n",
        b"a,b\n1\n",
        b"a,b\n1,\xff\n",
        b"a,b\n1,\x00\n",
        b"a,b\r1,2\r",
        "a,b\n1,2\n".encode("utf-16"),
    ],
)
def test_anything_unusual_is_left_to_the_careful_reader(body: bytes) -> None:
    assert plain_columns(body, COLUMNS) is None
