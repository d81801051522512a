"""What one column alone tells of the target, and rows that stand on both sides of the split."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import rankdata

from gradkeel.contract.resolve import resolve
from gradkeel_worker.data import Prepared, Table, prepare
from gradkeel_worker.diagnosis.markers import markers_of, outsider
from gradkeel_worker.diagnosis.repeats import repeated_rows
from gradkeel_worker.diagnosis.rules.leak import ALMOST_ALONE
from gradkeel_worker.diagnosis.single_column import errors_taken_away, explained_ranks, judge_columns, ranked
from worker.diagnosis.runs import breast_cancer, diabetes

Array = np.ndarray[Any, Any]
CONFIG = {"target": "target", "preset": "custom", "prepare": {"categorical": {"kind": "onehot"}}}


def _prepared(columns: dict[str, Any], config: dict[str, Any] = CONFIG) -> Prepared:
    return prepare(Table.from_arrays(columns), resolve(config))


def test_ranks_are_scipys() -> None:
    values = np.random.default_rng(0).integers(0, 20, 200).astype(float)
    assert ranked(values, values) == pytest.approx((rankdata(values) - 0.5) / 200)


def test_of_two_columns_with_a_known_correlation_the_share_is_its_square() -> None:
    """Normal x and y with correlation r: their ranks have 6/π·asin(r/2), and almost all of what x tells of
    y's rank is linear in x's rank.
    """
    rng = np.random.default_rng(1)
    x, noise = rng.normal(size=(2, 40_000))
    y = 0.8 * x + 0.6 * noise
    expected = (6 / np.pi * np.arcsin(0.4)) ** 2
    found = explained_ranks(x[:20_000], y[:20_000], x[20_000:], y[20_000:])
    # bins of 100 rows cost about 1 % of the noise, and 20,000 rows leave ± 0.01
    assert found == pytest.approx(expected, abs=0.02)


DISGUISES: dict[str, Callable[[Array], Array]] = {
    "another unit": lambda y: 3 * y + 7,
    "backwards": lambda y: -y,
    "logarithm": np.log,
    "heavy tail": lambda y: np.exp(y / 20),
    "rounded": lambda y: np.round(y, -1),
    "not monotone": lambda y: (y - 150) ** 2 * np.sign(y - 150) + 1e5 * (y > 200),
}


@pytest.mark.parametrize("disguise", DISGUISES)
def test_the_target_in_disguise_is_seen_through(disguise: str) -> None:
    best = judge_columns(_prepared(diabetes(told=DISGUISES[disguise](diabetes()["target"]))), 0)[0]
    assert (best.source, best.target) == ("told", "target")
    assert best.score >= ALMOST_ALONE


def test_strong_columns_of_real_tables_are_no_suspects() -> None:
    assert judge_columns(_prepared(diabetes()), 0)[0].score < 0.5
    assert judge_columns(_prepared(breast_cancer()), 0)[0].score < 0.95


def test_the_class_under_another_name_takes_all_errors_away() -> None:
    names = np.where(breast_cancer()["target"] == "benign", "B", "M").astype(object)
    for config in (CONFIG, CONFIG | {"prepare": {"categorical": {"kind": "embedding"}}}):
        best = judge_columns(_prepared(breast_cancer() | {"told": names}, config), 0)[0]
        assert (best.source, best.score, best.right) == ("told", 1.0, 1.0)


def test_errors_taken_away_are_goodman_and_kruskals() -> None:
    """By hand: of 10 rows the usual class is right in 6; by the levels' own classes 9 are."""
    x = np.repeat([0.0, 1.0, 2.0], [5, 3, 2])
    y = np.array([0, 0, 0, 0, 0, 1, 1, 0, 2, 2])
    assert errors_taken_away(x, y, x, y) == pytest.approx((1 - 1 / 4, 0.9))
    assert errors_taken_away(x, y, np.array([7.0]), np.array([2])) == (1.0, 1.0)  # nearest bin


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_units_change_nothing(factor: float) -> None:
    plain = judge_columns(_prepared(diabetes()), 0)
    scaled = judge_columns(_prepared(diabetes(target=diabetes()["target"] * factor)), 0)
    assert [one.source for one in plain] == [one.source for one in scaled]
    assert [one.score for one in plain] == pytest.approx([one.score for one in scaled])


def test_rows_on_both_sides_of_the_split_are_counted() -> None:
    """Against a plain comparison of rows."""
    rows = np.r_[np.arange(442), np.arange(60)]
    prepared = _prepared({name: values[rows] for name, values in diabetes().items()})
    train = {(*x, y) for x, y in zip(prepared.train.x.tolist(), prepared.train.y_raw, strict=True)}
    test = zip(prepared.test.x.tolist(), prepared.test.y_raw, strict=True)
    expected = [(*x, y) in train for x, y in test]
    assert sum(expected) > 5
    assert repeated_rows(prepared, "test").tolist() == expected
    assert not repeated_rows(_prepared(diabetes()), "test").any()


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize(("mark", "found"), [(-999.0, True), (0.0, True), (15.0, False)])
def test_a_mark_stands_apart_and_occurs_again(mark: float, found: bool, factor: float) -> None:
    usual = np.random.default_rng(5).normal(40, 7, 500).clip(20, 70)
    values = np.where(np.arange(500) < 8, mark, usual)
    end = outsider(values * factor)
    assert (end is not None) == found
    if end is not None:
        assert end[:2] == (True, 8 / 500)
    assert outsider(np.where(np.arange(500) < 3, mark, usual) * factor) is None  # too few
    assert outsider(np.random.default_rng(6).lognormal(0, 2, 500)) is None  # a tail has no outsiders


def test_a_mark_is_told_as_the_file_writes_it() -> None:
    column = diabetes()["bmi"].copy()
    column[::40] = -1.0
    profile = {"columns": [{"name": "bmi", "min": -1.0, "max": 42.2, "top": [["-1.0", 12]], "decimal": "."}]}
    (marker,) = markers_of(_prepared(diabetes(bmi=column)), profile)
    assert (marker.column, marker.text) == ("bmi", "-1.0")
    assert markers_of(_prepared(diabetes()), profile) == []
