"""The examples that the project grew from, each through ``train``; docs/examples.md tells of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradkeel.contract.resolve import resolve
from gradkeel_worker.data import Table
from gradkeel_worker.engine import Result, train

from .cases import SMALL, diabetes

SPLIT = {"kind": "random", "validation": 0, "test": 0}

# y = w·x with w = 1 and squared error: dL/dw = mean(2·(x − y)·x), in exact arithmetic.
EXACT = [
    ((1.0, 100.0), (2.0, 200.0), "none", -10001.0),
    ((1.0, 100.0), (2.0, 200.0), "log1p", -3.457),
    ((1.0, 10.0), (2.0, 20.0), "none", -101.0),
    ((1.0, 10.0), (2.0, 20.0), "log1p", -1.8316),
]


@pytest.mark.parametrize(("x", "y", "scaling", "gradient"), EXACT)
def test_exact_gradient_of_one_weight(
    x: tuple[float, ...], y: tuple[float, ...], scaling: str, gradient: float
) -> None:
    result = train(
        Table.from_arrays({"x": np.array(x), "y": np.array(y)}),
        {
            "target": "y",
            "task": "regression",
            "preset": "custom",
            "split": {"kind": "random", "validation": 0, "test": 0},
            "prepare": {"numeric": {"kind": scaling}, "target": {"kind": scaling}},
            "model": {"kind": "linear", "bias": False, "init": {"kind": "constant", "value": 1.0}},
            "loss": {"kind": "mse"},
            "optimizer": {"kind": "sgd", "lr": 0.5},
            "clips": [],
            "budget": {"epochs": 1, "batch_size": 2},
        },
    )
    assert result.model is not None
    # One step of gradient descent: w₁ = w₀ − lr · dL/dw, so the signed gradient is (w₀ − w₁) / lr.
    weight = result.model.get_parameter("output.weight").item()
    measured = (1.0 - weight) / 0.5
    assert measured == pytest.approx(gradient, rel=5e-5)  # the figures are rounded to four or five digits
    scale = np.log1p if scaling == "log1p" else np.asarray
    exact = np.mean(2 * (scale(x) - scale(y)) * scale(x))
    assert measured == pytest.approx(exact, rel=1e-6)  # float32 throughout
    assert result.readings.global_norm.tolist() == pytest.approx([abs(exact)], rel=1e-6)
    assert result.readings.layers == ("output",)


def test_the_examples_of_the_page_are_configs() -> None:
    page = (Path(__file__).parents[3] / "docs" / "examples.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    assert len(blocks) >= 10
    for block in blocks:
        resolve(json.loads(block))


def _run(**changes: Any) -> Result:
    sgd = {"optimizer": {"kind": "sgd", "lr": 0.01}, "model": {"kind": "mlp", "widths": [64, 64]}}
    return train(diabetes(), {**SMALL, **sgd, **changes})


def test_standardised_inputs_tame_the_gradient() -> None:
    plain = {"target": {"kind": "standard"}}
    scaled = _run(prepare=plain, clips=[])
    raw = _run(prepare={**plain, "numeric": {"kind": "none"}}, clips=[])
    assert np.nanmax(raw.readings.global_norm) > 20 * np.max(scaled.readings.global_norm)


def test_huber_loss_bounds_what_one_outlier_does() -> None:
    table = diabetes()
    table.columns["y"].values[3] *= 1000
    settings: dict[str, Any] = {"clips": [], "prepare": {"target": {"kind": "robust"}}}
    huber, mse = (train(table, {**SMALL, "loss": {"kind": kind}, **settings}) for kind in ("huber", "mse"))
    assert np.max(mse.readings.global_norm) > 50 * np.max(huber.readings.global_norm)


def test_norm_clipping_in_a_minibatch_sgd_loop() -> None:
    result = _run(clips=[{"kind": "norm", "max_norm": 1.0}])
    readings = result.readings
    over = readings.global_norm > 1
    assert over.any() and not over.all()
    np.testing.assert_allclose(readings.clipped_norm[over], 1.0, rtol=1e-5)
    np.testing.assert_array_equal(readings.clipped_norm[~over], readings.global_norm[~over])
    np.testing.assert_array_equal(readings.clipping[0]["fired"], over)
    # The raw data would diverge within a few steps; clipped, it does not.
    raw = _run(prepare={"numeric": {"kind": "none"}, "target": {"kind": "none"}}, loss={"kind": "mse"})
    assert raw.status == "succeeded"


def test_raw_units_without_stabilisers_diverge() -> None:
    raw = _run(
        prepare={"numeric": {"kind": "none"}, "target": {"kind": "none"}}, loss={"kind": "mse"}, clips=[]
    )
    assert raw.status == "diverged"
    assert raw.error is not None and raw.error["code"] == "diverged"
    assert raw.model is None
    assert raw.report["verdict"] == "diverged"


def test_value_clipping_bounds_every_entry() -> None:
    result = _run(clips=[{"kind": "value", "max_value": 0.01}])
    readings = result.readings
    assert readings.clipping[0]["fired"].any()
    assert np.all(readings.clipped_norm <= 0.01 * np.sqrt(sum(readings.layer_sizes)) * (1 + 1e-6))


def test_gradient_normalisation_makes_every_step_as_long_as_the_learning_rate() -> None:
    result = _run(clips=[{"kind": "normalize"}])
    np.testing.assert_allclose(result.readings.clipped_norm, 1.0, rtol=1e-5)


def test_value_clipping_turns_the_step_where_norm_clipping_keeps_its_direction() -> None:
    """One step of each from the same weights, against the step without a clip."""
    one: dict[str, Any] = {"budget": {"epochs": 1, "batch_size": 442}, "split": SPLIT}

    def step(*clips: dict[str, Any]) -> Any:
        result = _run(**one, optimizer={"kind": "sgd", "lr": 1.0}, clips=list(clips))
        start = _run(**one, optimizer={"kind": "sgd", "lr": 1e-30}, clips=[])
        assert result.model is not None and start.model is not None
        pairs = zip(result.model.parameters(), start.model.parameters(), strict=True)
        return np.concatenate([(a - b).detach().double().numpy().ravel() for a, b in pairs])

    free, value = step(), step({"kind": "value", "max_value": 0.01})
    norm = step({"kind": "norm", "max_norm": 0.1})

    def cosine(one: Any, other: Any) -> float:
        return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))

    assert cosine(free, norm) == pytest.approx(1, abs=1e-5)  # float32 differences of weights
    assert cosine(free, value) < 0.99
    np.testing.assert_allclose(value, np.clip(free, -0.01, 0.01), atol=1e-6)


def test_a_normalised_gradient_settles_only_where_the_learning_rate_falls() -> None:
    """On the full batch, so that the loss's last wiggles are the steps' and not the batches'."""
    wiggles = {}
    for kind in ("constant", "cosine"):
        result = _run(
            clips=[{"kind": "normalize"}],
            optimizer={"kind": "sgd", "lr": 0.3},
            schedule={"kind": kind},
            budget={"epochs": 300, "batch_size": 442, "patience": 0},
            split=SPLIT,
        )
        wiggles[kind] = np.abs(np.diff(result.readings.loss[-20:])).max()
        settles = [f for f in result.report["findings"] if "cannot settle" in f["explanation"]]
        assert bool(settles) == (kind == "constant")
    assert wiggles["cosine"] < 0.1 * wiggles["constant"]


