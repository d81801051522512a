"""Metrics, baselines, rules and reports of several quantiles and several targets."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn.linear_model import Ridge

from gradkeel.contract.patch import merge_patch
from gradkeel.contract.resolve import resolve
from gradkeel_worker.data import Table, prepare
from gradkeel_worker.diagnosis.baselines import fit_baselines
from gradkeel_worker.diagnosis.metrics import quantile_metrics, targets_metrics
from gradkeel_worker.diagnosis.report import worst_target
from gradkeel_worker.engine import train
from gradkeel_worker.series import write_predictions

LEVELS = (0.1, 0.5, 0.9)
QUICK: dict[str, Any] = {
    "preset": "custom",
    "model": {"kind": "mlp", "widths": [16]},
    "optimizer": {"kind": "adamw", "lr": 0.02},
    "budget": {"epochs": 12, "batch_size": 32, "patience": 0},
}


QUANTILES: dict[str, Any] = {"loss": {"kind": "quantile"}}


def _arrays(rows: int = 400) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=rows), rng.normal(size=rows)
    plain = 100 + 30 * a + 3 * rng.normal(size=rows)
    return {"a": a, "b": b, "plain": plain, "hard": 1e-3 * (b + 2 * rng.normal(size=rows))}


def test_quantile_metrics_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    actual = rng.normal(size=200)
    predicted = np.sort(rng.normal(size=(200, 3)), axis=1)
    found = quantile_metrics(actual, predicted, LEVELS)
    each = [sk.mean_pinball_loss(actual, predicted[:, i], alpha=a) for i, a in enumerate(LEVELS)]
    assert [one["pinball"] for one in found["levels"].values()] == pytest.approx(each)
    assert found["pinball"] == pytest.approx(np.mean(each))
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(actual, predicted[:, 1]))
    assert found["rmse"] == pytest.approx(sk.root_mean_squared_error(actual, predicted[:, 1]))
    assert found["levels"]["0.9"]["coverage"] == np.mean(actual <= predicted[:, 2])
    inside = (actual >= predicted[:, 0]) & (actual <= predicted[:, 2])
    assert found["interval_coverage"] == inside.mean()
    assert found["interval_width"] == pytest.approx(np.mean(predicted[:, 2] - predicted[:, 0]))


def test_what_the_levels_lack_has_no_metric() -> None:
    found = quantile_metrics(np.arange(3.0), np.ones((3, 1)), (0.9,))
    assert set(found) == {"pinball", "levels"}
    assert quantile_metrics(np.zeros(0), np.zeros((0, 1)), (0.9,)) == {"pinball": None}


def test_metrics_of_several_targets_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    actual = rng.normal(size=(200, 2)) * [1, 1000]
    predicted = actual + rng.normal(size=(200, 2)) * [2, 100]
    scale = actual.std(axis=0)
    found = targets_metrics(actual, predicted, ("p", "q"), scale)
    assert found["r2"] == pytest.approx(sk.r2_score(actual, predicted))
    assert found["rmse"] == pytest.approx(sk.root_mean_squared_error(actual, predicted))
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(actual, predicted))
    flat = sk.root_mean_squared_error((actual / scale).ravel(), (predicted / scale).ravel())
    assert found["scaled_rmse"] == pytest.approx(flat)
    assert found["targets"]["q"]["mae"] == pytest.approx(
        sk.mean_absolute_error(actual[:, 1], predicted[:, 1])
    )
    assert worst_target(found) == "p"


def test_baselines_of_quantiles_are_numpys() -> None:
    config = resolve(QUICK | {"target": "plain", "loss": {"kind": "quantile", "levels": list(LEVELS)}})
    prepared = prepare(Table.from_arrays(_arrays()), config)
    found = fit_baselines(prepared)["test"]
    y, x = prepared.train.y_raw, prepared.train.x.astype(float)
    assert found.constant == pytest.approx(np.tile(np.quantile(y, LEVELS), (60, 1)))
    # Both ridges see columns of standard deviation 1, and a penalty of 1 on targets of another unit.
    line = Ridge(alpha=1.0).fit(x, y)
    shift = np.quantile(y - line.predict(x), LEVELS)
    assert found.ridge == pytest.approx(
        line.predict(prepared.test.x.astype(float))[:, None] + shift, rel=1e-6
    )


def test_baselines_of_several_targets_are_those_of_each() -> None:
    table = Table.from_arrays(_arrays())
    both = fit_baselines(prepare(table, resolve(QUICK | {"target": ["plain", "hard"]})))["test"]
    alone = resolve(QUICK | {"target": "hard", "columns": {"exclude": ["plain"]}})
    one = fit_baselines(prepare(table, alone))["test"]
    for name in ("constant", "ridge", "constant_mae"):
        assert getattr(both, name)[:, 1] == pytest.approx(getattr(one, name), rel=1e-9)


def test_a_run_of_two_targets() -> None:
    result = train(Table.from_arrays(_arrays()), QUICK | {"target": ["plain", "hard"]})
    assert (result.status, result.report["verdict"]) == ("succeeded", "healthy")
    metrics = result.metrics["test"]
    prediction, actual = result.predictions["prediction"], result.predictions["actual"]
    assert metrics["rmse"] == pytest.approx(sk.root_mean_squared_error(actual, prediction))
    assert metrics["targets"]["plain"]["r2"] > 0.9 > metrics["targets"]["hard"]["r2"]
    fit = result.report["fit"]
    assert fit["worst_target"] == fit["sample_of"] == "hard"
    assert fit["gain"]["constant"]["scaled_rmse"]["value"] > 0
    assert result.report["provenance"]["notes"] == []
    checks = result.report["gradient_check"]["parameters"].values()
    assert {one["status"] for one in checks} <= {"pass", "kink"}
    assert "scaled_rmse" not in result.readings.epochs[-1] and result.readings.epochs[-1]["rmse"] > 0


def test_the_resolved_config_says_that_each_target_is_scaled_by_its_own_tails() -> None:
    arrays = _arrays(90) | {"wild": np.random.default_rng(1).standard_cauchy(90)}
    blocks = {"prepare": {"target": {"kind": "auto"}}, "budget": {"epochs": 1}}
    result = train(Table.from_arrays(arrays), QUICK | blocks | {"target": ["plain", "wild"]})
    assert result.config.prepare.target.kind == "auto"
    assert "each of the targets" in result.config.chosen["/prepare/target"]
    assert result.report["provenance"]["notes"] == []


def test_a_run_of_three_quantiles() -> None:
    config = QUICK | {"target": "plain", "loss": {"kind": "quantile", "levels": list(LEVELS)}}
    arrays = {name: values for name, values in _arrays().items() if name != "hard"}
    result = train(Table.from_arrays(arrays), config)
    assert (result.status, result.report["verdict"], result.config.task) == (
        "succeeded",
        "healthy",
        "quantile",
    )
    predicted, actual = result.predictions["prediction"], result.predictions["actual"]
    assert (np.diff(predicted, axis=1) >= 0).all()
    losses = [sk.mean_pinball_loss(actual, predicted[:, i], alpha=a) for i, a in enumerate(LEVELS)]
    assert result.metrics["test"]["pinball"] == pytest.approx(np.mean(losses))
    assert result.metrics["test"]["pinball"] < result.metrics["baselines"]["constant"]["pinball"] / 3
    assert result.readings.epochs[-1]["pinball"] == pytest.approx(
        result.metrics["validation"]["pinball"], rel=0.5
    )
    assert result.report["fit"]["sample_of"] == "0.5" and result.report["provenance"]["notes"] == []


@pytest.mark.parametrize(
    "more", [{"target": ["plain", "huge"]}, {"target": "huge", "loss": {"kind": "quantile"}}]
)
def test_patches_of_what_goes_wrong_are_accepted(more: dict[str, Any]) -> None:
    """A target nobody scaled, under a rate that explodes: whatever is proposed suits several outputs."""
    arrays = _arrays() | {"huge": 1e7 * _arrays()["plain"]}
    arrays["huge"][5] *= 1e6
    blocks = {"prepare": {"target": {"kind": "none"}}, "optimizer": {"kind": "sgd", "lr": 100.0}}
    submitted = QUICK | blocks | {"clips": [], "guards": []} | more
    result = train(Table.from_arrays(arrays), submitted)
    findings = result.report["findings"]
    assert findings and not [
        note for note in result.report["provenance"]["notes"] if "could not be judged" in note
    ]
    named = {finding["where"]["column"] for finding in findings if finding["rule"] == "target_scale"}
    assert named <= {"huge"}
    for finding in findings:
        resolve(merge_patch(submitted, finding["remedy"]["patch"] or {}))


@pytest.mark.parametrize("more", [{"target": ["plain", "hard"]}, {"target": "plain"} | QUANTILES])
def test_folds_of_an_ensemble(more: dict[str, Any]) -> None:
    blocks = {
        "split": {"kind": "random", "folds": 2},
        "budget": {"epochs": 1},
        "model": {"kind": "tabm", "members": 3, "blocks": 1, "width": 8},
    }
    result = train(Table.from_arrays(_arrays(150)), QUICK | blocks | more)
    assert result.report["provenance"]["notes"] == []
    folds = result.report["fit"]["cross_validation"]
    metric, within, name = ("r2", "targets", "hard") if "loss" not in more else ("pinball", "levels", "0.9")
    each = [fold["metrics"][within][name][metric] for fold in folds["per_fold"]]
    assert folds["metrics"][within][name][metric]["mean"] == pytest.approx(np.mean(each))
    assert result.predictions["prediction"].shape[1] == len(result.prepared.output_names or ())


@pytest.mark.parametrize(
    ("more", "head"),
    [
        ({"target": ["plain", "=hard"]}, "row,actual_plain,actual_=hard,prediction_plain,prediction_=hard"),
        (
            {"target": "plain", "loss": {"kind": "quantile"}},
            "row,actual,prediction_0.1,prediction_0.5,prediction_0.9",
        ),
    ],
)
def test_predictions_have_a_column_each(more: dict[str, Any], head: str, tmp_path: Path) -> None:
    arrays = _arrays(60)
    arrays["=hard"] = arrays.pop("hard")
    result = train(Table.from_arrays(arrays), QUICK | {"budget": {"epochs": 1}} | more)
    write_predictions(result.predictions, result.prepared, tmp_path / "p.csv")
    with (tmp_path / "p.csv").open(newline="") as file:
        lines = list(csv.reader(file))
    assert ",".join(lines[0]) == head
    last = result.predictions["prediction"][:, -1]
    assert [float(line[-1]) for line in lines[1:]] == last.tolist()
