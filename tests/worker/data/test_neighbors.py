"""Means over neighbours against scikit-learn; a row never sees itself; what is refused, what auto chooses."""

from typing import Any

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsRegressor

from gradkeel.contract.resolve import to_json
from gradkeel_worker.data import DataError, Prepared, Table, prepare
from gradkeel_worker.data.neighbor_choice import FAR_OUT, limited
from gradkeel_worker.data.neighbor_metric import Sample, _drawn, _error, learned
from gradkeel_worker.data.neighbors import _TREE_COLUMNS, NOBODY, Space, nearest

PARTS = np.repeat(np.array(["train", "validation", "test"], dtype=object), [120, 30, 30])
SPLIT = {"kind": "column", "column": "part"}


def _columns(n: int = 180, wide: int = 3, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {f"x{i}": rng.normal(i, 1 + i, n) for i in range(wide)}
    columns["zone"] = rng.choice(np.array(["a", "b", "c"], dtype=object), n)
    columns["part"] = rng.permutation(np.resize(PARTS, n))
    columns["y"] = np.sin(columns["x0"]) + rng.normal(0, 0.3, n)
    return columns


def _block(**options: Any) -> dict[str, Any]:
    return {"neighbors": {"kind": "means", "k": [1, 4, 9], "metric": "scaled", **options}}


def _map() -> dict[str, Any]:
    """A target of many hills and valleys over two columns; the others say nothing."""
    columns = _columns(n=1200)
    rng = np.random.default_rng(0)
    for name in ("x0", "x1"):
        columns[name] = rng.uniform(0, 8, 1200)
    columns["y"] = np.sin(2.5 * columns["x0"]) * np.sin(2.5 * columns["x1"])
    return columns


@pytest.fixture
def prepared(configure: Any) -> Any:
    """Prepare columns with a look-up; the target as it is, so that no scaling is fitted on it."""

    def make(data: dict[str, Any], split: Any = None, target: str = "none", **options: Any) -> Prepared:
        blocks = _block(**options) | {"target": {"kind": target}}
        table = Table.from_arrays({name: values.copy() for name, values in data.items()})
        more = {"columns": {"weight": "w"}} if "w" in data else {}
        return prepare(table, configure(prepare=blocks, split=split or SPLIT, **more))

    return make


def _inputs(made: Prepared, part: str) -> Any:
    near = [j for j, item in enumerate(made.inputs) if item.role == "neighbors"]
    return getattr(made, part).x[:, near]


def _expected(made: Prepared, part: str, columns: list[str], k: int) -> Any:
    """scikit-learn's means in the prepared columns, without the row itself for training rows."""
    at = [j for j, item in enumerate(made.inputs) if item.name in columns]
    x, y = made.train.x[:, at], made.train.y
    unit = x.astype(np.float64).std(axis=0)
    x = x / unit
    if part != "train":
        rows = getattr(made, part).x[:, at] / unit
        return KNeighborsRegressor(k, algorithm="brute").fit(x, y).predict(rows)
    others = [np.delete(np.arange(len(x)), i) for i in range(len(x))]
    return np.array(
        [KNeighborsRegressor(k, algorithm="brute").fit(x[o], y[o]).predict(x[i : i + 1])[0]
         for i, o in enumerate(others)]
    )  # fmt: skip


@pytest.mark.parametrize("wide", [2, _TREE_COLUMNS + 2])
def test_means_are_those_of_scikit_learn_without_the_row_itself(prepared: Any, wide: int) -> None:
    names = [f"x{i}" for i in range(wide)]
    made = prepared(_columns(wide=wide), columns=names)
    for part in ("train", "validation", "test"):
        given = _inputs(made, part)
        for column, k in enumerate((1, 4, 9)):
            # Means of float32 targets in float64, stored as float32.
            np.testing.assert_allclose(
                given[:, column], _expected(made, part, names, k), rtol=1e-6, atol=1e-7
            )


def test_several_spaces_stand_side_by_side(prepared: Any) -> None:
    columns = _columns()
    both = prepared(columns, columns=[["x0", "x1"], ["x2"]], k=[3])
    alone = [prepared(columns, columns=names, k=[3]) for names in (["x0", "x1"], ["x2"])]
    for part in ("train", "test"):
        assert np.array_equal(_inputs(both, part), np.hstack([_inputs(one, part) for one in alone]))
    assert [item.name for item in both.inputs if item.role == "neighbors"] == [
        "y, mean of 3 nearest by x0, x1",
        "y, mean of 3 nearest by x2",
    ]


@pytest.mark.parametrize("metric", ["scaled", "learned"])
def test_a_row_never_sees_its_own_target(prepared: Any, metric: str) -> None:
    columns = _columns()
    columns["x0"][:60] = columns["x0"][60:120]  # rows at distance zero from another
    options = {"columns": ["x0"], "metric": metric}
    before = prepared(columns, **options)
    for row in (0, 17, 70):
        changed = columns | {"y": columns["y"].copy()}
        changed["y"][row] += 1.0
        after = prepared(changed, **options)
        own = np.flatnonzero(before.train.rows == row)
        assert _inputs(before, "train")[own].tobytes() == _inputs(after, "train")[own].tobytes()
        if len(own):
            assert _inputs(before, "train").tobytes() != _inputs(after, "train").tobytes()


def test_rows_of_a_group_do_not_see_one_another(prepared: Any) -> None:
    columns = _columns(n=120)
    columns["g"] = np.repeat(np.arange(20.0), 6)
    columns["x0"] = columns["g"] + np.random.default_rng(1).normal(0, 0.01, 120)
    del columns["part"]
    made = prepared(columns, split={"kind": "group", "column": "g"}, columns=["x0"], k=[1])
    groups = columns["g"][made.train.rows]
    y = {float(value): group for value, group in zip(made.train.y, groups, strict=True)}
    seen = np.array([y[float(value)] for value in _inputs(made, "train")[:, 0]])
    assert np.all(seen != groups)


def test_row_weights_are_those_of_the_means(prepared: Any) -> None:
    columns = _columns() | {"w": np.random.default_rng(3).choice([0.0, 1.0, 3.0], 180)}
    made = prepared(columns, columns=["x0"], k=[9])
    x, y, w = made.train.x[:, 0], made.train.y, made.train.weight
    kept = np.flatnonzero(w > 0)
    at = next(j for j, item in enumerate(made.inputs) if item.name == "x0")
    for row in range(5):
        near = kept[np.argsort(np.abs(made.test.x[row, at] - x[kept]), kind="stable")[:9]]
        # float32 weights and targets, summed in float64
        assert _inputs(made, "test")[row, 0] == pytest.approx(np.average(y[near], weights=w[near]), rel=1e-5)


def test_classes_become_shares(prepared: Any) -> None:
    columns = _columns()
    for classes in (2, 3):
        names = np.array(["u", "v", "w"], dtype=object)
        target = names[np.digitize(columns["y"], np.quantile(columns["y"], np.arange(1, classes) / classes))]
        made = prepared(columns | {"y": target}, columns=["x0"], k=[4], target="auto")
        given = _inputs(made, "test")
        assert given.shape == (30, 1 if classes == 2 else 3)
        assert set(np.unique(given)) <= {0, 0.25, 0.5, 0.75, 1}
        if classes == 3:
            assert np.all(given.sum(axis=1) == 1)


def test_other_categories_are_farther_away(prepared: Any) -> None:
    columns = _columns()
    columns["y"] = (columns["zone"] == "a").astype(float) + np.linspace(0, 1e-3, 180)
    made = prepared(columns, columns=["zone"], k=[9])
    same = columns["zone"][made.test.rows] == "a"
    assert np.array_equal(_inputs(made, "test")[:, 0] > 0.5, same)


def test_of_equally_far_rows_the_first_counts_as_nearer() -> None:
    rng = np.random.default_rng(0)
    points = rng.integers(0, 3, (300, 2)).astype(np.float32)
    none, levels = np.zeros(0, np.float32), np.zeros((300, 0), np.int64)
    space = Space(("a", "b"), (0, 1), np.ones(2, np.float32), (), none, points, levels)
    owners = np.arange(300)
    found = nearest(space, points, levels, 5, owners, owners)
    for i in range(300):
        distance = ((points[i] - points) ** 2).sum(axis=1)
        order = [j for j in np.argsort(distance, kind="stable") if j != i]
        assert found[i].tolist() == order[:5]
    without = nearest(space, points, levels, 1, np.full(300, NOBODY), owners)
    assert np.array_equal(points[without[:, 0]], points)


@pytest.mark.parametrize("columns", ["auto", ["x0", "zone"]])
def test_perturbed_test_rows_change_nothing_fitted(prepared: Any, columns: Any) -> None:
    raw = _map()
    changed = {name: values.copy() for name, values in raw.items()}
    test = raw["part"] == "test"
    for name in ("x0", "x1", "y"):
        changed[name][test] = 1e6
    changed["zone"][test] = "new"
    options = {"columns": columns, "metric": "learned"}
    first, second = prepared(raw, target="auto", **options), prepared(changed, target="auto", **options)
    ours, theirs = first.arrays(), second.arrays()
    assert any(name.startswith("prepare.neighbors.") for name in ours)
    assert {name: array.tobytes() for name, array in ours.items()} == {
        name: array.tobytes() for name, array in theirs.items()
    }
    assert first.config == second.config and first.neighbors == second.neighbors
    for part in ("train", "validation"):
        assert getattr(first, part).x.tobytes() == getattr(second, part).x.tobytes()


def test_the_gradient_of_the_metric_is_that_of_differences() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(80, 3)).astype(np.float32)
    targets = np.sin(2 * values[:, :1]).astype(np.float32)
    rows = _drawn(Sample(values, rng.integers(0, 3, (80, 1)), targets), rng)
    squares = np.array([2.0, 0.5, 1.0, 0.7])
    _, gradient = _error(rows, squares)
    step = 1e-2
    for j in range(4):
        moved = [squares + sign * step * np.eye(4)[j] for sign in (1, -1)]
        difference = (_error(rows, moved[0])[0] - _error(rows, moved[1])[0]) / (2 * step)
        # float32 sums: 1e-7 over a step of 1e-2
        assert gradient[j] == pytest.approx(difference, abs=1e-4)


