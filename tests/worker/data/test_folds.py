"""Folds: those of scikit-learn over the rows outside the test part; whole, apart, and repeatable."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold, TimeSeriesSplit

from gradkeel.contract import config as contract
from gradkeel_worker.data import DataError, Table, prepare
from gradkeel_worker.data.folds import FOLDS, fold_rows
from gradkeel_worker.data.splits import SplitRows, split_rows

KINDS = ["random", "stratified", "group"]


def _rows(n, strata=None, **columns):
    table = Table.from_arrays({"y": np.arange(n, dtype=float), **columns})
    return SplitRows(table, np.arange(n), np.arange(n, dtype=float) if strata is None else strata)


def _config(kind, **options):
    column = {"column": "g"} if kind in ("group", "ordered") else {}
    return contract.SPLITS[kind](**column, **options)


def _usable(config, rows):
    whole = split_rows(config, rows)
    return np.sort(np.concatenate([whole.train, whole.validation]))


def test_every_split_but_the_named_one_has_folds():
    assert set(FOLDS) == set(contract.SPLITS) - {"column"}
    for kind in FOLDS:
        assert hasattr(contract.SPLITS[kind](), "folds")
    assert not hasattr(contract.ColumnSplit(), "folds")


@given(
    n=st.integers(60, 300),
    folds=st.integers(2, 6),
    repeats=st.integers(1, 3),
    validation=st.sampled_from([0, 0.15, 0.3]),
    test=st.sampled_from([0, 0.15]),
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 50),
)
def test_every_row_outside_the_test_part_is_held_out_once_a_repeat(
    n, folds, repeats, validation, test, kind, seed
):
    strata = np.array(["a", "b"])[np.arange(n) % 2]
    rows = _rows(n, strata, g=np.arange(n) % 20)
    shares = {"validation": validation, "test": test, "seed": seed}
    config = _config(kind, folds=folds, repeats=repeats, **shares)
    found = fold_rows(config, rows)
    usable, test_rows = _usable(config, rows), split_rows(config, rows).test
    assert len(found) == folds * repeats
    for repeat in range(repeats):
        held_out = [each.test for each in found[repeat * folds : (repeat + 1) * folds]]
        assert np.array_equal(np.sort(np.concatenate(held_out)), usable)
    for each in found:
        assert np.array_equal(np.sort(np.concatenate([each.train, each.validation, each.test])), usable)
        assert not np.intersect1d(usable, test_rows).size
        assert (len(each.validation) > 0) == (validation > 0) and len(each.train)
    again = fold_rows(config, rows)
    for one, other in zip(found, again, strict=True):
        assert all(
            np.array_equal(getattr(one, k), getattr(other, k)) for k in ("train", "validation", "test")
        )


@pytest.mark.parametrize("test", [0, 0.2])
def test_the_folds_are_scikit_learns(test):
    n = 97
    strata = np.random.default_rng(0).choice(list("aab"), n)
    groups = np.arange(n) % 10  # in the order of their texts too, which scikit-learn's draw depends on
    rows = _rows(n, strata, g=groups)
    for kind, splitter, about in (
        ("random", KFold(4, shuffle=True, random_state=7), {}),
        ("stratified", StratifiedKFold(4, shuffle=True, random_state=7), {"y": strata}),
        ("group", GroupKFold(4, shuffle=True, random_state=7), {"groups": groups}),
    ):
        config = _config(kind, folds=4, seed=7, test=test)
        usable = _usable(config, rows)
        expected = splitter.split(usable, **{name: values[usable] for name, values in about.items()})
        for each, (others, held_out) in zip(fold_rows(config, rows), expected, strict=True):
            assert np.array_equal(each.test, usable[held_out])
            assert np.array_equal(np.sort(np.concatenate([each.train, each.validation])), usable[others])


def test_a_repeat_takes_the_next_seed():
    rows = _rows(50)
    repeated = fold_rows(contract.RandomSplit(folds=3, repeats=2, seed=4, test=0), rows)
    second = fold_rows(contract.RandomSplit(folds=3, seed=5, test=0), rows)
    assert all(np.array_equal(a.test, b.test) for a, b in zip(repeated[3:], second, strict=True))


def test_the_shares_of_classes_differ_by_a_row_at_most():
    strata = np.repeat(["a", "b", "c"], [61, 22, 7])
    for each in fold_rows(_config("stratified", folds=5, test=0), _rows(90, strata)):
        for name, count in (("a", 61), ("b", 22), ("c", 7)):
            assert abs(np.sum(strata[each.test] == name) - count / 5) < 1


def test_a_regression_target_is_stratified_by_its_size():
    values = np.exp(np.random.default_rng(0).normal(size=400))
    for each in fold_rows(_config("stratified", folds=4, test=0), _rows(400, values)):
        shares = np.histogram(values[each.test], np.quantile(values, np.linspace(0, 1, 11)))[0]
        assert shares.min() >= 9 and shares.max() <= 11  # ten of a hundred to each decile, ends aside


def test_equal_targets_are_no_hindrance():
    values = np.concatenate([np.zeros(95), np.arange(1.0, 6.0)])
    found = fold_rows(_config("stratified", folds=5, test=0), _rows(100, values))
    assert sorted(np.concatenate([each.test for each in found]).tolist()) == list(range(100))


def test_groups_are_never_split():
    groups = np.random.default_rng(1).integers(0, 12, 120)
    for each in fold_rows(_config("group", folds=3), _rows(120, g=groups)):
        sets = [set(groups[part]) for part in (each.train, each.validation, each.test)]
        assert not (sets[0] & sets[1] or sets[0] & sets[2] or sets[1] & sets[2])


def test_a_growing_window_never_looks_ahead():
    time = np.random.default_rng(2).permutation(100).astype(float)
    rows = _rows(100, g=time)
    config = _config("ordered", folds=4, test=0.2, validation=0.16)
    order = np.argsort(time)[:80]
    expected = TimeSeriesSplit(4).split(order)
    for each, (others, held_out) in zip(fold_rows(config, rows), expected, strict=True):
        assert np.array_equal(each.test, order[held_out])
        assert np.array_equal(np.concatenate([each.train, each.validation]), order[others])
        assert time[each.train].max() < time[each.validation].min() < time[each.test].min()
        assert len(each.validation) == np.ceil(len(others) * 0.2)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (_config("random", folds=30, test=0), "20 rows outside the test part are too few; 30 are needed"),
        (_config("stratified", folds=4, test=0), "the class 'rare' has 3 rows .* fewer than the 4 folds"),
        (_config("group", folds=4, test=0), "3 groups outside the test part are too few"),
        (_config("ordered", folds=20, test=0), "20 rows .* 21 are needed"),
        (_config("group", folds=2, test=0.3), "leaves one group"),
    ],
)
def test_too_few_rows_are_refused(config, told):
    strata = np.array(["often"] * 17 + ["rare"] * 3)
    with pytest.raises(DataError, match=told) as raised:
        fold_rows(config, _rows(20, strata, g=np.arange(20) % 3))
    assert raised.value.errors[0].pointer == "/split/folds"


def test_what_a_fold_fits_never_saw_the_rows_held_out():
    """Other cells in the rows held out, and in the test part, leave every fitted array as it was."""
    draw = np.random.default_rng(3)
    columns = {"a": draw.normal(size=80), "b": draw.lognormal(size=80), "y": draw.normal(size=80)}
    config = contract.TrainConfig(target="y", split=contract.RandomSplit(folds=4))
    for fold in range(4):
        made = prepare(Table.from_arrays(columns), config, fold)
        unseen = np.setdiff1d(np.arange(80), np.concatenate([made.train.rows, made.validation.rows]))
        assert set(made.test.rows) <= set(unseen.tolist())
        changed = {name: values.copy() for name, values in columns.items()}
        for values in changed.values():
            values[unseen] *= 1e3
        again = prepare(Table.from_arrays(changed), config, fold)
        assert made.arrays().keys() == again.arrays().keys()
        assert all(np.array_equal(made.arrays()[name], again.arrays()[name]) for name in made.arrays())
