"""``train``: results, events, custom models and losses, and that all of it repeats."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gradkeel.contract.errors import ConfigError
from gradkeel.contract.resolve import to_json
from gradkeel.contract.states import EventName
from gradkeel_worker.data import DataError, Table
from gradkeel_worker.engine import Result, train

from .cases import SMALL, breast_cancer, categories, config, diabetes, iris, prepared

Json = dict[str, Any]


def test_a_result_has_everything() -> None:
    told: list[tuple[str, Json]] = []
    result = train(diabetes(), SMALL, on_event=lambda name, data: told.append((name, data)))
    assert result.status == "succeeded" and result.error is None
    assert set(result.metrics) == {"validation", "test", "baselines"}
    assert result.metrics["test"]["rmse"] > 0
    assert len(result.predictions["row"]) == len(result.prepared.test)
    assert result.model is not None and not result.model.training
    x, c = torch.from_numpy(result.prepared.test.x), torch.from_numpy(result.prepared.test.c)
    raw = result.model(x, c).detach().double().numpy()[:, 0]
    np.testing.assert_allclose(
        result.prepared.target.inverse(raw), result.predictions["prediction"], rtol=1e-12
    )
    assert {name for name, _ in told} - {"resolved"} <= set(EventName)
    assert {"progress", "epoch", "reading", "resolved"} <= {name for name, _ in told}
    json.dumps([told, result.report], allow_nan=False)
    layers = next(data["layers"] for name, data in told if name == "reading" and "layers" in data)
    assert layers["names"] == list(result.readings.layers)
    np.testing.assert_allclose(layers["norm"], result.readings.layer_norm[0], rtol=1e-6)
    np.testing.assert_allclose(layers["update_ratio"], result.readings.update_ratio[0], rtol=1e-6)
    assert next(d["phase"] for n, d in told if n == "progress") == "prepare"
    assert result.config.task == "regression"
    assert result.config.prepare.target.kind == "standard"


def test_the_same_job_twice_gives_the_same_result() -> None:
    first, second = train(diabetes(), SMALL), train(diabetes(), SMALL)
    np.testing.assert_array_equal(first.predictions["prediction"], second.predictions["prediction"])
    for key in ("verdict", "findings", "series", "clipping", "gradient_check", "data"):
        assert first.report[key] == second.report[key], key


def test_the_caller_s_random_state_is_left_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    train(diabetes(), SMALL)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_preset_s_loss_follows_the_task() -> None:
    assert train(breast_cancer(), SMALL).config.loss.kind == "bce"
    result = train(iris(), SMALL)
    assert result.config.loss.kind == "cross_entropy"
    assert result.predictions["probabilities"].shape == (len(result.prepared.test), 3)
    with pytest.raises(ConfigError):
        train(iris(), SMALL | {"loss": {"kind": "huber"}})


def test_the_best_preset_decides_by_the_data_and_trains_the_same_from_what_it_decided() -> None:
    asked = {"target": "y", "preset": "best", "budget": {"epochs": 2}, "device": "cpu"}
    first = train(diabetes(), asked)
    assert (first.status, first.config.model.kind) == ("succeeded", "tabm")
    decided = {"/model/blocks", "/prepare/neighbors", "/prepare/target", "/precision"}
    assert decided <= set(first.config.chosen)
    again = train(diabetes(), to_json(first.config))
    assert again.config == first.config
    assert np.array_equal(again.predictions["prediction"], first.predictions["prediction"])


def test_categories_and_weights_go_all_the_way() -> None:
    slow = {"budget": {"epochs": 40, "batch_size": 32}, "optimizer": {"kind": "adam", "lr": 0.01}}
    result = train(categories(), SMALL | {"columns": {"weight": "w"}} | slow)
    assert result.metrics["test"]["r2"] > 0.9


def wrong_gradients(result: Result) -> list[str]:
    """Parameters whose gradient is not the difference quotient's."""
    checked = result.report["gradient_check"]["parameters"]
    return [name for name, entry in checked.items() if entry["status"] != "pass"]


