"""The whole preparation: fitted on the training part only; roles, tasks, and the seeds of the idea."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradkeel.contract import config as contract
from gradkeel.contract.resolve import resolve
from gradkeel_worker.data import Column, DataError, Table, prepare
from gradkeel_worker.data.outliers import OUTLIERS

NUMERIC = sorted(contract.NUMERIC_SCALERS)
TARGETS = sorted(contract.TARGET_SCALERS)
POLICIES = sorted(set(contract.MISSING_POLICIES) - {"refuse"})


def _raw(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    n = 80
    holes = rng.exponential(3, n)
    holes[rng.random(n) < 0.2] = np.nan
    return {
        "holes": holes,
        "plain": rng.exponential(100, n),
        "zone": rng.choice(np.array(["a", "b", "c", None], dtype=object), n),
        "when": rng.integers(0, 10**9, n).astype(float),
        "flag": rng.choice(np.array(["yes", "no"], dtype=object), n),
        "part": rng.permutation(
            np.repeat(np.array(["train", "validation", "test"], dtype=object), [50, 10, 20])
        ),
        "y": rng.exponential(20, n),
    }


def _disturbed(raw: dict[str, Any], seed: int) -> dict[str, Any]:
    """Every cell of every test row changed, some to missing, unseen or enormous ones."""
    rng = np.random.default_rng(seed)
    rows = np.flatnonzero(raw["part"] == "test")
    changed = {name: values.copy() for name, values in raw.items()}
    for name in ("holes", "plain", "when"):
        changed[name][rows] = rng.choice([0.0, 1e12, 3.5, np.nan, np.inf], len(rows))
    changed["zone"][rows] = rng.choice(np.array(["new", "a", None], dtype=object), len(rows))
    changed["flag"][rows] = rng.choice(np.array(["yes", None], dtype=object), len(rows))
    changed["y"][rows] = rng.choice([0.0, 1e9, 5.0], len(rows))
    return changed


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 1000),
    numeric=st.sampled_from(NUMERIC),
    target=st.sampled_from(TARGETS),
    missing=st.sampled_from(POLICIES),
    outliers=st.sampled_from(sorted(contract.OUTLIERS)),
    categorical=st.sampled_from(sorted(contract.CATEGORICALS)),
)
def test_perturbed_test_rows_leave_everything_fitted_bit_identical(
    seed, numeric, target, missing, outliers, categorical
):
    blocks = {"numeric": numeric, "target": target, "missing": missing, "outliers": outliers}
    config = resolve(
        {
            "preset": "custom",
            "target": "y",
            "split": {"kind": "column", "column": "part"},
            "prepare": {k: {"kind": v} for k, v in (blocks | {"categorical": categorical}).items()},
        }
    )
    raw = _raw(seed)
    types = {"when": "datetime", "flag": "boolean"}
    first = prepare(Table.from_arrays(raw, types), config)
    second = prepare(Table.from_arrays(_disturbed(raw, seed), types), config)
    ours, theirs = first.arrays(), second.arrays()
    assert ours.keys() == theirs.keys()
    assert all(ours[name].tobytes() == theirs[name].tobytes() for name in ours)
    assert first.preparation.to_manifest() == second.preparation.to_manifest()
    assert first.inputs == second.inputs and first.categories == second.categories
    assert first.target == second.target and first.config == second.config
    for part in ("train", "validation"):
        assert getattr(first, part).x.tobytes() == getattr(second, part).x.tobytes()
        assert getattr(first, part).y.tobytes() == getattr(second, part).y.tobytes()


def test_fitted_arrays_are_float64_and_named(configure, table):
    arrays = prepare(table, configure()).arrays()
    assert set(arrays) >= {"prepare.center", "prepare.scale", "prepare.fill", "target.center", "target.scale"}
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float64)}


def test_parts_have_the_promised_types(configure, table):
    prepared = prepare(table, configure())
    train = prepared.train
    assert (train.x.dtype, train.c.dtype, train.y.dtype) == (np.float32, np.int64, np.float32)
    assert train.x.flags.c_contiguous and train.x.shape == (len(train), len(prepared.inputs))
    assert train.c.shape == (len(train), len(prepared.categories))
    assert np.isfinite(train.x).all()
    assert train.x[:, 0].mean() == pytest.approx(0, abs=0.2)


def test_roles_are_never_features(configure):
    n = 40
    arrays = {name: np.arange(n, dtype=float) for name in ("x", "when", "who", "w", "y")}
    columns = {"order": "when", "group": "who", "weight": "w"}
    split = {"kind": "ordered", "column": "when"}
    prepared = prepare(Table.from_arrays(arrays), configure(columns=columns, split=split))
    assert [i.source for i in prepared.inputs] == ["x"]


def test_include_and_exclude(configure, table):
    only = prepare(table, configure(columns={"include": ["spiky", "zone"]}))
    assert {i.source for i in only.inputs} | {c.name for c in only.categories} == {"spiky", "zone"}
    without = prepare(table, configure(columns={"exclude": ["when", "zone"]}))
    assert {i.source for i in without.inputs} == {"holes", "spiky", "flag"}
    with pytest.raises(DataError, match="'nowhere'"):
        prepare(table, configure(columns={"include": ["nowhere"]}))


def test_text_ids_constants_and_empty_columns_are_left_out_with_findings(configure):
    n = 30
    arrays = {
        "x": np.arange(n, dtype=float),
        "name": np.array([f"n{i}" for i in range(n)], dtype=object),
        "key": np.arange(n),
        "same": np.full(n, 3.0),
        "void": np.full(n, np.nan),
        "rare": np.array([f"level {i}" for i in range(n)], dtype=object),
        "y": np.arange(n, dtype=float),
    }
    prepared = prepare(Table.from_arrays(arrays, {"name": "text", "key": "id"}), configure())
    assert [i.source for i in prepared.inputs] == ["x"]
    assert {(f["code"], f["column"]) for f in prepared.findings} == {
        ("text_left_out", "name"),
        ("id_left_out", "key"),
        ("constant_column", "same"),
        ("empty_column", "void"),
        ("no_repeated_level", "rare"),
    }


def test_nothing_left_to_learn_from_is_an_error(configure):
    table = Table.from_arrays({"x": np.ones(20), "y": np.arange(20.0)})
    with pytest.raises(DataError, match="no column is left"):
        prepare(table, configure())


# ------------------------------------------------------------------ target, task


def _with_target(values: Any, **types: str) -> Table:
    n = len(values)
    return Table.from_arrays({"x": np.random.default_rng(0).normal(size=n), "y": np.array(values)}, types)


def test_auto_task(configure):
    assert prepare(_with_target(np.arange(30.0)), configure()).task == "regression"
    assert prepare(_with_target([0, 1] * 15), configure()).task == "binary"
    assert prepare(_with_target(["a", "b", "c"] * 10), configure()).task == "multiclass"
    assert prepare(_with_target(["no", "yes"] * 15), configure()).task == "binary"
    config = configure(columns={"types": {"y": "categorical"}})
    assert prepare(_with_target([1, 2, 3] * 10), config).task == "multiclass"


def test_classes_are_sorted_by_value_and_the_second_is_positive(configure):
    prepared = prepare(_with_target([10, 9] * 20), configure(task="binary"))
    assert prepared.classes == ("9", "10")
    assert prepared.train.y.dtype == np.float32 and set(prepared.train.y) == {0.0, 1.0}
    multi = prepare(_with_target(["b", "a", "c"] * 10), configure(task="multiclass"))
    assert multi.classes == ("a", "b", "c") and multi.train.y.dtype == np.int64


def test_rows_without_target_are_dropped_and_counted(configure):
    y = np.arange(30.0)
    y[[3, 4]] = np.nan, np.inf
    prepared = prepare(_with_target(y), configure())
    rows = np.concatenate([p.rows for p in (prepared.train, prepared.validation, prepared.test)])
    assert len(rows) == 28 and not {3, 4} & set(rows.tolist())
    assert [(f["code"], f["count"]) for f in prepared.findings] == [("target_missing", 2)]


def test_classes_outside_the_training_part_are_left_out(configure):
    part = np.array(["train"] * 20 + ["test"] * 5, dtype=object)
    y = np.array(["a", "b"] * 10 + ["a", "b", "c", "c", "a"], dtype=object)
    table = Table.from_arrays({"x": np.arange(25.0), "part": part, "y": y})
    prepared = prepare(table, configure(split={"kind": "column", "column": "part"}, task="multiclass"))
    assert prepared.classes == ("a", "b") and len(prepared.test) == 3
    assert [(f["code"], f["count"]) for f in prepared.findings] == [("unseen_class", 2)]


@pytest.mark.parametrize(
    ("y", "task", "message"),
    [
        ([5.0] * 30, "auto", "every training row has the target 5"),
        (["a"] * 30, "auto", "one class"),
        (["a", "b", "c"] * 10, "binary", "two classes"),
        (["a", "b"] * 15, "regression", "numeric target"),
        ([np.nan] * 30, "auto", "no row has a target"),
    ],
)
def test_targets_with_nothing_to_learn(configure, y, task, message):
    with pytest.raises(DataError, match=message):
        prepare(_with_target(y), configure(task=task))


def test_the_resolved_config_says_what_auto_became(configure, table):
    prepared = prepare(table, configure(prepare={"target": {"kind": "auto"}}))
    assert prepared.config.task == "regression"
    assert prepared.config.prepare.target.kind == prepared.target.kind == "standard"


# ------------------------------------------------------------------ scaling, limits, weights


@pytest.mark.parametrize("kind", ["none", "log1p"])
def test_seeds_of_the_idea_reach_the_model_unchanged(configure, kind):
    table = Table.from_arrays({"x": np.array([1.0, 100.0]), "y": np.array([2.0, 200.0])})
    split = {"kind": "random", "validation": 0, "test": 0}
    config = configure(
        split=split, task="regression", prepare={"numeric": {"kind": kind}, "target": {"kind": kind}}
    )
    train = prepare(table, config).train
    x, y = train.x[:, 0].astype(float), train.y.astype(float)
    # loss of y = w·x at w = 1: mean (wx − y)²
    gradient = float(np.mean(2 * (x - y) * x))
    assert gradient == pytest.approx({"none": -10001, "log1p": -3.457}[kind], rel=1e-4)


def test_log1p_refuses_a_cell_at_or_below_minus_one(configure):
    table = Table.from_arrays({"x": np.array([1.0, 2, -1, 4, 5, 6, 7, 8]), "y": np.arange(8.0)})
    with pytest.raises(DataError) as caught:
        prepare(
            Table(table.columns, table.rows, table.rows + 2),
            configure(prepare={"numeric": {"kind": "log1p"}}),
        )
    (fault,) = caught.value.errors
    assert (fault.column, fault.row, fault.line, fault.code) == ("x", 2, 4, "outside_domain")


def test_log1p_of_the_target_names_the_row(configure):
    table = Table.from_arrays({"x": np.arange(8.0), "y": np.array([1.0, 2, 3, -2, 5, 6, 7, 8])})
    with pytest.raises(DataError) as caught:
        prepare(table, configure(prepare={"target": {"kind": "log1p"}}))
    assert (caught.value.errors[0].column, caught.value.errors[0].row) == ("y", 3)


def test_poisson_divides_by_the_training_mean_and_names_negative_targets(configure):
    y = np.array([1.0, 2, 0, 4, 5, 6, 7, 8] * 5)
    table = Table.from_arrays({"x": np.arange(40.0), "y": y})
    poisson = configure(loss={"kind": "poisson"}, prepare={"target": {"kind": "none"}})
    prepared = prepare(table, poisson)
    train = prepared.train
    assert (prepared.target.kind, prepared.target.link) == ("none", "log")
    assert prepared.config.prepare.target.kind == "none"
    assert train.y.mean() == pytest.approx(1, rel=1e-6)
    some = train.y > 0
    # y is float32
    np.testing.assert_allclose(prepared.target.inverse(np.log(train.y[some])), train.y_raw[some], rtol=1e-6)
    y[3] = -1.0
    table = Table.from_arrays({"x": np.arange(40.0), "y": y})
    with pytest.raises(DataError) as caught:
        prepare(Table(table.columns, table.rows, table.rows + 2), poisson)
    (fault,) = caught.value.errors
    assert (fault.column, fault.row, fault.line, fault.pointer) == ("y", 3, 5, "/loss/kind")


def test_per_column_wins_over_numeric(configure, table):
    per_column = {"spiky": {"kind": "signed_log1p"}}
    prepared = prepare(table, configure(prepare={"numeric": {"kind": "robust"}, "per_column": per_column}))
    scalers = {v.source: v.scaler for v in prepared.preparation.values if v.part == "value"}
    assert (scalers["holes"], scalers["spiky"]) == ("robust", "signed_log1p")


def test_winsorize_moves_outliers_to_training_quantiles(configure):
    x = np.r_[np.arange(100.0), 1e6, -1e6]
    table = Table.from_arrays({"x": x, "t": np.arange(102.0), "y": np.arange(102.0)})
    split = {"kind": "ordered", "column": "t", "validation": 0, "test": 0.02}
    block = {"numeric": {"kind": "none"}, "outliers": {"kind": "winsorize", "lower": 0.1, "upper": 0.9}}
    prepared = prepare(table, configure(split=split, prepare=block))
    low, high = np.quantile(x[prepared.train.rows], [0.1, 0.9])
    assert (prepared.train.x.min(), prepared.train.x.max()) == (np.float32(low), np.float32(high))
    assert set(prepared.test.x[:, 0]) <= {np.float32(low), np.float32(high)}
    assert set(OUTLIERS) == set(contract.OUTLIERS)


def test_drop_leaves_outlying_rows_out_of_the_training_part_alone(configure):
    rng = np.random.default_rng(0)
    n = 200
    x, z = rng.normal(size=n), rng.normal(size=n)
    x[[3, 7]], z[[7, 11]], x[[150, 190]] = 100.0, -90.0, 1e6
    x[20] = np.nan
    part = np.array(["train"] * 140 + ["validation"] * 30 + ["test"] * 30, dtype=object)
    flag = np.array(["yes", "no"] * (n // 2), dtype=object)
    arrays = {"x": x, "z": z, "flag": flag, "part": part, "y": rng.normal(size=n)}
    table = Table.from_arrays(arrays, {"flag": "boolean"})
    split = {"kind": "column", "column": "part"}
    kept = prepare(table, configure(split=split, prepare={"outliers": {"kind": "drop"}}))
    assert sorted(set(range(140)) - set(kept.train.rows.tolist())) == [3, 7, 11]
    assert (len(kept.validation), len(kept.test)) == (30, 30)
    found = {(f["code"], f["column"], f["count"], f.get("row")) for f in kept.findings}
    dropped = ("outlier_rows", None, 3, None)
    assert found == {("outlying_cells", "x", 2, 3), ("outlying_cells", "z", 2, 7), dropped}
    # what is fitted comes from the rows that are left
    rest = np.setdiff1d(np.arange(140), [3, 7, 11, 20])
    assert kept.preparation.center[0] == pytest.approx(x[rest].mean())
    cells = {name: column.values for name, column in table.columns.items()}
    assert len(kept.preparation.transform(cells)[0]) == n
    narrow = configure(split=split, prepare={"outliers": {"kind": "drop", "robust_z": 1e-9}})
    with pytest.raises(DataError, match="every training row") as caught:
        prepare(table, narrow)
    assert caught.value.errors[0].pointer == "/prepare/outliers"


def test_booleans_and_dates_are_not_bent(configure, table):
    prepared = prepare(table, configure(prepare={"numeric": {"kind": "quantile"}}))
    scalers = {v.name: v.scaler for v in prepared.preparation.values}
    assert scalers["holes"] == scalers["spiky"] == "quantile" and scalers["flag"] == "standard"
    assert {kind for name, kind in scalers.items() if name.startswith("when")} == {"standard"}


def test_weights_have_mean_one_in_training(configure):
    table = Table.from_arrays({"x": np.arange(40.0), "w": np.arange(40.0), "y": np.arange(40.0)})
    prepared = prepare(table, configure(columns={"weight": "w"}))
    assert prepared.train.weight.mean() == pytest.approx(1)
    assert prepared.train.weight[1] / prepared.train.weight[0] == pytest.approx(
        prepared.train.rows[1] / prepared.train.rows[0]
    )
    bad = Table.from_arrays({"x": np.arange(40.0), "w": -np.arange(40.0), "y": np.arange(40.0)})
    with pytest.raises(DataError, match="is no weight"):
        prepare(bad, configure(columns={"weight": "w"}))


def test_transform_gives_the_training_inputs_again(configure, table):
    prepared = prepare(table, configure())
    cells = {name: column.values[prepared.train.rows] for name, column in table.columns.items()}
    x, c = prepared.preparation.transform(cells)
    assert x.tobytes() == prepared.train.x.tobytes() and c.tobytes() == prepared.train.c.tobytes()


def test_a_table_of_a_frame():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {"x": [1.0, 2.0], "t": pandas.to_datetime(["2024-01-01", "2024-01-02"]), "z": ["a", None]}
    )
    table = Table.from_frame(frame)
    assert [column.type for column in table.columns.values()] == ["numeric", "datetime", "categorical"]
    assert table.columns["z"].values.tolist() == ["a", None]
    assert isinstance(table.columns["x"], Column)
