"""Reliability, calibration and thresholds against scikit-learn and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression

from gradkeel_worker.data.decision import Decision, tempered
from gradkeel_worker.diagnosis.calibration import calibrate, fit_temperature
from gradkeel_worker.diagnosis.classification import classification_details, threshold_details
from gradkeel_worker.diagnosis.reliability import brier, calibration_error, reliability, wilson
from gradkeel_worker.diagnosis.residuals import residual_details
from gradkeel_worker.diagnosis.thresholds import THRESHOLDS, choose, metrics_at

Array = np.ndarray


def binary(rows: int = 600, sharpness: float = 1.0, seed: int = 0) -> tuple[Array, Array]:
    """Classes drawn from logits, and the probabilities of logits that are `sharpness` times those."""
    draw = np.random.default_rng(seed)
    logits = 1.5 * draw.normal(size=rows) - 1.0
    actual = (draw.random(rows) < 1 / (1 + np.exp(-logits))).astype(int)
    positive = 1 / (1 + np.exp(-sharpness * logits))
    return actual, np.stack([1 - positive, positive], axis=1)


def classes(rows: int = 500, seed: int = 1) -> tuple[Array, Array]:
    draw = np.random.default_rng(seed)
    logits = 2 * draw.normal(size=(rows, 4))
    told = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return np.array([draw.choice(4, p=row) for row in told]), told


def test_the_brier_score_is_scikit_learns() -> None:
    actual, told = binary()
    assert brier(actual, told) == pytest.approx(sk.brier_score_loss(actual, told[:, 1]), rel=1e-12)
    actual, told = classes()
    assert brier(actual, told) == pytest.approx(sk.brier_score_loss(actual, told), rel=1e-12)


def test_the_reliability_curve_is_scikit_learns_of_equal_counts() -> None:
    actual, told = binary()
    bins = reliability(actual == 1, told[:, 1])
    observed, predicted = calibration_curve(actual, told[:, 1], n_bins=10, strategy="quantile")
    np.testing.assert_allclose([one["observed"] for one in bins], observed, rtol=1e-12)
    np.testing.assert_allclose([one["predicted"] for one in bins], predicted, rtol=1e-12)
    assert {one["count"] for one in bins} == {60}
    assert all(one["low"] <= one["observed"] <= one["high"] for one in bins)
    expected = np.mean(np.abs(observed - predicted))
    assert calibration_error(bins) == pytest.approx(expected, rel=1e-12)


def test_equal_probabilities_share_a_bin() -> None:
    assert [one["count"] for one in reliability(np.arange(200) % 2 == 0, np.full(200, 0.5))] == [200]
    assert reliability(np.zeros(0, bool), np.zeros(0)) == []


@pytest.mark.parametrize(("hits", "count"), [(0, 10), (10, 10), (3, 17), (81, 263)])
def test_the_interval_solves_wilsons_equation(hits: int, count: int) -> None:
    share, z = hits / count, 1.959963984540054
    for bound in wilson(hits, count):
        # each bound is a share p with |share − p| = z·√(p(1 − p)/n); 1e-7 for the square root near 0 and 1
        assert abs(share - bound) == pytest.approx(z * np.sqrt(bound * (1 - bound) / count), abs=1e-7)
    # Brown, Cai & DasGupta 2001 have (0.244, 0.366) for 81 of 263 after rounding
    assert tuple(round(bound, 3) for bound in wilson(81, 263)) == (0.255, 0.366)


def test_the_threshold_is_the_best_of_all() -> None:
    actual, told = binary(rows=300)
    scores = {"f1": sk.f1_score, "balanced_accuracy": sk.balanced_accuracy_score}
    for kind, oracle in scores.items():
        score = THRESHOLDS[kind]
        assert score is not None
        best = max(oracle(actual, told[:, 1] > t) for t in [0.5, *np.unique(told[:, 1]) - 1e-9])
        chosen = choose(score, actual, told[:, 1])
        assert oracle(actual, told[:, 1] > chosen) == pytest.approx(best, rel=1e-12)
        assert np.abs(told[:, 1] - chosen).min() > 0


def test_youdens_threshold_is_that_of_balanced_accuracy() -> None:
    actual, told = binary(rows=300)
    fpr, tpr, _ = sk.roc_curve(actual, told[:, 1], drop_intermediate=False)
    score = THRESHOLDS["balanced_accuracy"]
    assert score is not None
    chosen = choose(score, actual, told[:, 1])
    youden = metrics_at(actual, told[:, 1], chosen)["balanced_accuracy"] * 2 - 1
    assert youden == pytest.approx((tpr - fpr).max(), rel=1e-12)


def test_where_every_threshold_is_as_good_one_half_stays() -> None:
    score = THRESHOLDS["f1"]
    assert score is not None
    assert choose(score, np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.8, 0.9])) == 0.5
    assert choose(score, np.array([0, 1]), np.array([0.0, 0.0])) in (0.0, 0.5)


def test_what_a_threshold_gives_is_scikit_learns() -> None:
    actual, told = binary()
    found = metrics_at(actual, told[:, 1], 0.35)
    named = told[:, 1] > 0.35
    assert found["confusion"] == sk.confusion_matrix(actual, named).tolist()
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(actual, named))
    assert found["precision"] == pytest.approx(sk.precision_score(actual, named))
    assert found["recall"] == pytest.approx(sk.recall_score(actual, named))
    assert found["specificity"] == pytest.approx(sk.recall_score(1 - actual, ~named))
    assert found["f1"] == pytest.approx(sk.f1_score(actual, named))
    assert found["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(actual, named))


def test_only_one_class_to_choose_by_gives_no_threshold() -> None:
    actual, told = binary()
    parts = {"validation": (np.zeros(len(actual), int), told), "test": (actual, told)}
    assert threshold_details(parts, "f1", 0) is None


def test_every_class_has_its_line() -> None:
    actual, told = classes()
    found = classification_details(actual, told, Decision(), ("a", "b", "c", "d"), 0)
    assert found is not None
    named = told.argmax(axis=1)
    assert found["confusion"]["counts"] == sk.confusion_matrix(actual, named).tolist()
    for k, line in enumerate(found["classes"]):
        assert line["recall"] == pytest.approx(sk.recall_score(actual, named, labels=[k], average=None)[0])
        assert line["auc"] == pytest.approx(sk.roc_auc_score(actual == k, told[:, k]))
        assert line["average_precision"] == pytest.approx(sk.average_precision_score(actual == k, told[:, k]))
    assert found["reliability_of"] is None


def test_many_rows_are_sampled_and_it_is_said() -> None:
    actual, told = binary(rows=60_000)
    found = classification_details(actual, told, Decision(), ("no", "yes"), 3)
    assert found is not None
    assert (found["rows"], found["rows_of"]) == (50_000, 60_000)
    assert found == classification_details(actual, told, Decision(), ("no", "yes"), 3)


@pytest.mark.parametrize("sharpness", [0.4, 1.0, 3.0])
def test_the_temperature_is_that_of_a_logistic_regression_through_the_origin(sharpness: float) -> None:
    actual, told = binary(rows=2000, sharpness=sharpness)
    logits = np.log(told[:, 1] / told[:, 0])
    oracle = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(logits[:, None], actual)
    # both find the zero of the same derivative: 1/T is the coefficient; lbfgs stops at 1e-6 of it
    assert 1 / fit_temperature(actual, told) == pytest.approx(oracle.coef_[0, 0], rel=1e-4)


def test_the_temperature_of_classes_has_the_least_log_loss_of_a_grid() -> None:
    actual, told = classes()
    over = tempered(told, 0.3)
    found = fit_temperature(actual, over)
    grid = np.geomspace(0.05, 20, 4000)
    best = grid[np.argmin([sk.log_loss(actual, tempered(over, t)) for t in grid[::20]]) * 20]
    assert found == pytest.approx(best, rel=0.04)  # the grid's step is 3 %
    assert sk.log_loss(actual, tempered(over, found)) <= sk.log_loss(actual, tempered(over, best)) + 1e-9


def test_dividing_the_logits_is_what_tempering_does() -> None:
    logits = np.random.default_rng(0).normal(size=(50, 5)) * 4
    told = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    divided = np.exp(logits / 2.5)
    np.testing.assert_allclose(tempered(told, 2.5), divided / divided.sum(axis=1, keepdims=True), rtol=1e-12)


def test_a_temperature_is_better_only_where_held_out_rows_say_so() -> None:
    sharp = calibrate(*binary(sharpness=3.0), 0)
    assert sharp["better"] and sharp["log_loss_after"] < sharp["log_loss_before"]
    assert sharp["temperature"] == pytest.approx(3.0, rel=0.25)
    assert calibrate(*binary(rows=20), 0)["temperature"] is None
    true = [calibrate(*binary(seed=seed), 0) for seed in range(6)]
    assert not all(one["better"] for one in true)


def test_separable_rows_get_the_coldest_and_hopeless_ones_the_hottest() -> None:
    actual = np.array([0, 1] * 50)
    right = np.where(actual[:, None] == [0, 1], 0.6, 0.4)
    assert fit_temperature(actual, right) == 0.05
    assert fit_temperature(actual, right[:, ::-1]) == 20.0


def test_residuals_are_summed_up_as_scikit_learn_does() -> None:
    draw = np.random.default_rng(0)
    actual = draw.lognormal(size=300)
    predicted = actual + draw.normal(size=300)
    found = residual_details(actual, predicted)
    assert found is not None
    assert found["median_absolute_error"] == pytest.approx(sk.median_absolute_error(actual, predicted))
    assert found["largest_absolute_error"] == pytest.approx(sk.max_error(actual, predicted))
    assert found["mape"] == pytest.approx(sk.mean_absolute_percentage_error(actual, predicted))
    assert found["quantiles"]["0.95"] == pytest.approx(np.quantile(predicted - actual, 0.95))
    shifted = residual_details(actual - 1, predicted)
    assert shifted is not None and shifted["mape"] is None
    assert residual_details(actual, predicted * np.nan) is None
