"""Importance of columns against scikit-learn's permutations and finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.inspection import permutation_importance
from torch import nn

from gradkeel_worker.data import Prepared, Table
from gradkeel_worker.diagnosis import importance as shown
from gradkeel_worker.diagnosis.evaluation import evaluate, predict
from gradkeel_worker.diagnosis.importance import (
    importance,
    input_gradients,
    source_columns,
    work_of_a_row,
)
from gradkeel_worker.engine import Result, train

CONFIG: dict[str, Any] = {
    "target": "y",
    "preset": "custom",
    "model": {"kind": "mlp", "widths": [24]},
    "optimizer": {"kind": "adamw", "lr": 0.01},
    "budget": {"epochs": 20, "batch_size": 64},
    "health": {"gradient_check": False},
    "device": "cpu",
}


def table(rows: int = 500) -> Table:
    """The target is mostly `zone`, a little `size`, which has holes, and not `noise`."""
    draw = np.random.default_rng(0)
    zone, size = draw.choice(list("abcd"), rows), draw.normal(size=rows)
    effect = np.array([{"a": 0.0, "b": 2.0, "c": 6.0, "d": -4.0}[level] for level in zone])
    y = effect + size + 0.1 * draw.normal(size=rows)
    size[draw.random(rows) < 0.1] = np.nan
    return Table.from_arrays({"zone": zone, "size": size, "noise": draw.normal(size=rows), "y": y})


def trained(**changes: Any) -> Result:
    result = train(table(), CONFIG | changes)
    assert result.model is not None
    return result


class OverRawColumns(BaseEstimator, RegressorMixin):
    """A trained model as scikit-learn's estimator: cells of the file in, predictions out."""

    def __init__(self, result: Result) -> None:
        self.result = result

    def fit(self, rows: Any, y: Any) -> OverRawColumns:
        return self

    def predict(self, rows: Any) -> Any:
        prepared = self.result.prepared
        cells = {"zone": rows[:, 0], "size": rows[:, 1].astype(float), "noise": rows[:, 2].astype(float)}
        x, c = prepared.preparation.transform(cells)
        out = self.result.model(torch.from_numpy(x), torch.from_numpy(c)).detach().numpy()[:, 0]
        return prepared.target.inverse(out.astype(np.float64))


def test_permuting_is_what_scikit_learn_does_to_the_cells_of_the_file() -> None:
    result = trained()
    prepared, data = result.prepared, table()
    part = prepared.test
    places = source_columns(prepared)
    assert places["size"].x == (0, 2) and places["zone"].c == (0,)  # the missing indicator goes along

    def rmse(some: Any) -> float:
        return float(np.sqrt(np.mean((predict(result.model, some, prepared) - part.y_raw) ** 2)))

    found = shown.permutation(prepared, part, places, rmse, 60, 0)
    names = ("zone", "size", "noise")
    rows = np.stack([data.columns[name].values[part.rows].astype(object) for name in names], axis=1)
    oracle = permutation_importance(
        OverRawColumns(result), rows, part.y_raw, scoring="neg_root_mean_squared_error", n_repeats=60
    )
    for i, name in enumerate(names):
        ours = found[name] - rmse(part)
        spread = np.sqrt((ours.var() + oracle.importances_std[i] ** 2) / 60)
        # the permutations differ: five standard errors of the difference of the two means
        assert abs(ours.mean() - oracle.importances_mean[i]) < 5 * spread + 1e-6


@pytest.mark.parametrize("kind", ["embedding", "onehot", "ordinal"])
def test_neighbours_are_looked_up_anew(kind: str) -> None:
    near = {"kind": "means", "k": [3], "columns": ["zone", "size"]}
    prepare = {"neighbors": near, "categorical": {"kind": kind}}
    result = trained(prepare=prepare, budget={"epochs": 1, "batch_size": 64})
    prepared, data, seen = result.prepared, table(), []
    assert prepared.preparation.neighbors is not None
    places = source_columns(prepared)
    assert set(places) == {"zone", "size", "noise"}

    def score(some: Any) -> float:
        seen.append(some)
        return 0.0

    shown.permutation(prepared, prepared.test, {"zone": places["zone"]}, score, 1, 0)
    order = np.random.default_rng(0).permutation(len(prepared.test))
    rows = prepared.test.rows
    cells = {name: data.columns[name].values[rows] for name in ("zone", "size", "noise")}
    x, c = prepared.preparation.transform(cells | {"zone": cells["zone"][order]})
    np.testing.assert_array_equal(seen[0].x, x)
    np.testing.assert_array_equal(seen[0].c, c)