def counts() -> Table:
    """Poisson counts whose logarithm is a line in two columns, from about 1 to 200."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(2, 900))
    y = draw.poisson(np.exp(2.5 + 0.8 * x[0] - 0.5 * x[1])).astype(float)
    return Table.from_arrays({"a": x[0], "b": x[1], "y": y})


SCALED: dict[str, Json] = {
    "poisson": {"loss": {"kind": "poisson"}},
    "log_cosh, power target": {"loss": {"kind": "log_cosh"}, "prepare": {"target": {"kind": "power"}}},
    "huber auto, quantiles, drop": {
        "loss": {"kind": "huber", "delta": "auto"},
        "prepare": {"numeric": {"kind": "quantile", "n": 100}, "outliers": {"kind": "drop"}},
    },
}


@pytest.mark.parametrize("name", SCALED)
def test_metrics_stand_in_target_units_whatever_is_learnt(name: str) -> None:
    slow = {"budget": {"epochs": 40, "batch_size": 32}, "optimizer": {"kind": "adam", "lr": 0.01}}
    result = train(counts(), SMALL | slow | SCALED[name])
    assert result.status == "succeeded" and not wrong_gradients(result)
    actual, predicted = result.prepared.test.y_raw, result.predictions["prediction"]
    rmse = float(np.sqrt(np.mean((actual - predicted) ** 2)))
    assert result.metrics["test"]["rmse"] == pytest.approx(rmse)
    # an exponential is learnt better than by a line, and far better than by a constant
    assert rmse < result.metrics["baselines"]["ridge"]["rmse"]
    assert rmse < 0.5 * result.metrics["baselines"]["constant"]["rmse"]
    assert not any(f["rule"] == "target_scale" for f in result.report["findings"]) or name[0] == "h"


def test_data_prepared_for_another_loss_is_refused() -> None:
    with pytest.raises(ValueError, match="prepared for another loss"):
        train(prepared(counts()), config(loss={"kind": "poisson"}, prepare={"target": {"kind": "none"}}))


@pytest.mark.parametrize("table", [breast_cancer(), iris()], ids=["binary", "multiclass"])
def test_focal_learns_classes(table: Table) -> None:
    slow = {"budget": {"epochs": 30, "batch_size": 32}, "optimizer": {"kind": "adam", "lr": 0.01}}
    result = train(table, SMALL | slow | {"loss": {"kind": "focal"}})
    assert result.metrics["test"]["accuracy"] > 0.85
    assert not wrong_gradients(result)


def test_prepared_data_is_taken_as_it_is() -> None:
    data = prepared()
    result = train(data, data.config)
    assert result.prepared.train is data.train


def test_bad_data_is_told_with_its_place() -> None:
    table = diabetes()
    table.columns["bmi"].values[4] = np.nan
    with pytest.raises(DataError) as caught:
        train(table, SMALL | {"prepare": {"missing": {"kind": "refuse"}}})
    assert (caught.value.errors[0].column, caught.value.errors[0].row) == ("bmi", 4)


def test_a_nan_under_propagate_is_named() -> None:
    table = diabetes()
    table.columns["bp"].values[123] = np.nan
    result = train(
        table, SMALL | {"prepare": {"missing": {"kind": "propagate"}}, "split": {"kind": "random", "test": 0}}
    )
    event = result.readings.nonfinite_event
    if event is None:  # the row fell into the validation part, which counts only what is finite
        assert 123 in result.prepared.validation.rows
    else:
        assert event["rows"] == [123] and event["columns"] == ["bp"]
    assert result.status == "succeeded"


class Doubled(torch.autograd.Function):
    """The identity, with a gradient that is twice too large."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 2 * gradient


def test_your_own_loss_is_trained_and_checked() -> None:
    shapes = []

    def loss(prediction: Tensor, target: Tensor) -> Tensor:
        shapes.append((prediction.shape, target.shape))
        return ((Doubled.apply(prediction) - target) ** 2).mean()

    result = train(diabetes(), SMALL, loss=loss)
    assert result.status == "succeeded"
    assert all(a == b and len(a) == 2 for a, b in shapes)
    assert any(entry["status"] == "fail" for entry in result.report["gradient_check"]["parameters"].values())


def test_your_own_model_is_trained_and_not_changed() -> None:
    torch.manual_seed(0)
    mine = nn.Sequential(nn.Linear(10, 5), nn.Tanh(), nn.Linear(5, 1))
    before = [p.clone() for p in mine.parameters()]
    result = train(diabetes(), SMALL, model=mine)
    assert result.status == "succeeded"
    assert result.readings.layers == ("inner.0", "inner.2")
    assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), before, strict=True))
    assert "activation_std" in result.readings.sparse
    with pytest.raises(ValueError, match="takes x alone"):
        train(categories(), SMALL, model=mine)


def test_cancelled_jobs_have_a_report_and_the_last_good_model() -> None:
    answers = iter([None] * 15 + ["cancelled"])
    result = train(diabetes(), SMALL, should_stop=lambda: next(answers))
    assert result.status == "cancelled"
    assert result.error is not None and result.error["code"] == "cancelled"
    assert result.model is not None
    assert result.report["verdict"] in ("healthy", "strained", "unstable", "diverged")
    assert len(result.readings.steps) == 15


def test_a_cancel_before_the_diagnosis_is_heard() -> None:
    told: list[str] = []
    over = {"phase": "diagnose"}
    result = train(
        diabetes(),
        SMALL,
        on_event=lambda name, data: told.append(data.get("phase", "")),
        should_stop=lambda: "cancelled" if over["phase"] in told else None,
    )
    assert (result.status, result.readings.stopped_by) == ("cancelled", "epochs")
    assert result.model is not None
    assert "cancelled" in result.report["summary"]


def test_cuda_where_there_is_none_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    with pytest.raises(ConfigError, match="no CUDA device"):
        train(diabetes(), SMALL | {"device": "cuda"})
