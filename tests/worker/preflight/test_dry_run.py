"""Real steps below and above the limit of a known quadratic, and what is told of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gradkeel.contract.presets import Shape
from gradkeel_worker.data import Table
from gradkeel_worker.preflight.arms import Arm, arms_of
from gradkeel_worker.preflight.dry_run import ATTEMPTS, LOWER, confirm, dry_run

Json = dict[str, Any]
STEPS = 40


def arm(scale: float = 1.0, **config: Any) -> Arm:
    """A line through the origin, full batches: the loss is a quadratic of one weight."""
    x = np.random.default_rng(0).normal(size=60)
    data = Table.from_arrays({"x": x, "y": scale * (3 * x + 0.1 * np.cos(40 * x))})
    submitted: Json = {
        "target": "y",
        "preset": "custom",
        "model": {"kind": "linear", "bias": False, "init": {"kind": "constant", "value": 2.5}},
        "prepare": {"numeric": {"kind": "none"}, "target": {"kind": "none"}},
        "loss": {"kind": "mse"},
        "optimizer": {"kind": "sgd"},
        "clips": [],
        "budget": {"batch_size": 60},
    }
    return arms_of(data, submitted | config, Shape(rows=60, numeric=1, categorical=0))[0]


def curvature(one: Arm) -> float:
    return float(2 * np.mean(one.prepared.train.x.astype(np.float64) ** 2))


def test_below_the_limit_it_is_stable_and_above_it_is_not() -> None:
    one = arm()
    limit = 2 / curvature(one)
    below = dry_run(one.prepared, one.config, 0.05 * limit, STEPS)
    above = dry_run(one.prepared, one.config, 1.05 * limit, STEPS)
    assert (below.stable, below.falls, above.stable, above.falls) == (True, True, False, False)
    # by hand: the weight's distance from its best shrinks by 1 − lr·λ a step
    x, y = one.prepared.train.x[:, 0].astype(np.float64), one.prepared.train.y.astype(np.float64)
    best = x @ y / (x @ x)
    last = best + (2.5 - best) * (1 - 0.1) ** STEPS
    assert below.loss_before == pytest.approx(np.mean((2.5 * x - y) ** 2), rel=1e-5)
    assert below.loss_after == pytest.approx(np.mean((last * x - y) ** 2), rel=1e-4)
    assert below.steps == STEPS


def test_lower_rates_are_tried_until_one_is_stable() -> None:
    one = arm()
    found, tried = confirm(one.prepared, one.config, 20 / curvature(one), STEPS, lambda: False)
    assert found.stable and 1 < len(tried) <= ATTEMPTS
    assert [each["stable"] for each in tried] == [False] * (len(tried) - 1) + [True]
    assert tried[0]["lr"] / tried[1]["lr"] == pytest.approx(LOWER, rel=0.1)  # rates have two digits
    found, tried = confirm(one.prepared, one.config, 1e30, STEPS, lambda: False)
    assert not found.stable and len(tried) == ATTEMPTS and found.loss_after is None


def test_steps_too_small_to_show_are_stable_but_do_not_fall() -> None:
    one = arm()
    found = dry_run(one.prepared, one.config, 1e-12, STEPS)
    assert (found.stable, found.falls) == (True, False)


def test_clips_are_those_of_the_training() -> None:
    one = arm(clips=[{"kind": "norm", "max_norm": 0.01}])
    found = dry_run(one.prepared, one.config, 1.0, STEPS)
    # 40 steps of 0.01 from 2.5 towards 3: all clipped
    x, y = one.prepared.train.x[:, 0].astype(np.float64), one.prepared.train.y.astype(np.float64)
    assert found.loss_after == pytest.approx(np.mean((2.9 * x - y) ** 2), rel=1e-3)


def test_errors_are_comparable_between_units_of_the_target() -> None:
    prepare = {"target": {"kind": "standard"}}
    small, large = (arm(scale, prepare=prepare) for scale in (1.0, 1e6))
    first, second = (dry_run(one.prepared, one.config, 0.1, STEPS) for one in (small, large))
    assert first.error == pytest.approx(second.error, rel=1e-4)  # float32 targets
    assert first.error_of == "rmse over the best constant's, held-out rows"


def test_without_held_out_rows_the_error_is_that_of_the_training_rows() -> None:
    one = arm()
    alone = replace(one.prepared, validation=one.prepared.validation.take(slice(0, 0)))
    assert dry_run(alone, one.config, 0.1, 4).error_of.endswith("training rows")
