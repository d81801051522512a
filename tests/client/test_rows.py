"""Rows to predict, from whatever holds them, and tables cut into pieces."""

from __future__ import annotations

import csv
import gzip
import io
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradkeel.errors import GradkeelError
from gradkeel.rows import bodies, plain
from gradkeel.tables import csv_pieces, file_kind, jsonl_pieces, open_table

WANTED = {"columns": {"rooms": [3, 4], "zone": ["B", None]}}
TABLES: dict[str, Any] = {
    "columns": {"rooms": [3, 4], "zone": ["B", None]},
    "arrays": {"rooms": np.array([3, 4]), "zone": ["B", None]},
    "pandas": pd.DataFrame({"rooms": [3, 4], "zone": ["B", None]}),
    "polars": pl.DataFrame({"rooms": [3, 4], "zone": ["B", None]}),
    "arrow": pa.table({"rooms": [3, 4], "zone": ["B", None]}),
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables_become_columns(kind: str) -> None:
    assert list(bodies(TABLES[kind])) == [WANTED]


def test_records_stay_records_and_one_record_may_stand_alone() -> None:
    assert list(bodies([{"rooms": 3}, {"zone": "B"}])) == [{"records": [{"rooms": 3}, {"zone": "B"}]}]
    assert list(bodies({"rooms": 3, "zone": "B"})) == [{"columns": {"rooms": [3], "zone": ["B"]}}]


def test_large_tables_become_several_bodies() -> None:
    sizes = [len(body["columns"]["a"]) for body in bodies({"a": list(range(25))}, at_once=10)]
    assert sizes == [10, 10, 5]
    assert [len(body["records"]) for body in bodies([{"a": 1}] * 25, at_once=10)] == [10, 10, 5]


@pytest.mark.parametrize(
    ("cell", "wanted"),
    [
        (np.float32(0.5), 0.5),
        (np.int64(7), 7),
        (np.bool_(True), True),
        (float("nan"), None),
        (float("inf"), None),
        (np.float64("nan"), None),
        (pd.NA, None),
        (pd.NaT, None),
        (pd.Timestamp("2024-01-02T03:04:05"), "2024-01-02T03:04:05"),
        (datetime(2024, 1, 2), "2024-01-02T00:00:00"),
        (date(2024, 1, 2), "2024-01-02"),
        (Decimal("1.5"), "1.5"),
        (True, True),
        ("x", "x"),
        (None, None),
    ],
)
def test_cells_become_json(cell: Any, wanted: Any) -> None:
    assert plain(cell) == wanted
    assert type(plain(cell)) is type(wanted)


def test_what_cannot_be_rows_is_refused() -> None:
    with pytest.raises(TypeError):
        list(bodies(3))
    with pytest.raises(TypeError):
        list(bodies([[1, 2]]))
    with pytest.raises(GradkeelError, match="differ in length"):
        list(bodies({"a": [1], "b": [1, 2]}))


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=8)


@given(rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=30), at_once=st.integers(1, 7))
def test_the_pieces_of_a_csv_hold_its_records(rows: list[tuple[str, str]], at_once: int) -> None:
    """Any quoting that the csv module writes: joined, the pieces' records are those of the file."""
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([("a", "b"), *rows])
    pieces = list(csv_pieces(io.BytesIO(text.getvalue().encode()), at_once))
    found: list[tuple[str, ...]] = []
    for piece in pieces:
        header, *records = csv.reader(io.StringIO(piece.decode(), newline=""))
        assert header == ["a", "b"]
        assert len(records) <= at_once
        found += [tuple(record) for record in records]
    assert found == rows


def test_files_are_told_by_their_content(tmp_path: Path) -> None:
    packed = tmp_path / "rows.csv.gz"
    packed.write_bytes(gzip.compress(b"a\n1\n"))
    assert file_kind(packed) == "csv"
    with open_table(packed) as file:
        assert list(csv_pieces(file)) == [b"a\n1\n"]
    lines = tmp_path / "rows.jsonl"
    lines.write_text('{"a": 1}\n\n{"a": 2}\n')
    assert file_kind(lines) == "jsonl"
    with open_table(lines) as file:
        assert list(jsonl_pieces(file)) == [[{"a": 1}, {"a": 2}]]
    with pytest.raises(GradkeelError, match="line 1"):
        list(jsonl_pieces(io.BytesIO(b"{'a': 1}\n")))