def test_a_column_that_tells_weighs_more_than_noise() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(800, 3)).astype(np.float32)
    codes = rng.integers(0, 3, (800, 2))
    targets = (np.sin(3 * values[:, 0]) + (codes[:, 0] == 1))[:, None].astype(np.float32)
    squares, differing = learned(Sample(values, codes, targets), 0)
    assert squares[0] > 20 * squares[1:].max() and differing[0] > 5 * differing[1]


def test_auto_finds_the_columns_that_say_where_a_row_lies(prepared: Any) -> None:
    columns = _map()
    made = prepared(columns, columns="auto", metric="learned", k=[3, 8])
    block = made.config.prepare.neighbors
    assert ("x0", "x1") in block.columns and block.k == (3, 8)
    assert made.neighbors is not None and "x0, x1" in made.neighbors["message"]
    again = prepared(columns, **{k: v for k, v in to_json(block).items() if k != "kind"})
    assert again.train.x.tobytes() == made.train.x.tobytes() and again.config == made.config


def test_auto_leaves_it_where_nothing_is_gained(prepared: Any) -> None:
    columns = _columns(n=600)
    columns["y"] = 2 * columns["x0"] + np.random.default_rng(5).normal(size=600)
    for raw, told in ((columns, "lowered the error"), (_columns(), "too few")):
        made = prepared(raw, columns="auto", metric="learned")
        assert made.config.prepare.neighbors.kind == "none" and not _inputs(made, "train").size
        assert made.neighbors is not None and told in made.neighbors["message"]


