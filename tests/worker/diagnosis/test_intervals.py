"""Prediction intervals against brute force: what they promise, what they are measured to hold."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from gradkeel.local import NoInterval
from gradkeel.local.intervals import bounds, interval_at
from gradkeel_worker.data import Table
from gradkeel_worker.diagnosis.intervals import LEVELS, conformal_quantile
from gradkeel_worker.diagnosis.reliability import wilson
from gradkeel_worker.engine import train

from .test_several import QUICK, _arrays


@pytest.mark.parametrize(
    ("n", "level", "place"), [(9, 0.9, 9), (19, 0.95, 19), (99, 0.9, 90), (18, 0.95, None)]
)
def test_the_corrected_quantile(n: int, level: float, place: int | None) -> None:
    scores = np.random.default_rng(0).permutation(n) + 1.0
    assert conformal_quantile(scores, level) == (math.inf if place is None else place)


@pytest.mark.parametrize("level", LEVELS)
def test_coverage_over_many_draws_is_at_least_the_level(level: float) -> None:
    """It is ⌈(n + 1)·level⌉ / (n + 1) for exchangeable scores; 4000 draws have a standard error < 0.007."""
    rng, n = np.random.default_rng(0), 29
    held = [rng.normal() <= conformal_quantile(rng.normal(size=n), level) for _ in range(4000)]
    assert np.mean(held) == pytest.approx(math.ceil(30 * level - 1e-9) / 30, abs=0.02)


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (5, 5), (87, 100)])
def test_wilsons_interval_is_scipys(hits: int, n: int) -> None:
    known = binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson(hits, n) == pytest.approx((known.low, known.high), abs=1e-12)


def test_margins_below_nothing_meet_in_the_middle() -> None:
    predicted = np.array([[0.0, 5.0, 1.0], [0.0, 5.0, 10.0]])
    lower, upper = bounds(predicted, (0, 2), np.array([-2.0]))
    assert (lower.tolist(), upper.tolist()) == ([0.5, 2.0], [0.5, 8.0])


@pytest.mark.parametrize(
    "more",
    [{"target": "plain"}, {"target": ["plain", "hard"]}, {"target": "plain", "loss": {"kind": "quantile"}}],
)
def test_of_a_run(more: dict[str, object]) -> None:
    result = train(Table.from_arrays(_arrays(600)), QUICK | more)
    held = result.intervals
    assert held is not None and held == result.report["fit"]["intervals"] and held["rows"] == 90
    predicted, actual = result.predictions["prediction"], result.predictions["actual"]
    widths = []
    for one in held["levels"]:
        interval = interval_at({"intervals": held, "target": {"classes": None}}, one["level"])
        lower, upper = interval.around(predicted)
        inside = np.atleast_1d(((lower <= actual) & (actual <= upper)).mean(axis=0))
        assert one["coverage"] == inside.tolist() and one["tested_on"] == 90
        assert one["coverage_low"][0] < inside[0] <= one["coverage_high"][0]
        widths.append(one["width"][0])
    assert widths == sorted(widths)


def test_too_few_rows_and_other_levels_are_told() -> None:
    result = train(Table.from_arrays(_arrays(60)), QUICK | {"target": "plain", "budget": {"epochs": 1}})
    manifest = {"intervals": result.intervals, "target": {"classes": None}}
    with pytest.raises(NoInterval, match="9 validation rows are too few"):
        interval_at(manifest, 0.95)
    with pytest.raises(NoInterval, match=r"at 0\.8, 0\.9, 0\.95; not at 0\.5"):
        interval_at(manifest, 0.5)
    with pytest.raises(NoInterval, match="it predicts classes"):
        interval_at({"target": {"classes": ["a", "b"]}}, 0.9)
