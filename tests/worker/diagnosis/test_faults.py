"""Seeded faults end to end: the cause is named first, and its patch mends the run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradkeel.contract.patch import merge_patch
from worker.diagnosis.runs import (
    ADAMW,
    RAW,
    SGD,
    UNSCALED,
    breast_cancer,
    diabetes,
    found,
    housing,
    lead,
    serious,
    trained,
    wine,
)

Json = dict[str, Any]
NO_SCALING = {"prepare": {"numeric": {"kind": "none"}}}
RAW_TARGET = {"prepare": {"target": {"kind": "none"}}}
UNBOUNDED = {"loss": {"kind": "mse"}, "clips": []}
DEEP_SIGMOID = {"model": {"widths": [64] * 10, "activation": "sigmoid"}}


def _changed(config: Json, *patches: Json) -> Json:
    for patch in patches:
        config = merge_patch(config, patch)
    return config


def _big_column() -> Any:
    return diabetes(bmi=diabetes()["bmi"] * 1e6)


FAULTS: dict[str, tuple[Any, Json, str]] = {
    "raw units, squared error, no clips": (diabetes, RAW, "feature_scale"),
    "raw units under huber": (diabetes, _changed(SGD, NO_SCALING, {"clips": []}), "feature_scale"),
    "one column × 1e6": (_big_column, _changed(SGD, NO_SCALING), "feature_scale"),
    "one column × 1e6, no clips": (_big_column, _changed(SGD, NO_SCALING, {"clips": []}), "feature_scale"),
    "raw target": (diabetes, _changed(SGD, RAW_TARGET), "target_scale"),
    "raw target, squared error": (diabetes, _changed(SGD, RAW_TARGET, UNBOUNDED), "target_scale"),
    "lr × 1000": (diabetes, _changed(SGD, {"optimizer": {"lr": 10.0}}), "lr_too_high"),
    "lr × 1000, no clips": (diabetes, _changed(SGD, {"optimizer": {"lr": 10.0}}, UNBOUNDED), "lr_too_high"),
    "lr × 1000, adamw": (diabetes, _changed(ADAMW, {"optimizer": {"lr": 1.0}}), "lr_too_high"),
    "lr / 10000": (diabetes, _changed(SGD, {"optimizer": {"lr": 1e-6}}), "lr_too_low"),
    "lr / 10000, adamw": (diabetes, _changed(ADAMW, {"optimizer": {"lr": 1e-7}}), "lr_too_low"),
    "lr / 10000, momentum": (
        diabetes,
        _changed(SGD, {"optimizer": {"lr": 1e-6, "momentum": 0.9}}),
        "lr_too_low",
    ),
    "deep sigmoid": (diabetes, _changed(SGD, DEEP_SIGMOID), "vanishing_gradient"),
    "deep sigmoid, adamw": (diabetes, _changed(ADAMW, DEEP_SIGMOID), "vanishing_gradient"),
    "lr / 10000, economy": (
        diabetes,
        _changed(SGD, {"optimizer": {"lr": 1e-6}, "health": {"tier": "economy"}}),
        "lr_too_low",
    ),
    "lr / 10000, economy, adamw": (
        diabetes,
        _changed(ADAMW, {"optimizer": {"lr": 1e-7}, "health": {"tier": "economy"}}),
        "lr_too_low",
    ),
    "deep relu, weights too small": (
        diabetes,
        _changed(SGD, {"model": {"widths": [32] * 8, "init": {"kind": "normal", "std": 0.01}}}),
        "poor_initialisation",
    ),
    "first layer frozen": (
        diabetes,
        _changed(SGD, {"model": {"freeze": ["layers.0"]}}),
        "vanishing_gradient",
    ),
    "biases at −10": (diabetes, _changed(SGD, {"model": {"bias_init": -10.0}}), "dead_units"),
    "biases at −10, adamw": (diabetes, _changed(ADAMW, {"model": {"bias_init": -10.0}}), "dead_units"),
    "clip at 1e-4": (
        diabetes,
        _changed(SGD, {"clips": [{"kind": "norm", "max_norm": 1e-4}]}),
        "clipping_dominates",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_the_cause_stands_first_and_its_patch_mends_the_run(name: str) -> None:
    columns, config, rule = FAULTS[name]
    first = trained(columns(), config)
    cause = lead(first.report)
    assert cause["rule"] == rule
    assert "Most likely cause" in cause["explanation"]
    assert first.report["verdict"] != "healthy"
    mended = trained(columns(), merge_patch(config, cause["remedy"]["patch"]))
    assert mended.status == "succeeded"
    assert mended.report["verdict"] in ("healthy", "strained")
    assert rule not in serious(mended.report)
    constant = mended.metrics["baselines"]["constant"]["mae"]
    assert mended.metrics["test"]["mae"] < constant


@pytest.mark.parametrize(("depth", "std", "cause"), [(3, 40.0, "fp16"), (6, 1e6, "start")])
def test_numbers_that_only_fp16_cannot_hold_are_told_from_those_that_nothing_holds(
    depth: int, std: float, cause: str
) -> None:
    model = {"widths": [64] * depth, "init": {"kind": "normal", "std": std}}
    given = _changed(SGD, {"precision": "fp16", "clips": [], "model": model, "budget": {"epochs": 2}})
    report = trained(diabetes(), given).report
    assert found(report, "non_finite")["evidence"]["most_likely_cause"] == cause
    # No step had been taken yet.
    assert "lr_too_high" not in [finding["rule"] for finding in report["findings"]]


def test_a_frozen_layer_of_an_earlier_model_is_no_fault() -> None:
    config = _changed(SGD, {"model": {"freeze": ["layers.1"]}})
    assert "vanishing_gradient" not in serious(trained(diabetes(), config).report)


def test_targets_that_were_mixed_up_in_a_stretch_of_the_file_are_named() -> None:
    target = housing()["target"].copy()
    target[400:800] = np.random.default_rng(0).permutation(target[400:800])
    finding = lead(trained({**housing(), "target": target}, ADAMW).report)
    assert finding["evidence"]["issue"] == "block_unlike_the_rest"
    assert finding["where"]["row"] == pytest.approx(400, abs=60)


def test_raw_units_diverge_and_the_report_shows_how_it_knows() -> None:
    report = trained(diabetes(), RAW).report
    assert report["verdict"] == "diverged"
    cause = report["findings"][0]
    evidence = cause["evidence"]
    assert cause["consequences"] == ["exploding_gradient", "non_finite"]
    assert [f["rule"] for f in report["findings"][1:3]] == ["exploding_gradient", "non_finite"]
    assert evidence["predicted_inflation"] > 50
    # Measured on the model, not presumed: the learning rate lies between the two stability limits.
    assert evidence["stability_limit_as_fed"] < 0.01 < evidence["stability_limit_with_scaled_inputs"]
    assert found(report, "exploding_gradient")["where"]["step"] <= 3
    patch = cause["remedy"]["patch"]
    assert patch["prepare"]["numeric"]["kind"] == "standard"
    assert patch["loss"]["kind"] == "huber"
    assert patch["clips"] == [{"kind": "norm", "max_norm": 1.0}]


def test_adamw_survives_raw_units_and_the_report_says_so() -> None:
    report = trained(diabetes(), merge_patch(ADAMW, {**UNSCALED, **UNBOUNDED})).report
    assert report["verdict"] == "healthy"
    scale = found(report, "feature_scale")
    assert scale["severity"] == "warning"
    assert "stayed numerically sound" in scale["explanation"]
    assert scale["consequences"] == []


def test_a_shuffled_target_is_no_better_than_a_constant() -> None:
    shuffled = np.random.default_rng(0).permutation(diabetes()["target"])
    report = trained(diabetes(target=shuffled), SGD).report
    finding = lead(report)
    assert finding["rule"] == "no_better_than_baseline"
    assert finding["severity"] == "critical"
    assert finding["evidence"]["gain_low"] <= 0
    assert report["verdict"] == "healthy"  # fit findings never set it


@pytest.mark.parametrize("guards", [[{"kind": "skip_nonfinite"}], []])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_bad_cell_under_propagate_is_named(guards: list[Json], value: float) -> None:
    row = int(np.random.default_rng(1).integers(442))
    column = diabetes()["s5"].copy()
    column[row] = value
    config = _changed(SGD, {"prepare": {"missing": {"kind": "propagate"}}, "guards": guards})
    config["split"] = {"kind": "random", "validation": 0.15, "test": 0}
    config["split"]["seed"] = next(s for s in range(20) if _trains_on(row, column, config, s))
    report = trained(diabetes(s5=column), config).report
    finding = lead(report)
    assert finding["rule"] == "non_finite"
    assert (finding["where"]["row"], finding["where"]["column"]) == (row, "s5")
    assert finding["evidence"]["most_likely_cause"] == "data_cell"
    mended = trained(diabetes(s5=column), merge_patch(config, finding["remedy"]["patch"]))
    assert mended.report["verdict"] == "healthy"


def _trains_on(row: int, column: Any, config: Json, seed: int) -> bool:
    config["split"]["seed"] = seed
    short = merge_patch(config, {"budget": {"epochs": 1}})
    return row in trained(diabetes(s5=column), short).prepared.train.rows


@pytest.mark.parametrize("preset", ["standard", "fast", "custom"])
@pytest.mark.parametrize("table", [diabetes, breast_cancer, wine, housing])
def test_healthy_runs_draw_no_warning(table: Any, preset: str) -> None:
    config = {"target": "target", "preset": preset, "budget": {"epochs": 30}, "device": "cpu"}
    report = trained(table(), config).report
    assert serious(report) == []
    assert report["verdict"] == "healthy"


@pytest.mark.parametrize("table", [diabetes, breast_cancer, housing])
def test_healthy_runs_under_sgd_draw_no_warning(table: Any) -> None:
    report = trained(table(), SGD).report
    assert serious(report) == []


def _rescaled(columns: Any, factor: float) -> Any:
    """The target, where it is a number, and the first column in another unit."""
    first = next(iter(columns))
    changed = {first: columns[first] * factor}
    if columns["target"].dtype != object:
        changed["target"] = columns["target"] * factor
    return columns | changed


@pytest.mark.parametrize("config", [SGD, ADAMW], ids=["sgd", "adamw"])
@pytest.mark.parametrize("columns", [diabetes(), housing(500), wine()], ids=["diabetes", "housing", "wine"])
def test_units_change_no_verdict_where_scaling_is_on(columns: Any, config: Json) -> None:
    short = _changed(config, {"budget": {"epochs": 8}})
    told = []
    for factor in (1.0, 1e-6, 1e6):
        report = trained(_rescaled(columns, factor), short).report
        told.append((report["verdict"], [(f["rule"], f["severity"]) for f in report["findings"]]))
    assert told[0] == told[1] == told[2]


def _far_off(share: float, factor: float) -> Any:
    target = diabetes()["target"].copy()
    rows = np.random.default_rng(2).choice(len(target), round(share * len(target)), replace=False)
    target[rows] *= factor
    return diabetes(target=target)


@pytest.mark.parametrize("config", [SGD, ADAMW])
@pytest.mark.parametrize("loss", ["mse", "huber"])
def test_outlying_targets_that_set_the_unit_are_named_first(config: Json, loss: str) -> None:
    standard = {"prepare": {"target": {"kind": "standard"}}, "loss": {"kind": loss}}
    first = trained(_far_off(0.05, 20), _changed(config, standard))
    cause = lead(first.report)
    assert cause["rule"] == "outliers"
    assert cause["remedy"]["patch"]["prepare"]["target"]["kind"] == "robust"
    mended = trained(_far_off(0.05, 20), _changed(config, standard, cause["remedy"]["patch"]))
    assert mended.metrics["test"]["mae"] < first.metrics["test"]["mae"]
    assert mended.metrics["test"]["mae"] < mended.metrics["baselines"]["constant"]["mae"]


@pytest.mark.parametrize("columns", [diabetes(), _far_off(0.02, 2)])
def test_targets_that_lie_near_the_others_are_no_outliers(columns: Any) -> None:
    report = trained(columns, _changed(SGD, {"prepare": {"target": {"kind": "standard"}}})).report
    assert "outliers" not in [finding["rule"] for finding in report["findings"]]


@pytest.mark.parametrize("config", [SGD, ADAMW])
def test_cells_far_off_in_a_robust_column_are_outliers_and_no_missing_scale(config: Json) -> None:
    column = diabetes()["bp"].copy()
    column[np.random.default_rng(2).choice(len(column), 5, replace=False)] *= 1000
    given = _changed(config, {"prepare": {"numeric": {"kind": "robust"}}})
    first = trained(diabetes(bp=column), given)
    assert lead(first.report)["rule"] == "outliers"
    mended = trained(diabetes(bp=column), merge_patch(given, lead(first.report)["remedy"]["patch"]))
    assert serious(mended.report) == []


@pytest.mark.parametrize("config", [SGD, ADAMW])
def test_one_unscaled_column_among_scaled_ones_is_named(config: Json) -> None:
    given = _changed(config, {"prepare": {"per_column": {"bmi": {"kind": "none"}}}, "clips": []})
    first = trained(_big_column(), given)
    assert lead(first.report)["rule"] == "feature_scale"
    assert lead(first.report)["where"]["column"] == "bmi"
    mended = trained(_big_column(), merge_patch(given, lead(first.report)["remedy"]["patch"]))
    assert mended.report["verdict"] == "healthy"


@pytest.mark.parametrize("init", [{"kind": "constant", "value": 0.1}, {"kind": "normal", "std": 2.0}])
@pytest.mark.parametrize("config", [SGD, ADAMW])
def test_an_odd_start_is_named_whichever_rule_speaks(config: Json, init: Json) -> None:
    given = _changed(config, {"model": {"init": init}})
    cause = lead(trained(housing(), given).report)
    assert "initialisation" in cause["explanation"]
    assert merge_patch(given, cause["remedy"]["patch"])["model"]["init"]["kind"] == "he"


def test_dead_units_are_not_blamed_where_there_is_nothing_to_learn() -> None:
    shuffled = np.random.default_rng(0).permutation(diabetes()["target"])
    report = trained(diabetes(target=shuffled), _changed(SGD, {"model": {"bias_init": -10.0}})).report
    assert found(report, "dead_units")["severity"] == "warning"
