"""Splits: the parts are scikit-learn's where it has the same split, whole, apart, and repeatable."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from gradkeel.contract import config as contract
from gradkeel_worker.data import DataError, Table, prepare
from gradkeel_worker.data.splits import SplitRows, sizes, split_rows


def _rows(n, strata=None, **columns):
    table = Table.from_arrays({"y": np.arange(n, dtype=float), **columns})
    return SplitRows(table, np.arange(n), np.arange(n, dtype=float) if strata is None else strata)


def _all(parts):
    return np.concatenate([parts.train, parts.validation, parts.test])


@pytest.mark.parametrize(
    ("n", "validation", "test"), [(442, 0.15, 0.15), (20640, 0.16, 0.2), (97, 0.3, 0.25)]
)
def test_random_is_train_test_split_twice(n, validation, test):
    parts = split_rows(contract.RandomSplit(validation=validation, test=test, seed=5), _rows(n))
    rest, expected_test = train_test_split(np.arange(n), test_size=test, random_state=5)
    train, expected_validation = train_test_split(rest, test_size=validation / (1 - test), random_state=5)
    assert np.array_equal(parts.test, expected_test)
    assert np.array_equal(parts.validation, expected_validation)
    assert np.array_equal(parts.train, train)


def test_the_split_of_the_published_figures():
    """20 % for testing and 20 % of the rest for validation, as the California table was measured."""
    parts = split_rows(contract.RandomSplit(validation=0.16, test=0.2, seed=0), _rows(20640))
    rest, test = train_test_split(np.arange(20640), test_size=0.2, random_state=0)
    train, _ = train_test_split(rest, test_size=0.2, random_state=0)
    assert np.array_equal(parts.test, test) and np.array_equal(parts.train, train)


@given(
    n=st.integers(10, 400),
    validation=st.sampled_from([0, 0.1, 0.15, 0.3]),
    test=st.sampled_from([0, 0.1, 0.15, 0.3]),
    kind=st.sampled_from(["random", "stratified", "group"]),
    seed=st.integers(0, 50),
)
def test_parts_are_whole_apart_and_repeatable(n, validation, test, kind, seed):
    rng = np.random.default_rng(seed)
    rows = _rows(n, rng.integers(0, 4, n).astype(str), g=np.arange(n) % 20)
    column = {"column": "g"} if kind == "group" else {}
    config = contract.SPLITS[kind](validation=validation, test=test, seed=seed, **column)
    parts = split_rows(config, rows)
    assert np.array_equal(np.sort(_all(parts)), np.arange(n))
    assert (len(parts.test) > 0) == (test > 0) and (len(parts.validation) > 0) == (validation > 0)
    again = split_rows(config, rows)
    assert all(np.array_equal(getattr(parts, k), getattr(again, k)) for k in ("train", "validation", "test"))


def test_no_validation_and_no_test_leave_the_rows_in_order():
    parts = split_rows(contract.RandomSplit(validation=0, test=0), _rows(4))
    assert parts.train.tolist() == [0, 1, 2, 3]


def test_stratified_keeps_the_shares():
    strata = np.repeat(["a", "b"], [900, 100])
    parts = split_rows(contract.StratifiedSplit(validation=0.2, test=0.2), _rows(1000, strata))
    for part in (parts.train, parts.validation, parts.test):
        assert np.mean(strata[part] == "b") == pytest.approx(0.1, abs=0.005)


def test_stratified_pools_classes_too_rare_for_every_part():
    strata = np.array(["a"] * 50 + ["b"] * 40 + ["c", "d"])
    parts = split_rows(contract.StratifiedSplit(validation=0.2, test=0.2), _rows(92, strata))
    assert len(_all(parts)) == 92


def test_a_stratified_regression_target_goes_by_its_deciles():
    y = np.random.default_rng(0).exponential(1, 1000)
    parts = split_rows(contract.StratifiedSplit(validation=0.2, test=0.2), _rows(1000, y))
    inner = np.quantile(y, [0.1, 0.9])
    for part in (parts.validation, parts.test):
        assert np.mean(y[part] > inner[1]) == pytest.approx(0.1, abs=0.006)


def test_ordered_trains_on_the_first_and_tests_on_the_last():
    time = np.array([5.0, 1, 4, 2, 3, 9, 8, 7, 6, 0])
    parts = split_rows(contract.OrderedSplit(column="t", validation=0.2, test=0.3), _rows(10, t=time))
    assert time[parts.train].tolist() == [0, 1, 2, 3, 4]
    assert time[parts.validation].tolist() == [5, 6]
    assert time[parts.test].tolist() == [7, 8, 9]


def test_ordered_names_a_row_without_a_place():
    with pytest.raises(DataError) as caught:
        split_rows(contract.OrderedSplit(column="t"), _rows(10, t=np.array([1.0] * 9 + [np.nan])))
    assert (caught.value.errors[0].column, caught.value.errors[0].row) == ("t", 9)


def test_a_group_stays_in_one_part():
    groups = np.random.default_rng(1).integers(0, 30, 600)
    parts = split_rows(contract.GroupSplit(column="g", validation=0.2, test=0.2), _rows(600, g=groups))
    found = [set(groups[part]) for part in (parts.train, parts.validation, parts.test)]
    assert not (found[0] & found[1] or found[0] & found[2] or found[1] & found[2])
    assert [len(f) for f in found] == [18, 6, 6]


def test_column_split_goes_by_value_and_leaves_others_out(configure):
    part = np.array(["train"] * 6 + ["validation"] * 2 + ["test"] * 2 + ["holdout"] * 3, dtype=object)
    table = Table.from_arrays({"x": np.arange(13.0), "part": part, "y": np.arange(13.0)})
    prepared = prepare(table, configure(split={"kind": "column", "column": "part"}))
    assert [len(p) for p in (prepared.train, prepared.validation, prepared.test)] == [6, 2, 2]
    assert [(f["code"], f["count"]) for f in prepared.findings] == [("outside_split", 3)]
    assert [i.source for i in prepared.inputs] == ["x"]


def test_column_split_by_numbers(configure):
    table = Table.from_arrays(
        {"x": np.arange(6.0), "fold": np.array([0, 0, 0, 1, 2, 2]), "y": np.arange(6.0)}
    )
    split = {"kind": "column", "column": "fold", "train": ["0"], "validation": ["1"], "test": ["2"]}
    prepared = prepare(table, configure(split=split))
    assert [len(p) for p in (prepared.train, prepared.validation, prepared.test)] == [3, 1, 2]


def test_too_few_rows_say_so():
    with pytest.raises(DataError, match="too few"):
        sizes(2, 0.4, 0.4)


def test_shares_that_meet_a_whole_number_are_not_rounded_past_it():
    assert sizes(100, 0.15, 0.15) == (15, 15)
    assert sizes(1000, 0.1, 0.3) == (100, 300)
