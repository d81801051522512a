"""Reading what ingest wrote."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gradkeel_worker.data import DataError, prepare, read_table


@pytest.fixture
def stored(tmp_path):
    """A Parquet file of ingest's form, with a blank row left out, and its profile."""
    n = 40
    keys = [10**17 + i % 3 for i in range(n)]
    data = {
        "x": pa.array([None if i == 3 else i / 4 for i in range(n)], pa.float64()),
        "count": pa.array(range(n), pa.int64()),
        "long": pa.array(keys, pa.int64()),
        "price": pa.array([f"{i},5" for i in range(n)]),
        "note": pa.array([f"text {i}" for i in range(n)]),
        "y": pa.array([float(i % 7) for i in range(n)], pa.float64()),
        "__row__": pa.array([i + (i > 5) for i in range(n)], pa.int64()),
        "__line__": pa.array([i + 2 + (i > 5) for i in range(n)], pa.int64()),
    }
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table(data), path)
    types = {
        "x": "numeric",
        "count": "numeric",
        "long": "id",
        "price": "numeric",
        "note": "text",
        "y": "numeric",
    }
    columns = [
        {"name": name, "type": kind, "decimal": "," if name == "price" else "."}
        for name, kind in types.items()
    ]
    return path, {"rows": n, "columns": columns}


def test_values_rows_and_lines(stored, configure):
    path, profile = stored
    table = read_table(path, profile, configure())
    assert table.columns["price"].values[:3].tolist() == [0.5, 1.5, 2.5]
    assert np.isnan(table.columns["x"].values[3]) and table.columns["count"].integer
    assert table.rows[5:8].tolist() == [5, 7, 8] and table.lines[5:8].tolist() == [7, 9, 10]


def test_text_and_ids_are_not_read_but_noted(stored, configure):
    table = read_table(*stored, configure())
    assert set(table.columns) == {"x", "count", "price", "y"}
    prepared = prepare(table, configure())
    codes = {(f["code"], f["column"]) for f in prepared.findings}
    assert codes == {("id_left_out", "long"), ("text_left_out", "note")}


def test_integers_too_long_for_floats_stay_apart_as_categories(stored, configure):
    config = configure(columns={"types": {"long": "categorical"}})
    levels = set(read_table(*stored, config).columns["long"].values)
    assert levels == {str(10**17 + i) for i in range(3)}


def test_a_bad_declared_type_is_named_by_its_line(stored, configure):
    with pytest.raises(DataError) as caught:
        read_table(*stored, configure(columns={"types": {"note": "numeric"}}))
    assert (caught.value.errors[0].line, caught.value.errors[0].column) == (2, "note")


def test_excluded_columns_are_not_read(stored, configure):
    config = configure(columns={"exclude": ["count", "note"]})
    table = read_table(*stored, config)
    assert "count" not in table.columns
    assert {f["column"] for f in table.findings} == {"long"}


def test_include_of_a_text_column_is_no_error(stored, configure):
    config = configure(columns={"include": ["x", "note"]})
    prepared = prepare(read_table(*stored, config), config)
    assert {i.source for i in prepared.inputs} == {"x"}


def test_names_with_dots_are_not_taken_for_paths(tmp_path, configure):
    arrays = {"a.b": [1.0, 2.0], "a": [3.0, 4.0], "y": [5.0, 6.0]}
    pq.write_table(pa.table(arrays), tmp_path / "d.parquet")
    profile = {"columns": [{"name": name, "type": "numeric"} for name in arrays]}
    table = read_table(tmp_path / "d.parquet", profile, configure())
    assert {name: column.values.tolist() for name, column in table.columns.items()} == arrays


def test_equal_texts_are_held_once(tmp_path, configure):
    pq.write_table(pa.table({"z": ["red", "blue"] * 50, "y": [1.0] * 100}), tmp_path / "d.parquet")
    profile = {"columns": [{"name": "z", "type": "categorical"}, {"name": "y", "type": "numeric"}]}
    values = read_table(tmp_path / "d.parquet", profile, configure()).columns["z"].values
    assert len({id(cell) for cell in values}) == 2


def test_the_decimal_mark_of_the_file_holds_for_texts_that_turn_out_to_be_numbers(tmp_path, configure):
    texts = ["0,5", "1,2x", "-2,25"]
    pq.write_table(pa.table({"z": texts, "y": [1.0, 2.0, 3.0]}), tmp_path / "d.parquet")
    columns = [{"name": "z", "type": "text", "decimal": "."}, {"name": "y", "type": "numeric"}]
    profile = {"columns": columns, "format": {"decimal": ","}}
    config = configure(columns={"missing_values": {"z": ["1,2x"]}})
    column = read_table(tmp_path / "d.parquet", profile, config).columns["z"]
    assert column.type == "numeric"
    assert np.array_equal(column.values, [0.5, np.nan, -2.25], equal_nan=True)
