"""optimizer.lr "auto": what is found, that it is found again, and that the run is as if nothing was tried."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch

from gradkeel.contract.errors import ConfigError
from gradkeel.contract.resolve import resolve, to_json
from gradkeel_worker.data import Table
from gradkeel_worker.diagnosis.report import partial_report
from gradkeel_worker.engine import Result, train
from gradkeel_worker.engine.range_test import BACK_OFF, HIGHEST, LOWEST, judge_dry_run, judge_range
from gradkeel_worker.engine.readings import Readings

from .cases import SMALL, breast_cancer, diabetes, iris
from .test_resume import comparable, interrupted

Json = dict[str, Any]

AUTO: Json = SMALL | {"optimizer": {"kind": "adam", "lr": "auto"}, "health": {"gradient_check": False}}


def quadratic(rates: list[float], curvature: float) -> list[float]:
    """Losses ½λw² of gradient descent on one weight, in closed form: w ← (1 − lr · λ) w."""
    factors = 1 - curvature * np.array([0.0, *rates[:-1]])
    with np.errstate(over="ignore"):
        weights = np.cumprod(factors)
        return list((0.5 * curvature * weights**2 + 0.1).tolist())


@pytest.mark.parametrize("curvature", [0.3, 5.0, 300.0])
def test_the_edge_of_a_quadratic_is_found(curvature: float) -> None:
    """It is unstable above 2 / λ, and takes a few steps to blow up: the choice is below, by less than 20."""
    rates = np.geomspace(LOWEST, 1e3, 300).tolist()
    lowest, blown = judge_range(quadratic(rates, curvature), len(rates))
    assert lowest is not None and blown is not None
    assert 0.1 / curvature < rates[lowest] / BACK_OFF < 2 / curvature < rates[blown] < 40 / curvature
    assert lowest < blown


def test_a_loss_that_never_falls_tells_nothing() -> None:
    assert judge_range([1.0] * 50 + [2.0] * 50, 100)[0] is None
    assert judge_range([1.0, math.nan], 100) == (None, 1)
    assert judge_range([], 100) == (None, None)


def test_a_dry_run_is_confirmed_where_the_loss_stays_finite_and_falls() -> None:
    assert judge_dry_run(np.linspace(2, 1, 40).tolist(), 40)["confirmed"]
    assert not judge_dry_run(np.linspace(1, 2, 40).tolist(), 40)["confirmed"]
    assert not judge_dry_run([2.0, 1.0, math.nan], 40)["confirmed"]


def lowest_loss(result: Result) -> float:
    losses = [epoch["validation_loss"] for epoch in result.readings.epochs]
    return float(np.nanmin(np.array(losses, np.float64)))


OPTIMIZERS = ["sgd", "adam", "adamw", "nadam", "radam", "rmsprop", "adagrad"]


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_rate_is_found_that_trains(kind: str) -> None:
    budget = {"epochs": 30, "batch_size": 32, "patience": 0}
    config = AUTO | {"optimizer": {"kind": kind, "lr": "auto"}, "budget": budget}
    result = train(diabetes(), config)
    seen = result.report["provenance"]["lr_range_test"]
    lr = result.config.optimizer.lr
    assert LOWEST < lr < seen["lowest_loss_at"] < HIGHEST
    assert seen["confirmed"] and seen["dry_runs"][-1]["lr"] == lr
    assert result.report["provenance"]["config"]["optimizer"]["lr"] == lr
    assert result.status == "succeeded"
    grid = (1e-4, 1e-3, 1e-2, 1e-1)
    others = [train(diabetes(), config | {"optimizer": {"kind": kind, "lr": other}}) for other in grid]
    assert lowest_loss(result) < 1.25 * min(map(lowest_loss, others))


def found(table: Table, config: Json) -> tuple[Result, Json]:
    told: Json = {}
    result = train(table, config, on_event=lambda name, data: told.setdefault(name, data))
    return result, told


@pytest.mark.parametrize("table", [diabetes(), breast_cancer(), iris()], ids=["diabetes", "cancer", "iris"])
def test_the_run_is_as_if_nothing_had_been_tried(table: Table) -> None:
    dropout = {"model": {"kind": "mlp", "widths": [16, 8], "dropout": 0.3, "norm": "batch"}}
    result, told = found(table, AUTO | dropout)
    lr = result.config.optimizer.lr
    assert told["resolved"]["config"]["optimizer"]["lr"] == lr == told["log"]["lr"]
    assert f"{lr:.3g}" in told["log"]["message"]
    given = comparable(train(table, AUTO | dropout | {"optimizer": {"kind": "adam", "lr": lr}}))
    for key, value in comparable(result).items():
        assert given[key] == value, key


def test_a_rerun_finds_the_same_and_leaves_the_callers_random_state_alone() -> None:
    before = torch.get_rng_state()
    first, second = train(diabetes(), AUTO), train(diabetes(), AUTO)
    assert torch.equal(torch.get_rng_state(), before)
    assert comparable(first) == comparable(second)
    provenance = first.report["provenance"]
    assert provenance["lr_range_test"] == second.report["provenance"]["lr_range_test"]
    assert provenance["reproducible"] is True


def test_a_resumed_run_finds_the_same_rate_and_ends_bit_equal() -> None:
    whole = train(diabetes(), AUTO)
    result, went_on = interrupted(diabetes(), AUTO, [9])
    assert len(went_on) == 1 and 1 <= went_on[0] < len(whole.readings.steps)
    assert comparable(result) == comparable(whole)


def test_a_stop_that_is_asked_for_ends_it_at_once() -> None:
    result = train(diabetes(), AUTO, should_stop=lambda: "cancelled")
    assert result.status == "cancelled"
    assert result.report["provenance"]["lr_range_test"]["steps"] == 0


def test_where_nothing_can_be_learnt_the_default_stands_unconfirmed() -> None:
    table = diabetes()
    table.columns["bp"].values[::2] = np.nan
    result, told = found(table, AUTO | {"prepare": {"missing": {"kind": "propagate"}}})
    assert result.config.optimizer.lr == 1e-3
    assert not result.report["provenance"]["lr_range_test"]["confirmed"]
    assert "no dry run confirmed it" in told["log"]["message"]


def test_what_is_neither_a_number_nor_auto_is_refused() -> None:
    for wrong in ("fast", 0, -1, None, True):
        with pytest.raises(ConfigError) as refused:
            resolve({"target": "y", "optimizer": {"kind": "adam", "lr": wrong}})
        assert [error.pointer for error in refused.value.errors] == ["/optimizer/lr"]
    assert to_json(resolve({"target": "y", "optimizer": {"lr": "auto"}}))["optimizer"]["lr"] == "auto"


def test_a_report_on_a_job_that_died_before_has_a_rate_to_read() -> None:
    report = partial_report(Readings(), resolve(AUTO), copy.deepcopy(AUTO), "worker_lost")
    assert not any("could not be judged" in note for note in report["provenance"]["notes"])
