"""Quantile tables and Yeo-Johnson powers against scikit-learn's transformers, and their exact inverse."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.preprocessing import PowerTransformer, QuantileTransformer

from gradkeel.contract import config as contract
from gradkeel_worker.data.curves import YeoJohnson, fit_quantiles
from gradkeel_worker.data.scalers import fit_scaler, fit_target

RNG = np.random.default_rng(0)
COLUMNS = {
    "normal": RNG.normal(3, 5, 700),
    "skewed": RNG.exponential(1e4, 700),
    "below zero": -RNG.lognormal(0, 1.5, 700),
    "counts": RNG.poisson(2.0, 700).astype(float),
    "mostly zero": np.where(RNG.random(700) < 0.8, 0.0, RNG.normal(size=700)),
    "two values": (RNG.random(700) < 0.3).astype(float),
    "few": np.array([3.0, 1.0, 2.0, 2.0]),
}
FAR = np.array([-1e9, -7.5, -1.0, 0.0, 0.4, 1.0, 2.5, 3.0, 1e9])


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("output", ["normal", "uniform"])
@pytest.mark.parametrize("n", [2, 10, 1000])
def test_quantiles_are_scikit_learns(column, output, n):
    values = COLUMNS[column]
    count = min(n, len(values))
    oracle = QuantileTransformer(n_quantiles=count, output_distribution=output, subsample=None)
    oracle.fit(values[:, None])
    curve = fit_quantiles(contract.Quantile(n=n, output=output), values)
    asked = np.concatenate([values, FAR, (values[1:] + values[:-1]) / 2])
    # scikit-learn takes what lies within 1e-7 of an end for the end itself; the ends are among the values
    # a share near 1 is known to 1e-16, and the normal number's slope there is up to 2e6
    expected = oracle.transform(asked[:, None])[:, 0]
    np.testing.assert_allclose(curve(asked), expected, rtol=1e-9, atol=1e-9)


def test_quantiles_of_a_tiny_column_are_told_apart():
    values = RNG.normal(size=500)
    block = contract.Quantile(n=100)
    tiny = fit_quantiles(block, values * 1e-12)(values * 1e-12)
    np.testing.assert_allclose(tiny, fit_quantiles(block, values)(values), atol=1e-6)


def test_quantiles_let_nan_through_and_take_infinities_for_the_ends():
    curve = fit_quantiles(contract.Quantile(output="uniform"), COLUMNS["normal"])
    np.testing.assert_array_equal(curve(np.array([np.nan, -np.inf, np.inf])), [np.nan, 0.0, 1.0])


@pytest.mark.parametrize("column", COLUMNS)
def test_power_is_scikit_learns(column):
    values = COLUMNS[column]
    scaling = fit_scaler(contract.Power(), values)
    oracle = PowerTransformer().fit(values[:, None])
    assert scaling.curve.power == pytest.approx(oracle.lambdas_[0], rel=1e-12)
    asked = np.concatenate([values, FAR])
    ours = (scaling.curve(asked) - scaling.center) / scaling.scale
    np.testing.assert_allclose(ours, oracle.transform(asked[:, None])[:, 0], rtol=1e-9, atol=1e-9)


@given(
    arrays(np.float64, st.integers(1, 20), elements=st.floats(-1e4, 1e4)),
    st.sampled_from([-0.8, 0.0, 0.3, 1.0, 1.7, 2.0, 2.6]),
)
def test_the_inverse_of_yeo_johnson_is_exact(values, power):
    # near the end of a curve one unit of rounding in z is (1 + |x|)^|1 − λ|, at most 1e4^2.6 of them, in x
    curve = YeoJohnson(power)
    np.testing.assert_allclose(curve.inverse(curve(values)), values, rtol=1e-5, atol=1e-9)


def test_a_power_whose_results_float64_cannot_hold_changes_nothing():
    for values in (1e9 + RNG.normal(size=300), RNG.normal(size=50) * 1e200, np.array([1.0, 1e300])):
        scaling = fit_scaler(contract.Power(), values)
        scaled = (scaling.curve(values) - scaling.center) / scaling.scale
        assert np.isfinite(scaled).all() and scaled.std() > 0.5


def test_a_target_beyond_the_end_of_the_curve_is_limited():
    values = 1 / RNG.uniform(0.01, 1.0, 500)
    transform = fit_target("power", values)
    assert transform.power < 0 and np.isfinite(transform.upper) and transform.lower == -np.inf
    # forward's limit, and so its inverse, is one range beyond the largest
    largest = values.max() + np.ptp(values)
    assert transform.inverse(np.array([1e6]))[0] == pytest.approx(largest)
    np.testing.assert_allclose(transform.inverse(transform.forward(values)), values, rtol=1e-9)
    mirrored = fit_target("power", -values)
    assert mirrored.inverse(np.array([-1e6]))[0] == pytest.approx(-largest)


@pytest.mark.parametrize("kind", ["power", "quantile"])
def test_constant_values_are_not_bent(kind):
    scaling = fit_scaler(contract.NUMERIC_SCALERS[kind](), np.full(5, 7.0))
    assert scaling.curve is None and scaling.scale == 1.0
