"""Tables in memory as Arrow: what is kept, and what is refused by its name."""

from __future__ import annotations

import datetime as dt
import io
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gradkeel.frames import arrow_table, parquet_bytes
from gradkeel.rows import columns_of

MIXED = pd.DataFrame(
    {
        "whole": pd.array([1, None], dtype="Int64"),
        "zone": pd.Categorical(["b", "a"]),
        "flag": [True, False],
        "when": pd.to_datetime(["2024-01-01T00:00", None]).tz_localize("Europe/Berlin"),
        "text": pd.array(["x", None], dtype="string"),
    },
    index=[7, 8],
)


def test_pandas_types_are_kept_and_the_index_is_left_out() -> None:
    table = arrow_table(MIXED)
    assert table.column_names == list(MIXED.columns)
    assert pa.types.is_int64(table.schema.field("whole").type)
    assert pa.types.is_dictionary(table.schema.field("zone").type)
    assert pa.types.is_boolean(table.schema.field("flag").type)
    assert table.schema.field("when").type.tz == "Europe/Berlin"
    assert table.column("text").to_pylist() == ["x", None]
    assert table.column("whole").null_count == table.column("when").null_count == 1


def test_polars_types_are_kept() -> None:
    when = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    frame = pl.DataFrame({"zone": ["b", None], "whole": [1, None], "when": [when, None]})
    frame = frame.with_columns(pl.col("zone").cast(pl.Categorical))
    table = arrow_table(frame)
    assert pa.types.is_dictionary(table.schema.field("zone").type)
    assert table.schema.field("when").type.tz == "UTC"
    assert table.to_pydict() == {"zone": ["b", None], "whole": [1, None], "when": [when, None]}


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        (np.array([[1.0, 2.0], [3.0, 4.0]]), ["a", "b"]),
        (np.array([(1.0, 2.0), (3.0, 4.0)], dtype=[("a", float), ("b", float)]), None),
        ({"a": np.array([1.0, 3.0]), "b": [2.0, 4.0]}, None),
        (pa.record_batch({"a": [1.0, 3.0], "b": [2.0, 4.0]}), None),
    ],
    ids=["array", "records", "dict", "batch"],
)
def test_arrays_and_dicts_are_tables_too(table: Any, columns: Any) -> None:
    assert arrow_table(table, columns).to_pydict() == {"a": [1.0, 3.0], "b": [2.0, 4.0]}


def test_the_same_table_gives_the_same_bytes() -> None:
    again = MIXED.reset_index(drop=True)
    assert parquet_bytes(MIXED) == parquet_bytes(again)
    assert pq.read_table(io.BytesIO(parquet_bytes(MIXED))).num_rows == 2


def test_nan_is_missing() -> None:
    assert arrow_table({"a": np.array([1.0, np.nan])}).column("a").null_count == 1


TWICE = pd.DataFrame([[1, 2]], columns=["a", "a"])
LEVELS = pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")]))


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (LEVELS, "MultiIndex"),
        (pd.DataFrame({"a": [[1], [2]]}), "'a' is of type list.*plain column of each part"),
        (pd.DataFrame({"a": [{"b": 1}]}), "'a' is of type struct"),
        (pd.DataFrame({"a": [1, "x"]}), r"'a' cannot be uploaded: it mixes int \(row 0\), str \(row 1\)"),
        (pd.DataFrame({"a": [object()]}), "'a' cannot be uploaded"),
        (pd.DataFrame({"a": pd.to_timedelta([1], unit="s")}), "total_seconds"),
        (pd.DataFrame({"a": pd.period_range("2024", periods=2, freq="M")}), "'a' is of type extension"),
        (pl.DataFrame({"a": [[1]]}), "'a' is of type"),
        (pl.DataFrame({"a": [object()]}), "Python objects"),
        (pl.LazyFrame({"a": [1]}), "collect"),
        (pa.table({"a": [b"x"]}), "decode it to text"),
        (pa.table({"a": [dt.time(1)]}), "seconds or text"),
        ({"a": np.array([b"x"])}, "holds bytes"),
        ({"a": np.array([1j])}, "'a' cannot be uploaded"),
        ({"a": 1}, "list of cells"),
        (np.zeros((2, 2)), "columns="),
        (np.zeros(2), "two dimensions"),
        (pd.Series([1]), "to_frame"),
        (3.0, "cannot upload float"),
    ],
)
def test_what_no_column_can_hold_is_refused_by_name(table: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        arrow_table(table)


@pytest.mark.parametrize(
    ("table", "columns", "said"),
    [
        (TWICE, None, "'a' stands 2 times"),
        (pa.Table.from_arrays([pa.array([1])] * 2, ["a", "a"]), None, "'a' stands 2 times"),
        (pd.DataFrame([[1, 2]], columns=[1, "1"]), None, "'1' stands 2 times"),
        (pd.DataFrame(index=[1]), None, "no columns"),
        ({"a": [1], "b": [1, 2]}, None, "differ in length"),
        (np.zeros((2, 2)), ["a"], "1 names are given for 2 columns"),
    ],
)
def test_names_that_cannot_be_told_apart_are_refused(table: Any, columns: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        arrow_table(table, columns)


def test_names_are_for_arrays() -> None:
    with pytest.raises(TypeError, match="names of its own"):
        arrow_table(MIXED, ["a"])


def test_rows_to_predict_are_held_to_the_same_rules() -> None:
    assert columns_of(MIXED.drop(columns="when"))["zone"] == ["b", "a"]
    assert columns_of(pl.DataFrame({"a": [Decimal("1.5")]})) == {"a": [Decimal("1.5")]}
    assert columns_of(np.array([(1.0, 2.0)], dtype=[("a", float), ("b", float)])) == {"a": [1.0], "b": [2.0]}
    assert columns_of(pa.record_batch({"a": [1]})) == {"a": [1]}
    with pytest.raises(ValueError, match="twice"):
        columns_of(TWICE)
    with pytest.raises(TypeError, match="MultiIndex"):
        columns_of(LEVELS)
