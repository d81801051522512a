"""Typing at job time: types, markers, and what is said of a cell that does not fit."""

import numpy as np
import pytest

from gradkeel_worker.data import DataError, Table
from gradkeel_worker.data.columns import apply_types


def _table(**columns):
    types = {name: "categorical" for name in columns}
    return Table.from_arrays({k: np.array(v, dtype=object) for k, v in columns.items()}, types)


def test_a_declared_number_that_is_text_is_named_by_line_and_cell(configure):
    table = _table(x=["1", "2", "many", "4"], y=["1", "2", "3", "4"])
    placed = Table(table.columns, table.rows, table.rows + 2)
    with pytest.raises(DataError) as caught:
        apply_types(placed, configure(columns={"types": {"x": "numeric"}}))
    (fault,) = caught.value.errors
    assert (fault.column, fault.row, fault.line, fault.pointer) == ("x", 2, 4, "/columns/types/x")
    assert "'many'" in fault.detail


def test_a_name_that_was_mistyped_is_asked_about():
    with pytest.raises(DataError, match="did you mean 'Price'"):
        _table(Price=["1"], x=["2"]).need("price", "/target")


def test_many_bad_cells_are_counted_not_listed(configure):
    table = _table(x=["a"] * 40, y=["1"] * 40)
    with pytest.raises(DataError) as caught:
        apply_types(table, configure(columns={"types": {"x": "numeric"}}))
    assert len(caught.value.errors) == 6
    assert "35 more cells" in caught.value.errors[-1].detail


def test_star_types_every_column(configure):
    typed = apply_types(_table(x=["1", "2"], y=["3", "4"]), configure(columns={"types": {"*": "numeric"}}))
    assert {c.type for c in typed.columns.values()} == {"numeric"}
    assert typed.columns["x"].values.tolist() == [1.0, 2.0]


def test_a_named_type_wins_over_star(configure):
    config = configure(columns={"types": {"*": "numeric", "x": "categorical"}})
    typed = apply_types(_table(x=["01", "2"], y=["3", "4"]), config)
    assert typed.columns["x"].values.tolist() == ["01", "2"]


@pytest.mark.parametrize("marker", [-200, -200.0, "-200", "-2e2"])
def test_numbers_match_markers_by_value(configure, marker):
    table = Table.from_arrays({"co": np.array([1.5, -200.0, 3.0]), "y": np.arange(3.0)})
    typed = apply_types(table, configure(columns={"missing_values": {"co": [marker]}}))
    assert np.isnan(typed.columns["co"].values).tolist() == [False, True, False]


def test_markers_make_numbers_of_a_text_column(configure):
    table = _table(x=["1", "2,5".replace(",", "."), "gone", "4"], y=["1", "2", "3", "4"])
    typed = apply_types(table, configure(columns={"missing_values": {"*": ["gone"]}}))
    assert typed.columns["x"].type == "numeric"
    assert np.array_equal(typed.columns["x"].values, [1, 2.5, np.nan, 4], equal_nan=True)


def test_markers_leave_real_text_alone(configure):
    table = _table(x=["red", "gone", "blue", "-200"], y=["1", "2", "3", "4"])
    typed = apply_types(table, configure(columns={"missing_values": {"x": ["gone", -200]}}))
    assert typed.columns["x"].values.tolist() == ["red", None, "blue", None]


def test_none_is_missing_among_numbers_and_a_category_among_texts(configure):
    config = configure(columns={"types": {"n": "numeric"}})
    typed = apply_types(_table(n=["1", "None", "3"], t=["None", "b", "NA"], y=["1", "2", "3"]), config)
    assert np.isnan(typed.columns["n"].values).tolist() == [False, True, False]
    assert typed.columns["t"].values.tolist() == ["None", "b", None]
    assert [(f["code"], f["column"], f["count"]) for f in typed.findings] == [
        ("none_kept_as_category", "t", 1)
    ]


@pytest.mark.parametrize("cell", ["", " ", "NA", "N/A", "NaN", "null", "?", " ?", "-"])
def test_default_markers(configure, cell):
    typed = apply_types(_table(t=["a", cell], y=["1", "2"]), configure())
    assert typed.columns["t"].values.tolist() == ["a", None]


def test_numbers_used_as_categories_keep_the_text_of_the_file(configure):
    config = configure(columns={"types": {"whole": "categorical", "real": "categorical"}})
    arrays = {"whole": np.array([7, 12]), "real": np.array([7.0, 0.1]), "y": np.arange(2.0)}
    typed = apply_types(Table.from_arrays(arrays), config)
    assert typed.columns["whole"].values.tolist() == ["7", "12"]
    assert typed.columns["real"].values.tolist() == ["7.0", "0.1"]


def test_dates_become_seconds_and_bad_ones_are_named(configure):
    config = configure(columns={"types": {"d": "datetime"}})
    good = _table(d=["1970-01-02", "1970-01-01T00:00:10Z", ""], y=["1", "2", "3"])
    assert np.array_equal(apply_types(good, config).columns["d"].values, [86400, 10, np.nan], equal_nan=True)
    with pytest.raises(DataError, match="2024-13-01"):
        apply_types(_table(d=["2024-13-01"], y=["1"]), config)


def test_truth_values_accept_zero_and_one(configure):
    config = configure(columns={"types": {"b": "boolean"}})
    typed = apply_types(Table.from_arrays({"b": np.array([0, 1, 1]), "y": np.arange(3.0)}), config)
    assert (typed.columns["b"].type, typed.columns["b"].values.tolist()) == ("boolean", ["0", "1", "1"])
    with pytest.raises(DataError, match="true or false"):
        apply_types(_table(b=["maybe", "no"], y=["1", "2"]), config)


def test_typing_twice_changes_nothing(configure, table):
    once = apply_types(table, configure())
    assert apply_types(once, configure()) is once
