"""What forecasts are held against, beside a naive search; and what the report says where they lose."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradkeel.contract.resolve import resolve
from gradkeel_worker.data import Prepared, Table, prepare
from gradkeel_worker.data.references import season
from gradkeel_worker.diagnosis.forecasts import naive_forecasts, scale_of_changes
from gradkeel_worker.engine import train

Json = dict[str, Any]


def _config(**model: Any) -> Json:
    return {
        "target": "y",
        "task": "forecast",
        "preset": "custom",
        "model": {"kind": "gru", "width": 3, "window": 4, **model},
        "columns": {"order": "t", "group": "g"},
        "budget": {"epochs": 1, "batch_size": 64},
        "health": {"gradient_check": False},
    }


def _seasonal(length: int, n: int = 120, noise: float = 0.1) -> Table:
    """Two series with a season of so many rows, a trend and a little noise."""
    draw = np.random.default_rng(0)
    t = np.tile(np.arange(n), 2)
    y = 3 * np.sin(2 * np.pi * t / length) + 0.01 * t + noise * draw.normal(size=2 * n)
    return Table.from_arrays({"t": t, "g": np.repeat(["a", "b"], n), "y": y})


def _prepared(table: Table, **model: Any) -> Prepared:
    return prepare(table, resolve(_config(**model)))


@pytest.mark.parametrize("length", [4, 7, 12])
def test_a_plain_season_is_found(length: int) -> None:
    assert season(_prepared(_seasonal(length)).train) == length


def test_noise_and_trends_have_no_season() -> None:
    draw = np.random.default_rng(0)
    for y in (draw.normal(size=200), np.cumsum(draw.normal(size=200))):
        table = Table.from_arrays({"t": np.tile(np.arange(100), 2), "g": np.repeat(["a", "b"], 100), "y": y})
        assert season(_prepared(table).train) is None


@pytest.mark.parametrize("horizon", [1, 3, 9])
def test_naive_forecasts_are_those_of_a_search_by_hand(horizon: int) -> None:
    table = _seasonal(7)
    prepared = _prepared(table, horizon=horizon)
    found = naive_forecasts(prepared)["test"]
    value = {(g, t): y for g, t, y in zip(*(table.columns[name].values for name in "gty"), strict=True)}
    back = 7 * -(-horizon // 7)
    for i, row in enumerate(prepared.test.rows):
        g, t = (table.columns[name].values[row] for name in "gt")
        assert found["naive"][i] == value[g, t - horizon]
        assert found["seasonal_naive"][i] == value[g, t - back]


def test_a_missing_target_is_stood_for_by_the_last_known_one() -> None:
    table = _seasonal(7)
    gone = 115
    table.columns["y"].values[gone] = np.nan
    prepared = _prepared(table)
    after = int(np.flatnonzero(prepared.test.rows == gone + 1)[0])
    assert naive_forecasts(prepared)["test"]["naive"][after] == table.columns["y"].values[gone - 1]


def test_mase_is_measured_in_the_mean_change_of_training_rows() -> None:
    table = _seasonal(7)
    prepared = _prepared(table)
    trained = np.sort(prepared.train.rows)
    y = table.columns["y"].values
    changes = [abs(y[row] - y[row - 1]) for row in trained if row - 1 in set(trained) and row % 120]
    assert scale_of_changes(prepared) == pytest.approx(np.mean(changes))


def test_the_report_says_plainly_that_an_earlier_value_is_better() -> None:
    result = train(_seasonal(12, noise=0.01), _config(change_from="none"))
    metrics = result.metrics
    assert set(metrics["baselines"]) == {"constant", "ridge", "naive", "seasonal_naive"}
    scale = scale_of_changes(result.prepared)
    assert scale is not None
    for each in (metrics["test"], *metrics["baselines"].values()):
        assert each["mase"] == pytest.approx(each["mae"] / scale)
    (finding,) = [f for f in result.report["findings"] if f["rule"] == "no_better_than_baseline"]
    assert finding["severity"] == "critical" and finding["evidence"]["baseline"] == "constant"
    assert "As a forecast, the last known value gives" in finding["explanation"]


def test_a_model_that_an_earlier_value_beats_gets_a_finding_and_a_longer_window() -> None:
    config = _config() | {
        "budget": {"epochs": 30, "batch_size": 32},
        "optimizer": {"kind": "adamw", "lr": 0.01},
    }
    result = train(_seasonal(12, noise=0.01), config)
    (finding,) = [f for f in result.report["findings"] if f["rule"] == "no_better_than_baseline"]
    assert finding["evidence"]["baseline"] == "seasonal_naive" and finding["severity"] == "warning"
    assert "the value one season back is better" in finding["explanation"]
    assert finding["remedy"]["patch"] == {"model": {"window": 8}}
    assert "the value one season back" in result.report["summary"]


def test_a_regression_over_windows_is_held_against_constant_and_ridge_alone() -> None:
    table = _seasonal(7)
    table.columns["y"].values[:] = np.roll(table.columns["y"].values, 1)
    x = Table.from_arrays({**{n: c.values for n, c in table.columns.items()}, "x": np.arange(240.0)})
    result = train(x, {**_config(), "task": "regression", "split": {"kind": "ordered"}})
    assert set(result.metrics["baselines"]) == {"constant", "ridge"} and "mase" not in result.metrics["test"]