def test_the_report_has_both_measures_best_first() -> None:
    result = trained()
    found = result.report["fit"]["importance"]
    assert [one["column"] for one in found["columns"]] == ["zone", "size", "noise"]
    assert found["metric"] == "rmse" and found["rows"] == found["rows_of"] == len(result.prepared.test)
    np.testing.assert_allclose(found["base"], result.metrics["test"]["rmse"], rtol=1e-9)
    means = {one["column"]: one["mean"] for one in found["columns"]}
    assert means["zone"] > 2 and abs(means["noise"]) < 0.2
    assert all(one["gradient"] > 0 for one in found["columns"])


def test_the_same_seed_tells_the_same_and_the_part_is_left_as_it_was() -> None:
    result = trained()
    before = result.prepared.test.x.copy(), result.prepared.test.c.copy()
    first, again = (evaluate(result.model, result.prepared, 3).details for _ in range(2))
    assert first == again
    assert first["importance"] != evaluate(result.model, result.prepared, 4).details["importance"]
    np.testing.assert_array_equal(before[0], result.prepared.test.x)
    np.testing.assert_array_equal(before[1], result.prepared.test.c)
    assert all(p.grad is None for p in result.model.parameters())


def test_gradients_are_difference_quotients() -> None:
    result = trained(
        columns={"exclude": ["zone"]}, model={"kind": "mlp", "widths": [24], "activation": "tanh"}
    )
    prepared, part, step = result.prepared, result.prepared.test, 1e-4
    model = result.model.double()

    def out(x: Any) -> Any:
        return model(torch.from_numpy(x), torch.from_numpy(part.c)).detach().numpy()[:, 0]

    expected = dict.fromkeys(("size", "noise"), 0.0)
    for j, one in enumerate(prepared.inputs):
        up, down = part.x.astype(np.float64), part.x.astype(np.float64)
        up[:, j] += step
        down[:, j] -= step
        slopes = (out(up) - out(down)) / (2 * step)
        expected[one.source] += float(np.abs(slopes).mean() * part.x[:, j].astype(np.float64).std())
    model.float()
    found = input_gradients(model, prepared, part)
    for name, value in expected.items():
        # float32 gradients of a smooth network; central differences are exact to 1e-8 here
        assert (
            found[name]["gradient"] == np.float64(value).item()
            or abs(found[name]["gradient"] / value - 1) < 1e-4
        )


def test_classes_have_a_gradient_each() -> None:
    data = table()
    names = np.select([data.columns["y"].values < 0, data.columns["y"].values < 3], ["low", "mid"], "high")
    columns = {name: column.values for name, column in data.columns.items() if name != "y"}
    result = train(Table.from_arrays(columns | {"y": names}), CONFIG)
    found = result.report["fit"]["importance"]
    assert found["metric"] == "log_loss" and found["columns"][0]["column"] == "zone"
    by_class = found["columns"][0]["gradient_by_class"]
    assert set(by_class) == {"high", "low", "mid"}
    np.testing.assert_allclose(np.mean(list(by_class.values())), found["columns"][0]["gradient"])


def test_the_work_of_a_row_counts_steps_and_members() -> None:
    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.head = nn.GRU(1, 5, batch_first=True), nn.Linear(5, 1)

        def forward(self, x: Any, c: Any) -> Any:
            return self.head(self.cell(x[:, :, None])[0][:, -1])

    part = trained().prepared.test
    steps = part.x.shape[1]
    expected = 2 * (steps * (15 * 1 + 15 * 5) + 5)
    assert work_of_a_row(Steps(), part) == expected
    result = trained()
    inputs = part.x.shape[1] + result.prepared.categories[0].width
    assert work_of_a_row(result.model, part) == 2 * (24 * inputs + 24)


def test_the_work_is_bounded_and_told(monkeypatch: Any) -> None:
    result = trained()
    prepared: Prepared = result.prepared
    monkeypatch.setattr(shown, "FEWEST_ROWS", 20)
    monkeypatch.setattr(shown, "WORK", 50_000.0)
    found = importance(result.model, prepared, prepared.test, lambda p: predict(result.model, p, prepared), 0)
    assert found is not None
    assert found["rows"] == 20 and found["repeats"] == 1 and found["columns_permuted"] < 3
    assert sum(one["mean"] is not None for one in found["columns"]) == found["columns_permuted"]
    assert all(one["gradient"] > 0 for one in found["columns"])