@pytest.mark.parametrize("kind", ["percentile", "zscore"])
def test_clips_that_find_their_own_limit_hold_back_an_outlying_batch(kind: str) -> None:
    """One target a thousand times too large, under squared error: one batch of the 14 in an epoch."""
    table = diabetes()
    table.columns["y"].values[3] *= 1000
    settings: dict[str, Any] = {
        "loss": {"kind": "mse"},
        "prepare": {"target": {"kind": "robust"}},
        "split": SPLIT,
        "optimizer": {"kind": "sgd", "lr": 1e-4},
        "budget": {"epochs": 12, "batch_size": 32, "patience": 0},
    }
    result = train(table, {**SMALL, **settings, "clips": [{"kind": kind}]})
    late = slice(100, None)  # they have seen enough by then
    before, after = (getattr(result.readings, name)[late] for name in ("global_norm", "clipped_norm"))
    assert after.max() < 0.5 * before.max()
    assert np.median(after) == pytest.approx(np.median(before))
    assert result.report["clipping"][0]["kind"] == kind


@pytest.mark.parametrize("kind", ["adam", "nadam", "radam", "rmsprop", "adagrad"])
def test_adaptive_optimizers_side_by_side(kind: str) -> None:
    result = _run(optimizer={"kind": kind, "lr": 0.01}, budget={"epochs": 12, "batch_size": 64})
    assert result.status == "succeeded"
    assert result.metrics["test"]["rmse"] < result.metrics["baselines"]["constant"]["rmse"]


