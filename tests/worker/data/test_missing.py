"""Missing cells: every policy, and infinities."""

import numpy as np
import pytest
from sklearn.impute import SimpleImputer

from gradkeel.contract import config as contract
from gradkeel_worker.data import DataError, Table, prepare
from gradkeel_worker.data.missing import fill_value

ORDERED = {"kind": "ordered", "column": "t", "validation": 0, "test": 0.2}


def _table(x, **more):
    n = len(x)
    return Table.from_arrays(
        {"x": np.array(x), **more, "t": np.arange(n, dtype=float), "y": np.arange(n) * 2.0}
    )


def _prepare(configure, table, **missing):
    prepare_block = {"missing": missing, "numeric": {"kind": "none"}, "target": {"kind": "none"}}
    return prepare(table, configure(split=ORDERED, prepare=prepare_block))


@pytest.mark.parametrize("kind", ["median", "mean", "most_frequent"])
def test_fillings_are_scikit_learns(kind):
    values = np.array([3.0, 1, 2, 2, 9, 1])
    imputer = SimpleImputer(strategy=kind).fit(values[:, None])
    assert fill_value(contract.MISSING_POLICIES[kind](), values) == imputer.statistics_[0]


def test_filling_and_indicator_come_from_the_training_part(configure):
    table = _table([1.0, np.nan, 3, 5, 100])
    prepared = _prepare(configure, table, kind="mean", indicator=True)
    assert [i.role for i in prepared.inputs] == ["value", "indicator"]
    assert prepared.train.x.tolist() == [[1, 0], [3, 1], [3, 0], [5, 0]]
    assert prepared.test.x.tolist() == [[100, 0]]


def test_no_indicator_where_training_misses_nothing(configure):
    prepared = _prepare(configure, _table([1.0, 2, 3, 5, np.nan]), kind="median", indicator=True)
    assert [i.role for i in prepared.inputs] == ["value"]
    assert prepared.test.x.tolist() == [[2.5]]


def test_a_constant_beside_missing_cells_keeps_its_indicator(configure):
    prepared = _prepare(configure, _table([1.0, np.nan, 1, 1, 1]), kind="median", indicator=True)
    assert prepared.train.x.tolist() == [[1, 0], [1, 1], [1, 0], [1, 0]]


def test_constant_fills_with_the_value(configure):
    prepared = _prepare(configure, _table([1.0, np.nan, 3, 5, 6]), kind="constant", value=-7)
    assert prepared.train.x[:, 0].tolist() == [1, -7, 3, 5]


def test_infinities_count_as_missing_with_a_finding(configure):
    prepared = _prepare(configure, _table([1.0, np.inf, 3, 5, -np.inf]), kind="median")
    assert prepared.train.x[:, 0].tolist() == [1, 3, 3, 5]
    (finding,) = prepared.findings
    assert (finding["code"], finding["column"], finding["count"], finding["row"]) == (
        "infinite_values",
        "x",
        2,
        1,
    )


def test_propagate_lets_everything_through(configure):
    prepared = _prepare(configure, _table([1.0, np.inf, np.nan, 5, 6]), kind="propagate")
    assert np.array_equal(prepared.train.x[:, 0], [1, np.inf, np.nan, 5], equal_nan=True)
    assert prepared.x_source_cell("train", 2, 0) == {"row": 2, "line": None, "column": "x"}


def test_drop_rows_counts_and_looks_at_categories_too(configure):
    zone = np.array(["a", "b", None, "c", "b"], dtype=object)
    prepared = _prepare(configure, _table([1.0, np.nan, 3, 5, 6], zone=zone), kind="drop_rows")
    assert prepared.train.rows.tolist() == [0, 3] and prepared.test.rows.tolist() == [4]
    assert ("dropped_rows", 2) in [(f["code"], f["count"]) for f in prepared.findings]


def test_an_empty_column_drops_no_rows(configure):
    table = _table([1.0, 2, 3, 5, 6], void=np.full(5, np.nan))
    prepared = _prepare(configure, table, kind="drop_rows")
    assert len(prepared.train) == 4
    assert [(f["code"], f["column"]) for f in prepared.findings] == [("empty_column", "void")]


def test_refuse_names_the_cell(configure):
    table = _table([1.0, 2, np.nan, 5, 6])
    with pytest.raises(DataError) as caught:
        _prepare(configure, Table(table.columns, table.rows, table.rows + 2), kind="refuse")
    (fault,) = caught.value.errors
    assert (fault.column, fault.row, fault.line, fault.code) == ("x", 2, 4, "missing_cell")


def test_a_refusal_names_each_column_once_and_says_that_there_is_more(configure):
    table = _table([np.nan, np.nan, 1.0, np.nan, 2.0], z=np.array([1.0, np.nan, np.nan, 1.0, 2.0]))
    with pytest.raises(DataError) as refused:
        _prepare(configure, table, kind="refuse")
    assert str(refused.value).count("column 'x'") == str(refused.value).count("column 'z'") == 1
    assert str(refused.value).endswith("; and more")
