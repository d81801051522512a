"""Metrics and baselines against scikit-learn and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn.linear_model import Ridge

from gradkeel.contract import config as contract
from gradkeel.contract.resolve import resolve
from gradkeel_worker.data import Table, prepare
from gradkeel_worker.diagnosis.baselines import fit_baselines
from gradkeel_worker.diagnosis.best_constant import best_constant_loss, row_loss
from gradkeel_worker.diagnosis.gain import gains, paired_gain
from gradkeel_worker.diagnosis.metrics import classification_metrics, regression_metrics
from worker.diagnosis.runs import diabetes


def test_regression_metrics_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    actual = rng.normal(size=200)
    predicted = actual + rng.normal(size=200)
    found = regression_metrics(actual, predicted)
    assert found["rmse"] == pytest.approx(sk.root_mean_squared_error(actual, predicted))
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(actual, predicted))
    assert found["r2"] == pytest.approx(sk.r2_score(actual, predicted))


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_regression_metrics_neither_overflow_nor_vanish(scale: float) -> None:
    actual = np.array([1.0, 2.0, 3.0])
    found = regression_metrics(actual * scale, (actual + 1) * scale)
    assert found["rmse"] == pytest.approx(scale)


def test_predictions_that_are_no_numbers_have_no_metrics() -> None:
    assert set(regression_metrics(np.ones(2), np.array([1.0, np.nan])).values()) == {None}
    assert set(regression_metrics(np.zeros(0), np.zeros(0)).values()) == {None}


def test_binary_metrics_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    actual = rng.integers(0, 2, 300)
    positive = np.clip(0.3 * actual + rng.uniform(0, 0.7, 300), 0, 1)
    found = classification_metrics(actual, np.stack([1 - positive, positive], axis=1))
    assert found["log_loss"] == pytest.approx(sk.log_loss(actual, positive))
    assert found["auc"] == pytest.approx(sk.roc_auc_score(actual, positive))
    assert found["average_precision"] == pytest.approx(sk.average_precision_score(actual, positive))
    assert found["f1"] == pytest.approx(sk.f1_score(actual, positive > 0.5))


def test_multiclass_metrics_are_one_vs_rest_means() -> None:
    rng = np.random.default_rng(0)
    actual = rng.integers(0, 3, 300)
    scores = rng.dirichlet(np.ones(3), 300) + np.eye(3)[actual]
    probabilities = scores / scores.sum(axis=1, keepdims=True)
    found = classification_metrics(actual, probabilities)
    expected = sk.roc_auc_score(actual, probabilities, multi_class="ovr", average="macro")
    assert found["auc"] == pytest.approx(expected)
    assert found["log_loss"] == pytest.approx(sk.log_loss(actual, probabilities))
    assert found["f1"] == pytest.approx(sk.f1_score(actual, probabilities.argmax(1), average="macro"))


def test_a_single_class_has_no_ranking() -> None:
    found = classification_metrics(np.zeros(5, int), np.tile([0.9, 0.1], (5, 1)))
    assert found["auc"] is None
    assert found["accuracy"] == 1.0


LOSSES = [contract.MSE(), contract.MAE(), contract.Huber(delta=0.7), contract.SmoothL1(beta=0.5)]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.kind)
def test_the_best_constant_is_the_best_of_a_grid(loss: contract.Loss) -> None:
    y = np.random.default_rng(0).lognormal(size=400)
    grid = np.linspace(y.min(), y.max(), 20_001)
    best = min(float(row_loss(loss, y - constant).mean()) for constant in grid)
    # The grid's step is 5e-5 of the range: its best is hardly above the true one.
    assert best_constant_loss(loss, y) == pytest.approx(best, rel=1e-3)


@pytest.mark.parametrize("weight", [None, 3.0])
def test_the_best_constant_of_two_classes(weight: float | None) -> None:
    y = (np.random.default_rng(0).random(500) < 0.2).astype(float)
    logits = np.linspace(-6, 6, 20_001)[:, None]
    w = weight or 1.0
    share = y.mean()
    losses = w * share * np.log1p(np.exp(-logits)) + (1 - share) * np.log1p(np.exp(logits))
    assert best_constant_loss(contract.BCE(pos_weight=weight), y) == pytest.approx(
        float(losses.min()), rel=1e-6
    )


def test_the_best_constant_of_classes_is_their_entropy() -> None:
    y = np.repeat([0, 1, 2], [50, 30, 20])
    p = np.array([0.5, 0.3, 0.2])
    assert best_constant_loss(contract.CrossEntropy(), y, 3) == pytest.approx(-np.sum(p * np.log(p)))


def test_ridge_is_the_same_whatever_the_preparation_did_to_units() -> None:
    base = {"target": "target", "budget": {"batch_size": 64}}
    table = Table.from_arrays(diabetes())
    scaled = prepare(table, resolve(base))
    raw = prepare(
        table, resolve(base | {"prepare": {"numeric": {"kind": "none"}, "target": {"kind": "none"}}})
    )
    a, b = fit_baselines(scaled)["test"].ridge, fit_baselines(raw)["test"].ridge
    np.testing.assert_allclose(a, b, rtol=1e-4)  # float32 features
    x = np.asarray(scaled.train.x, np.float64)
    center, scale = x.mean(0), x.std(0)
    y = scaled.train.y_raw
    oracle = Ridge(1.0).fit((x - center) / scale, y)
    np.testing.assert_allclose(a, oracle.predict((scaled.test.x - center) / scale), rtol=1e-6)


def test_categories_reach_the_linear_baseline() -> None:
    rng = np.random.default_rng(0)
    zone = rng.choice(list("abc"), 400)
    y = np.array([{"a": 0.0, "b": 5.0, "c": -3.0}[z] for z in zone])
    table = Table.from_arrays({"zone": zone, "noise": rng.normal(size=400), "y": y})
    prepared = prepare(table, resolve({"target": "y", "budget": {"batch_size": 64}}))
    predicted = fit_baselines(prepared)["test"].ridge
    assert regression_metrics(prepared.test.y_raw, predicted)["rmse"] < 0.1  # type: ignore[operator]


def test_the_interval_of_a_gain_covers_it_and_shrinks_with_rows() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for rows in (100, 10_000):
        model, baseline = rng.chisquare(1, rows), rng.chisquare(1, rows) * 1.5
        gain = paired_gain(model, baseline, root=False)
        assert gain is not None
        assert gain.low < gain.value < gain.high
        widths.append(gain.high - gain.low)
    assert widths[1] < widths[0] / 5


def test_no_gain_over_a_twin_and_no_claim_without_a_model() -> None:
    errors = np.random.default_rng(0).random(50)
    gain = paired_gain(errors, errors.copy(), root=True)
    assert gain is not None
    assert not gain.certain
    assert gains({"rmse": {"constant": errors, "ridge": errors}}) == {}