@pytest.mark.parametrize("kind", ["sgd", "adam", "nadam", "radam", "rmsprop", "adagrad"])
def test_adaptive_optimizers_hardly_mind_the_scale_of_the_loss(kind: str) -> None:
    """delta · Huber(1) is smooth L1 times delta: mse against its double, huber with delta 1e6."""
    settings: dict[str, Any] = {"optimizer": {"kind": kind, "lr": 0.003}, "clips": []}
    single = _run(**settings, loss={"kind": "huber", "delta": 1e6})  # half the squared error
    double = _run(**settings, loss={"kind": "mse"})
    alike = np.allclose(single.readings.loss * 2, double.readings.loss, rtol=0.05)
    # radam does not divide by the gradient's size in its first steps.
    assert alike == (kind not in ("sgd", "radam"))


def test_quantiles_by_one_model_never_cross() -> None:
    levels = [0.1, 0.5, 0.9]
    result = train(diabetes(), {**SMALL, "loss": {"kind": "quantile", "levels": levels}})
    answers = result.predictions["prediction"]
    assert answers.shape == (len(result.predictions["actual"]), 3) and np.all(np.diff(answers, axis=1) >= 0)


def test_several_targets_are_scaled_each_by_itself() -> None:
    table = diabetes()
    y = table.columns["y"].values
    both = Table.from_arrays({"x": table.columns["bmi"].values, "y1": y, "y2": 1000 * y})
    result = train(both, {**SMALL, "target": ["y1", "y2"]})
    scaled = result.prepared.train.y
    np.testing.assert_allclose(scaled[:, 0], scaled[:, 1], atol=1e-5)  # float32 of numbers up to 4
    assert set(result.metrics["test"]["targets"]) == {"y1", "y2"}


def _passengers(months: int = 144) -> Table:
    """A series with a trend, a season that grows with it, and noise, as monthly passengers have."""
    t, draw = np.arange(months), np.random.default_rng(0)
    y = np.exp(4.8 + 0.01 * t) * (1 + 0.2 * np.sin(2 * np.pi * t / 12)) + 5 * draw.normal(size=months)
    return Table.from_arrays({"month": t, "passengers": np.round(y)})


def test_a_clip_keeps_a_recurrent_network_from_blowing_up() -> None:
    config = {
        "target": "passengers",
        "task": "forecast",
        "preset": "custom",
        "columns": {"order": "month"},
        "model": {"kind": "lstm", "width": 16, "window": 12, "change_from": "none"},
        "loss": {"kind": "mse"},
        "optimizer": {"kind": "sgd", "lr": 1.0, "momentum": 0.9},
        "budget": {"epochs": 15, "batch_size": 16, "patience": 0},
    }
    without = train(_passengers(), config | {"clips": [], "health": {"gradient_check": False}})
    clipped = train(_passengers(), config | {"clips": [{"kind": "norm", "max_norm": 0.25}]})
    assert np.nanmax(without.readings.global_norm) > 1e6
    assert np.max(clipped.readings.global_norm) < 100 and clipped.status == "succeeded"
    epochs = clipped.readings.epochs
    assert epochs[-1]["train_loss"] < 0.5 * epochs[0]["train_loss"]
    named = clipped.report["gradient_check"]["parameters"]
    assert named["layers.0.lstm.weight_hh_l0"]["status"] == "pass"
