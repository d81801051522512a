"""Importance of columns to models over windows, beside the same measures on windows that are held whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gradkeel_worker.diagnosis import importance as shown
from gradkeel_worker.diagnosis.evaluation import predict
from gradkeel_worker.diagnosis.importance import apart, input_gradients, source_columns
from gradkeel_worker.engine import Result, train
from worker.engine.cases import series

CONFIG: dict[str, Any] = {
    "target": "y",
    "preset": "custom",
    "columns": {"order": "t", "group": "g"},
    "budget": {"epochs": 8, "batch_size": 32},
    "health": {"gradient_check": False},
    "device": "cpu",
}
MODELS: dict[str, dict[str, Any]] = {
    "gru": {"model": {"kind": "gru", "width": 6, "window": 5}},
    "tcn, forecast": {"task": "forecast", "model": {"kind": "tcn", "width": 6, "layers": 2, "window": 7}},
}


@pytest.fixture(scope="module", params=MODELS)
def trained(request: pytest.FixtureRequest) -> Result:
    return train(series(), CONFIG | MODELS[request.param])


def answers(result: Result, x: Any, c: Any) -> Any:
    assert result.model is not None
    out = result.model.eval()(torch.from_numpy(x), torch.from_numpy(c)).detach().double().numpy()
    return result.prepared.in_target_units(out)


def test_a_column_is_moved_with_its_course_over_the_window(trained: Result) -> None:
    prepared = trained.prepared
    part, places = prepared.test, source_columns(prepared)
    assert "k" in places and places["k"].c

    def rmse(predicted: Any) -> float:
        return float(np.sqrt(np.mean((predicted - part.y_raw) ** 2)))

    def score(some: Any) -> float:
        return rmse(predict(trained.model, some, prepared))  # type: ignore[arg-type]

    found = shown.permutation(prepared, apart(part), places, score, 3, 7)
    draw = np.random.default_rng(7)
    orders = [draw.permutation(len(part)) for _ in range(3)]
    for name, place in places.items():
        for order, ours in zip(orders, found[name], strict=True):
            x, c = part.fed(slice(None))
            x, c = x.copy(), c.copy()
            x[:, :, list(place.x)] = x[order][:, :, list(place.x)]
            c[:, :, list(place.c)] = c[order][:, :, list(place.c)]
            # float32 sums over batches of other sizes
            np.testing.assert_allclose(ours, rmse(answers(trained, x, c)), rtol=1e-5)


def test_slopes_are_summed_over_the_rows_of_a_window(trained: Result) -> None:
    assert trained.model is not None
    prepared = trained.prepared
    x, c = map(torch.from_numpy, prepared.test.fed(slice(None)))
    x.requires_grad_(True)
    (slopes,) = torch.autograd.grad(trained.model.eval()(x, c).sum(), x)
    sizes = slopes.abs().sum(1).mean(0).double() * x.detach().double().flatten(0, 1).std(0, correction=0)
    found = input_gradients(trained.model, prepared, apart(prepared.test))
    for name, place in source_columns(prepared).items():
        if not place.c:
            expected = float(sum(sizes[j] for j in place.x))
            np.testing.assert_allclose(found[name]["gradient"], expected, rtol=1e-5)


def test_the_report_tells_it(trained: Result) -> None:
    found = trained.report["fit"]["importance"]
    assert {one["column"] for one in found["columns"]} == set(source_columns(trained.prepared))
    assert found["rows"] == len(trained.prepared.test)
    np.testing.assert_allclose(found["base"], trained.metrics["test"]["rmse"], rtol=1e-6)
    assert all(one["mean"] is not None for one in found["columns"])
    residuals = trained.report["fit"]["residuals"]
    assert residuals["rows"] == len(trained.prepared.test)
