"""Several targets: each scaled on its own, rows that lack one dropped, nothing fitted on test rows."""

import numpy as np
import pytest

from gradkeel.contract.config import TARGET_SCALERS
from gradkeel_worker.data import DataError, Table, TargetTransforms, prepare
from gradkeel_worker.data.scalers import fit_target


def _arrays(seed=0, n=200):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    part = np.array(["train", "validation", "test"], dtype=object)[rng.integers(0, 3, n)]
    small, large = 1e-6 * rng.normal(size=n), rng.exponential(1e6, n)
    return {"x": x, "part": part, "small": small, "large": large}


SPLIT = {"split": {"kind": "column", "column": "part"}, "target": ["small", "large"]}


@pytest.mark.parametrize("kind", sorted(set(TARGET_SCALERS) - {"auto"}))
def test_each_target_has_its_own_scale_and_an_exact_inverse(configure, kind):
    arrays = _arrays()
    prepared = prepare(Table.from_arrays(arrays), configure(**SPLIT, prepare={"target": {"kind": kind}}))
    train = prepared.train
    assert isinstance(prepared.target, TargetTransforms) and prepared.config.prepare.target.kind == kind
    assert train.y.shape == train.y_raw.shape == (len(train), 2) and train.y.dtype == np.float32
    for i, name in enumerate(("small", "large")):
        alone = fit_target(kind, arrays[name][arrays["part"] == "train"])
        assert prepared.target.each[i] == alone
        assert np.array_equal(train.y[:, i], alone.forward(train.y_raw[:, i]).astype(np.float32))
    # float64 there and back: a few ulps of the intermediate result, which for log1p is about 1 + y
    returned = prepared.target.inverse(prepared.target.forward(train.y_raw))
    assert np.allclose(returned, train.y_raw, rtol=1e-9, atol=1e-15)
    assert {"target.0.center", "target.1.scale"} <= set(prepared.arrays())


def test_tails_decide_for_each_target(configure):
    prepared = prepare(
        Table.from_arrays(_arrays() | {"large": np.random.default_rng(1).standard_cauchy(200)}),
        configure(**SPLIT, prepare={"target": {"kind": "auto"}}),
    )
    assert [one.kind for one in prepared.target.each] == ["standard", "robust"]
    assert prepared.config.prepare.target.kind == "auto"


def test_rows_that_lack_any_target_are_dropped_and_counted(configure):
    arrays = _arrays()
    arrays["small"][[3, 7]] = np.nan
    arrays["large"][[7, 11, 12]] = [np.inf, np.nan, np.nan]
    prepared = prepare(Table.from_arrays(arrays), configure(**SPLIT))
    rows = np.concatenate([getattr(prepared, part).rows for part in ("train", "validation", "test")])
    assert set(range(200)) - set(rows.tolist()) == {3, 7, 11, 12}
    (note,) = [one for one in prepared.findings if one["code"] == "target_missing"]
    assert (note["count"], note["detail"]) == (4, "4 rows lack a target and are left out")


def test_targets_are_never_features(configure):
    prepared = prepare(Table.from_arrays(_arrays()), configure(**SPLIT))
    assert [one.source for one in prepared.inputs] == ["x"]
    assert (prepared.outputs, prepared.output_names) == (2, ("small", "large"))


@pytest.mark.parametrize("kind", sorted(TARGET_SCALERS))
@pytest.mark.parametrize("several", [True, False])
def test_perturbed_test_rows_leave_everything_fitted_bit_identical(configure, kind, several):
    arrays = _arrays()
    disturbed = {name: values.copy() for name, values in arrays.items()}
    for name in ("x", "small", "large"):
        disturbed[name][arrays["part"] == "test"] = np.random.default_rng(1).exponential(1e12)
    blocks = SPLIT | {"prepare": {"target": {"kind": kind}}}
    blocks |= {} if several else {"target": "large", "loss": {"kind": "quantile"}}
    first, second = (prepare(Table.from_arrays(a), configure(**blocks)) for a in (arrays, disturbed))
    ours, theirs = first.arrays(), second.arrays()
    assert ours.keys() == theirs.keys()
    assert all(ours[name].tobytes() == theirs[name].tobytes() for name in ours)
    assert first.target == second.target and first.train.y.tobytes() == second.train.y.tobytes()


@pytest.mark.parametrize(
    ("values", "pointer", "code", "blocks"),
    [
        (np.full(200, 3.0), "/target/1", "target_constant", {}),
        (np.full(200, np.nan), "/target", "target_missing", {}),
        (np.arange(-2.0, 198.0), "/loss/kind", "outside_domain", {"loss": {"kind": "poisson"}}),
        (np.array(["a", "b"] * 100, dtype=object), "/target", "wrong_type", {}),
    ],
)
def test_a_target_that_cannot_be_is_named(configure, values, pointer, code, blocks):
    blocks = {"target": ["large", "small"]} | blocks
    with pytest.raises(DataError) as caught:
        prepare(Table.from_arrays(_arrays() | {"small": values}), configure(**blocks))
    assert {(error.pointer, error.code) for error in caught.value.errors} == {(pointer, code)}


def test_a_stratified_split_goes_by_the_first(configure):
    both = prepare(
        Table.from_arrays(_arrays()), configure(target=["large", "small"], split={"kind": "stratified"})
    )
    one = prepare(Table.from_arrays(_arrays()), configure(target="large", split={"kind": "stratified"}))
    assert np.array_equal(both.train.rows, one.train.rows)


def test_quantiles_are_sorted_in_target_units(configure):
    blocks = {
        "loss": {"kind": "quantile", "levels": [0.1, 0.5, 0.9]},
        "prepare": {"target": {"kind": "log1p"}},
    }
    prepared = prepare(Table.from_arrays(_arrays()), configure(target="large", **blocks))
    assert (prepared.task, prepared.levels, prepared.output_names) == (
        "quantile",
        (0.1, 0.5, 0.9),
        ("0.1", "0.5", "0.9"),
    )
    crossing = np.array([[2.0, 1.0, 3.0], [0.0, 1.0, 2.0]])
    assert np.array_equal(prepared.in_target_units(crossing), np.expm1(np.sort(crossing, axis=1)))