def test_auto_looks_nothing_up_where_rows_are_in_order(prepared: Any) -> None:
    columns = _map()
    del columns["part"]
    split = {"kind": "ordered", "column": "x2"}
    made = prepared(columns, split=split, columns="auto")
    assert made.config.prepare.neighbors.kind == "none" and "order" in made.neighbors["message"]
    assert _inputs(prepared(columns, split=split, columns=["x0"]), "train").shape[1] == 3


def test_only_so_many_rows_are_looked_up(prepared: Any) -> None:
    made = prepared(_columns(), columns=["x0"], rows=40)
    arrays = made.arrays()
    assert arrays["prepare.neighbors.targets"].shape == (40, 1)
    assert arrays["prepare.neighbors.0.points"].shape == (40, 1)
    assert np.isfinite(_inputs(made, "train")).all()


def test_wild_targets_are_limited() -> None:
    values = np.append(np.random.default_rng(0).normal(size=200), [500.0, -500.0])
    kept = limited(values)
    assert np.array_equal(kept[:200], values[:200].astype(np.float32))
    assert 0 < kept[200] < 1.5 * FAR_OUT and kept[201] < 0


@pytest.mark.parametrize(
    ("change", "options", "pointer"),
    [
        ({}, {"columns": ["x0"], "k": [200]}, "/prepare/neighbors/k"),
        ({"x1": np.full(180, 4.0)}, {"columns": ["x0", "x1"]}, "/prepare/neighbors/columns"),
        (
            {"y": np.array([f"c{i % 30}" for i in range(180)], dtype=object)},
            {"columns": ["x0"]},
            "/prepare/neighbors",
        ),
    ],
)
def test_what_the_data_does_not_allow_is_refused(
    prepared: Any, change: dict[str, Any], options: dict[str, Any], pointer: str
) -> None:
    target = "auto" if "y" in change else "none"
    with pytest.raises(DataError) as refused:
        prepared(_columns() | change, target=target, **options)
    assert [error.pointer for error in refused.value.errors] == [pointer]
