"""Scalers against scikit-learn and by hand; the target's transform and its exact inverse."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, StandardScaler

from gradkeel.contract import config as contract
from gradkeel_worker.data.scalers import (
    NUMERIC_SCALERS,
    TARGET_SCALERS,
    TargetTransform,
    fit_scaler,
    fit_target,
    signed_log1p,
)

NUMBERS = arrays(np.float64, st.integers(2, 60), elements=st.floats(-1e6, 1e6))


def center_and_scale(kind, values):
    scaling = fit_scaler(contract.NUMERIC_SCALERS[kind](), values)
    return scaling.center, scaling.scale


@given(NUMBERS)
def test_standard_minmax_and_maxabs_are_scikit_learns(values):
    # bit-equality is not asked: scikit-learn sums in another order
    if np.ptp(values) < 1e-6 * (1 + np.abs(values).max()):
        return
    column = values[:, None]
    center, scale = center_and_scale("standard", values)
    np.testing.assert_allclose(
        (values - center) / scale, StandardScaler().fit_transform(column)[:, 0], atol=1e-9
    )
    center, scale = center_and_scale("minmax", values)
    np.testing.assert_allclose(
        (values - center) / scale, MinMaxScaler().fit_transform(column)[:, 0], atol=1e-9
    )
    center, scale = center_and_scale("maxabs", values)
    np.testing.assert_array_equal((values - center) / scale, MaxAbsScaler().fit_transform(column)[:, 0])


def test_robust_is_median_and_scaled_mad():
    assert center_and_scale("robust", np.array([1.0, 2, 3, 4, 100])) == (3.0, 1.4826)


def test_robust_falls_back_to_iqr_then_to_the_standard_deviation():
    mad_zero = np.array([0.0] * 6 + [2.0] * 4)
    assert center_and_scale("robust", mad_zero) == (0.0, pytest.approx(2 / 1.349))
    iqr_zero = np.array([0.0] * 9 + [10.0])
    assert center_and_scale("robust", iqr_zero) == (0.0, pytest.approx(3.0))


def test_robust_of_a_normal_column_is_its_standard_deviation():
    values = np.random.default_rng(0).normal(3, 5, 200_000)
    center, scale = center_and_scale("robust", values)
    assert (center, scale) == (pytest.approx(3, abs=0.05), pytest.approx(5, rel=0.01))


@pytest.mark.parametrize("kind", sorted(NUMERIC_SCALERS))
def test_constant_values_have_scale_one(kind):
    assert center_and_scale(kind, np.full(5, 7.0))[1] == 1.0


@pytest.mark.parametrize("size", [1e200, 1e-200])
def test_sizes_whose_squares_leave_float64(size):
    center, scale = center_and_scale("standard", np.array([1.0, 2.0, 3.0]) * size)
    assert center == pytest.approx(2 * size) and scale == pytest.approx(np.sqrt(2 / 3) * size)


def test_signed_log1p_is_odd():
    assert signed_log1p(np.array([-9.0, 0, 9])).tolist() == [-np.log(10), 0, np.log(10)]


# power: see test_curves.py; how exact it is depends on how flat its curve is
@given(NUMBERS, st.sampled_from(sorted(set(TARGET_SCALERS) - {"power"})))
def test_the_inverse_is_exact(values, kind):
    y = np.abs(values) if kind == "log1p" else values
    transform = fit_target(kind, y)
    np.testing.assert_allclose(transform.inverse(transform.forward(y)), y, rtol=1e-12, atol=1e-9)


def test_auto_is_standard_for_normal_and_robust_for_heavy_tails():
    y = np.random.default_rng(0).normal(150, 76, 2000)
    assert fit_target("auto", y).kind == "standard"
    y[::20] *= 20
    assert fit_target("auto", y).kind == "robust"


def test_log1p_has_no_scale():
    assert fit_target("log1p", np.array([2.0, 200.0])) == TargetTransform("log1p", 0.0, 1.0)


@pytest.mark.parametrize("kind", ["standard", "robust", "minmax"])
@pytest.mark.parametrize("count", [3, 7, 10, 1000])
def test_equal_values_are_not_scaled_by_the_rounding_of_their_mean(kind, count):
    assert center_and_scale(kind, np.full(count, 0.1))[1] == 1.0
