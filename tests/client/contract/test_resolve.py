"""The config as users submit it: presets, merging, and every fault with its place."""

import json
from typing import Any

import pytest

from gradkeel.contract import config as c
from gradkeel.contract.errors import ConfigError
from gradkeel.contract.presets import Shape
from gradkeel.contract.resolve import (
    MAX_SUGGESTIONS,
    check_data,
    infer_task,
    layer_names,
    parameter_count,
    resolve,
    to_json,
)


def refused(submitted: Any) -> list[tuple[str | None, str]]:
    with pytest.raises(ConfigError) as caught:
        resolve(submitted)
    return [(error.pointer, error.code) for error in caught.value.errors]


WINDOWED = {"target": "y", "model": {"kind": "gru"}, "columns": {"order": "t"}}


@pytest.mark.parametrize("preset", c.PRESETS)
@pytest.mark.parametrize("task", c.TASKS)
@pytest.mark.parametrize("rows", [1, 40, 2_000, 20_000, 10**7])
def test_a_resolved_config_resolves_to_itself(preset: str, task: str, rows: int) -> None:
    submitted = {"target": "y", "preset": preset, "task": task, "columns": {"order": "t"}}
    resolved = resolve(submitted, Shape(rows, 5, 2))
    assert resolve(to_json(resolved)) == resolved


def test_custom_is_the_fixed_preset() -> None:
    config = resolve({"target": "y", "preset": "custom"}, Shape(300, 3, 0))
    assert config.model == c.MLP(widths=(256, 256, 256))
    assert config.optimizer == c.AdamW(lr=1e-3, weight_decay=3e-4)
    assert (config.budget.epochs, config.budget.batch_size, config.clips) == (
        100,
        256,
        (c.NormClip(max_norm=1.0),),
    )
    assert config.prepare.target == c.TargetStandard()


@pytest.mark.parametrize("preset", c.PRESETS)
@pytest.mark.parametrize("rows", [1, 2, 30, 255])
def test_no_preset_asks_for_a_batch_larger_than_the_table(preset: str, rows: int) -> None:
    assert resolve({"target": "y", "preset": preset}, Shape(rows, 3, 0)).budget.batch_size <= rows


def test_a_given_block_merges_by_key_and_another_kind_replaces_it() -> None:
    merged = resolve({"target": "y", "preset": "custom", "optimizer": {"lr": 0.5}})
    assert merged.optimizer == c.AdamW(lr=0.5, weight_decay=3e-4)
    replaced = resolve({"target": "y", "preset": "custom", "optimizer": {"kind": "sgd"}})
    assert replaced.optimizer == c.SGD()
    assert resolve({"target": "y", "clips": []}).clips == ()


def test_the_loss_follows_the_task() -> None:
    assert resolve({"target": "y", "task": "binary"}).loss == c.BCE()
    assert resolve({"target": "y"}, Shape(100, 1, 0, "multiclass")).loss == c.CrossEntropy()
    assert resolve({"target": "y"}).loss == c.Huber()


@pytest.mark.parametrize(
    ("submitted", "pointer", "code"),
    [
        ([], "", "wrong_type"),
        ({}, "/target", "required"),
        ({"target": None}, "/target", "invalid"),
        ({"target": "y\x00"}, "/target", "bad_text"),
        ({"target": "y", "budget": {"epochs": 0}}, "/budget/epochs", "out_of_range"),
        ({"target": "y", "budget": {"epochs": -1}}, "/budget/epochs", "out_of_range"),
        ({"target": "y", "budget": {"epochs": 10**9}}, "/budget/epochs", "out_of_range"),
        ({"target": "y", "budget": {"epochs": 3.7}}, "/budget/epochs", "wrong_type"),
        ({"target": "y", "budget": {"epochs": "12"}}, "/budget/epochs", "wrong_type"),
        ({"target": "y", "budget": {"epochs": "１２"}}, "/budget/epochs", "wrong_type"),
        ({"target": "y", "budget": {"epochs": True}}, "/budget/epochs", "wrong_type"),
        ({"target": "y", "optimizer": {"lr": 0}}, "/optimizer/lr", "out_of_range"),
        ({"target": "y", "optimizer": {"lr": -1.0}}, "/optimizer/lr", "out_of_range"),
        ({"target": "y", "optimizer": {"lr": "nan"}}, "/optimizer/lr", "wrong_type"),
        ({"target": "y", "optimizer": {"lr": float("nan")}}, "/optimizer/lr", "wrong_type"),
        ({"target": "y", "health": {"gradient_check": "yes"}}, "/health/gradient_check", "wrong_type"),
        ({"target": "y", "model": {"kind": "mlp", "widths": [8] * 10_000}}, "/model/widths", "out_of_range"),
        ({"target": "y", "model": {"kind": "sequential", "layers": []}}, "/model/layers", "out_of_range"),
        ({"target": "y", "model": {"kind": "tabm", "members": 0}}, "/model/members", "out_of_range"),
        ({"target": "y", "model": {"kind": "tabm", "width": 0}}, "/model/width", "out_of_range"),
        ({"target": "y", "model": {"kind": "tabm", "dropout": 1}}, "/model/dropout", "out_of_range"),
        (
            {"target": "y", "model": {"kind": "tabm", "blocks": 2, "freeze": ["layers.2"]}},
            "/model/freeze/0",
            "unknown_name",
        ),
        ({"target": "y", "model": {"kind": "resnet", "blocks": 0}}, "/model/blocks", "out_of_range"),
        (
            {"target": "y", "model": {"kind": "resnet", "hidden_factor": 0}},
            "/model/hidden_factor",
            "out_of_range",
        ),
        (
            {"target": "y", "model": {"kind": "resnet"}, "budget": {"batch_size": 1}},
            "/budget/batch_size",
            "conflict",
        ),
        (
            {"target": "y", "model": {"kind": "resnet", "norm": "none", "freeze": ["layers.3"]}},
            "/model/freeze/0",
            "unknown_name",
        ),
        (WINDOWED | {"columns": {}, "split": {"kind": "column"}}, "/columns/order", "required"),
        (WINDOWED | {"model": {"kind": "lstm", "window": 0}}, "/model/window", "out_of_range"),
        (WINDOWED | {"model": {"kind": "tcn", "horizon": 0}}, "/model/horizon", "out_of_range"),
        (WINDOWED | {"model": {"kind": "gru", "horizon": 2}}, "/model/horizon", "conflict"),
        (WINDOWED | {"split": {"kind": "random"}}, "/split/kind", "conflict"),
        (WINDOWED | {"split": {"kind": "stratified"}}, "/split/kind", "conflict"),
        (WINDOWED | {"prepare": {"missing": {"kind": "drop_rows"}}}, "/prepare/missing/kind", "conflict"),
        (WINDOWED | {"prepare": {"outliers": {"kind": "drop"}}}, "/prepare/outliers/kind", "conflict"),
        (WINDOWED | {"prepare": {"neighbors": {"kind": "means"}}}, "/prepare/neighbors/kind", "conflict"),
        (
            WINDOWED | {"columns": {"order": "t", "group": "g", "include": ["g"]}},
            "/columns/include/0",
            "conflict",
        ),
        (WINDOWED | {"model": {"kind": "gru", "freeze": ["layers.1"]}}, "/model/freeze/0", "unknown_name"),
        (WINDOWED | {"task": "forecast", "model": {"kind": "mlp"}}, "/model/kind", "conflict"),
        (WINDOWED | {"task": "forecast", "loss": {"kind": "bce"}}, "/loss/kind", "conflict"),
        ({"target": "y", "model": {"widths": [8, 0]}}, "/model/widths/1", "out_of_range"),
        ({"target": "y", "optimizer": {"kind": "adan"}}, "/optimizer/kind", "unknown_kind"),
        (WINDOWED | {"target": ["y", "z"]}, "/target", "conflict"),
        (WINDOWED | {"loss": {"kind": "quantile"}}, "/loss/kind", "conflict"),
        (WINDOWED | {"task": "quantile", "loss": {"kind": "quantile"}}, "/task", "conflict"),
        (WINDOWED | {"split": {"kind": "ordered", "folds": 3}}, "/split/folds", "conflict"),
        ({"target": "y", "health": {"tier": "whole"}}, "/health/tier", "unknown_kind"),
        ({"target": "y", "health": {"repair": 11}}, "/health/repair", "out_of_range"),
        (
            {"target": "y", "health": {"repair_allow": ["loss", "all"]}},
            "/health/repair_allow/1",
            "unknown_kind",
        ),
        (
            {"target": "y", "health": {"repair": 1}, "split": {"kind": "random", "validation": 0}},
            "/health/repair",
            "conflict",
        ),
        (
            {"target": "y", "health": {"repair": 1}, "split": {"kind": "random", "folds": 3}},
            "/health/repair",
            "conflict",
        ),
        ({"target": "y", "budget": {"ema": 0}}, "/budget/ema", "out_of_range"),
        ({"target": "y", "budget": {"ema": 1.5}}, "/budget/ema", "out_of_range"),
        (
            {"target": "y", "prepare": {"embedding": {"kind": "piecewise_linear", "bins": 1}}},
            "/prepare/embedding/bins",
            "out_of_range",
        ),
        (
            {"target": "y", "loss": {"kind": "poisson"}, "prepare": {"target": {"kind": "standard"}}},
            "/prepare/target/kind",
            "conflict",
        ),
        ({"target": "y", "task": "regression", "loss": {"kind": "focal"}}, "/loss/kind", "conflict"),
        ({"target": "y", "loss": {"kind": "huber", "delta": "automatic"}}, "/loss/delta", "wrong_type"),
        ({"target": "y", "budget": {"ema": 2}}, "/budget/ema", "out_of_range"),
        ({"target": "y", "seed": 2**64}, "/seed", "out_of_range"),
        ({"target": "y", "output": {"threshold": 0.3}}, "/output/threshold", "unknown_kind"),
        (
            {"target": "y", "task": "regression", "output": {"calibrate": "temperature"}},
            "/output/calibrate",
            "conflict",
        ),
        (
            {"target": "y", "task": "multiclass", "output": {"threshold": "f1"}},
            "/output/threshold",
            "conflict",
        ),
        (
            {"target": "y", "split": {"validation": 0}, "output": {"threshold": "f1"}},
            "/output/threshold",
            "conflict",
        ),
        ({"target": "y", "__class__": 1}, "/__class__", "unknown_field"),
        ({"target": "y", "columns": {"types": {"a": "number"}}}, "/columns/types/a", "unknown_kind"),
        ({"target": "y", "columns": {"include": ["y"]}}, "/columns/include/0", "conflict"),
        ({"target": "y", "columns": {"weight": "y"}}, "/columns/weight", "conflict"),
        ({"target": "y", "split": {"validation": 0.6, "test": 0.4}}, "/split", "out_of_range"),
        ({"target": "y", "split": {"validation": 1.5}}, "/split/validation", "out_of_range"),
        ({"target": "y", "split": {"kind": "ordered"}}, "/split/column", "required"),
        ({"target": "y", "clips": [{"kind": "norm", "max_norm": 0}]}, "/clips/0/max_norm", "out_of_range"),
        ({"target": "y", "loss": {"kind": "bce"}, "task": "regression"}, "/loss/kind", "conflict"),
        ({"target": "y", "optimizer": {"kind": "sgd", "nesterov": True}}, "/optimizer/nesterov", "conflict"),
        ({"target": "y", "model": {"freeze": ["layers.9"]}}, "/model/freeze/0", "unknown_name"),
        (
            {"target": "y", "model": {"norm": "batch"}, "budget": {"batch_size": 1}},
            "/budget/batch_size",
            "conflict",
        ),
        (
            {"target": "y", "prepare": {"per_column": {"a/b": {"kind": "x"}}}},
            "/prepare/per_column/a~1b/kind",
            "unknown_kind",
        ),
    ],
)
def test_a_fault_is_named_with_its_place(submitted: Any, pointer: str, code: str) -> None:
    assert (pointer, code) in refused(submitted)


def test_every_fault_is_named_at_once() -> None:
    faults = refused({"target": "y", "budget": {"epochs": 0, "batch_size": 0}, "optimizer": {"lr": -1}})
    assert {pointer for pointer, _ in faults} == {"/budget/epochs", "/budget/batch_size", "/optimizer/lr"}


def profile(**columns: dict[str, Any]) -> dict[str, Any]:
    described = [
        {"name": name, "type": "numeric", "distinct": 50, **about} for name, about in columns.items()
    ]
    return {"rows": 100, "columns": described}


def test_task_auto_follows_the_target() -> None:
    config = resolve({"target": "y"})
    assert infer_task(config, profile(y={"distinct": 2})) == "binary"
    assert infer_task(config, profile(y={})) == "regression"
    assert infer_task(config, profile(y={"type": "categorical"})) == "multiclass"


@pytest.mark.parametrize(
    ("submitted", "columns", "pointer", "code"),
    [
        ({"target": "z"}, {"x": {}, "y": {}}, "/target", "unknown_column"),
        ({"target": "y"}, {"x": {}, "y": {"distinct": 0}}, "/target", "target_missing"),
        ({"target": "y"}, {"x": {}, "y": {"distinct": 1}}, "/target", "target_constant"),
        ({"target": "y", "task": "binary"}, {"x": {}, "y": {}}, "/task", "conflict"),
        ({"target": "y", "task": "regression"}, {"x": {}, "y": {"type": "categorical"}}, "/task", "conflict"),
        ({"target": "y"}, {"x": {}, "y": {"type": "datetime"}}, "/target", "wrong_type"),
        ({"target": "y", "loss": {"kind": "mse"}}, {"x": {}, "y": {"distinct": 2}}, "/loss/kind", "conflict"),
        ({"target": "y"}, {"x": {"type": "id"}, "y": {}}, "/columns", "no_features"),
        (
            {"target": "y", "budget": {"batch_size": 101}},
            {"x": {}, "y": {}},
            "/budget/batch_size",
            "out_of_range",
        ),
        (
            {"target": "y", "columns": {"exclude": ["q"]}},
            {"x": {}, "y": {}},
            "/columns/exclude/0",
            "unknown_column",
        ),
        (
            {"target": "y", "model": {"widths": [8192, 8192, 8192]}},
            {"x": {}, "y": {}},
            "/model",
            "quota",
        ),
        (
            {"target": "y", "model": {"kind": "tabm", "members": 256, "width": 8192, "mini": False}},
            {"x": {}, "y": {}},
            "/model",
            "quota",
        ),
        (
            {"target": "y", "model": {"kind": "resnet", "width": 8192, "blocks": 1}},
            {"x": {}, "y": {}},
            "/model",
            "quota",
        ),
    ],
)
def test_a_fault_that_shows_with_the_data(
    submitted: dict[str, Any], columns: dict[str, Any], pointer: str, code: str
) -> None:
    table = profile(**columns)
    task = infer_task(resolve(submitted), table)
    config = resolve(submitted, Shape(100, 1, 0, task if "loss" not in submitted else None))
    assert (pointer, code) in [(error.pointer, error.code) for error in check_data(config, table)]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("price", "Price"),
        (" Price ", "Price"),
        ("prcie", "Price"),
        ("ocean-proximity", "ocean_proximity"),
        ("Ocean Proximity", "ocean_proximity"),
        ("oceanproximty", "ocean_proximity"),
        ("STRASSE", "straße"),
        ("rooms", None),
        ("x" * 5000, None),
        ("_", None),
    ],
)
def test_a_mistyped_column_is_asked_about(typed: str, meant: str | None) -> None:
    table = profile(x={}, Price={}, ocean_proximity={}, straße={})
    (fault,) = check_data(resolve({"target": typed}), table)
    assert (fault.pointer, fault.code) == ("/target", "unknown_column")
    assert (f"did you mean {meant!r}?" if meant else "it has x, Price") in fault.detail
    assert ("did you mean" in fault.detail) == (meant is not None)


def test_a_name_in_the_case_of_the_table_comes_before_one_of_another_spelling() -> None:
    table = profile(**{"Rate": {}, "rat": {}, "y": {}})
    (fault,) = check_data(resolve({"target": "rate"}), table)
    assert "did you mean 'Rate'?" in fault.detail


def test_only_so_many_unknown_names_are_asked_about() -> None:
    table = profile(**{f"column {index}": {} for index in range(50)}, y={})
    config = resolve({"target": "y", "columns": {"exclude": [f"colum {index}" for index in range(50)]}})
    faults = [fault for fault in check_data(config, table) if fault.code == "unknown_column"]
    asked = ["did you mean" in fault.detail for fault in faults]
    assert asked == [True] * MAX_SUGGESTIONS + [False] * (50 - MAX_SUGGESTIONS)


def test_a_good_config_has_no_faults_with_the_data() -> None:
    assert check_data(resolve({"target": "y"}, Shape(100, 1, 0)), profile(x={}, y={})) == []


def test_layers_and_parameters_are_counted_alike() -> None:
    model = c.Sequential(layers=(c.LinearLayer(units=8), c.BatchNorm(), c.ReLU(), c.LinearLayer(units=4)))
    assert layer_names(model) == ("layers.0", "layers.1", "layers.3", "output")
    assert parameter_count(c.MLP(widths=(8, 4)), 3, 1) == (3 + 1) * 8 + (8 + 1) * 4 + (4 + 1)


CELL: dict[str, Any] = {"row": 3, "line": 5, "cell": "12?5"}
MIXED: dict[str, Any] = {"code": "mixed_types", "column": "size", "count": 1, "texts": 1, **CELL}


def test_where_a_broken_cell_leaves_no_feature_it_is_named_and_can_be_mended() -> None:
    """The way that the refusal shows is a config that is accepted."""
    columns = [
        {"name": "size", "type": "id", "distinct": 100},
        {"name": "price", "type": "numeric", "distinct": 100},
    ]
    profile = {"rows": 1000, "columns": columns, "findings": [{**MIXED, "cells": [CELL]}]}
    (fault,) = check_data(resolve({"target": "price"}), profile)
    assert (fault.pointer, fault.code) == ("/columns", "no_features")
    assert (fault.column, fault.row, fault.line) == ("size", 3, 5)
    assert "'12?5' in row 3, line 5" in fault.detail
    shown = json.loads(fault.detail.split("missing: columns ")[1])
    assert check_data(resolve({"target": "price", "columns": shown}), profile) == []
    apart = {"target": "price", "columns": {"exclude": ["size"]}}
    assert check_data(resolve(apart), profile)[0].column is None


def test_faults_come_in_the_order_of_their_places() -> None:
    """The order of a set of names differs from process to process."""
    names = [f"name_{letter}" for letter in "qxbmkazw"]
    found = refused({"target": "y", **dict.fromkeys(names, 1)})
    assert [pointer for pointer, _ in found] == sorted(f"/{name}" for name in names)


@pytest.mark.parametrize("preset", ["custom", "standard", "fast"])
def test_the_poisson_loss_brings_its_scaling_of_the_target(preset: str) -> None:
    config = resolve({"target": "y", "preset": preset, "loss": {"kind": "poisson"}})
    assert config.prepare.target.kind == "none"
    assert resolve(to_json(config)) == config


def test_the_reasons_for_what_the_table_decided_stand_in_the_config() -> None:
    chosen = resolve({"target": "y", "model": {"widths": [8]}}, Shape(20_000, 5, 2)).chosen
    assert chosen["/prepare/embedding"] == "standard, for 14,000 training rows and 5 numeric columns"
    assert chosen["/budget/batch_size"] == "standard, for 14,000 training rows"
    assert "/model/widths" not in chosen


def test_a_block_of_another_kind_takes_its_reasons_along() -> None:
    submitted = {"target": "y", "model": {"kind": "linear"}, "prepare": {"embedding": {"kind": "none"}}}
    assert set(resolve(submitted, Shape(20_000, 5, 2)).chosen) == {
        "/budget/epochs",
        "/budget/patience",
        "/budget/batch_size",
    }


def test_a_fixed_preset_decides_nothing_by_the_table() -> None:
    assert resolve({"target": "y", "preset": "custom"}, Shape(20_000, 5, 2)).chosen == {}


@pytest.mark.parametrize("preset", ["fast", "standard", "best"])
@pytest.mark.parametrize("asked", [{"task": "forecast"}, {"model": {"kind": "lstm"}}])
def test_reasons_of_models_over_windows_are_their_own(preset: str, asked: dict[str, Any]) -> None:
    submitted = {"target": "y", "preset": preset, "columns": {"order": "t"}} | asked
    chosen = resolve(submitted, Shape(20_000, 5, 2)).chosen
    budget = {"/budget/batch_size"} | (set() if preset == "fast" else {"/budget/epochs", "/budget/patience"})
    assert set(chosen) == {"/split", "/prepare/embedding"} | budget
    assert chosen["/split"].startswith("windows share their rows")
    given = submitted | {"prepare": {"embedding": {"kind": "piecewise_linear"}}, "split": {"kind": "ordered"}}
    assert set(resolve(given, Shape(20_000, 5, 2)).chosen) == budget


MEANS: dict[str, Any] = {"kind": "means"}


@pytest.mark.parametrize(
    ("blocks", "pointer", "code"),
    [
        ({"columns": "all"}, "/prepare/neighbors/columns", "wrong_type"),
        ({"columns": []}, "/prepare/neighbors/columns", "out_of_range"),
        ({"columns": [["a"], []]}, "/prepare/neighbors/columns/1", "out_of_range"),
        ({"columns": ["a", "y"]}, "/prepare/neighbors/columns/1", "conflict"),
        ({"columns": [["a"], ["b", "b"]]}, "/prepare/neighbors/columns/1/1", "conflict"),
        ({"columns": ["gone"]}, "/prepare/neighbors/columns/0", "conflict"),
        ({"k": [0]}, "/prepare/neighbors/k/0", "out_of_range"),
        ({"k": []}, "/prepare/neighbors/k", "out_of_range"),
        ({"k": [3, 8, 3]}, "/prepare/neighbors/k/2", "conflict"),
        ({"columns": ["a"], "k": [9], "rows": 9}, "/prepare/neighbors/k", "out_of_range"),
        ({"metric": "cosine"}, "/prepare/neighbors/metric", "unknown_kind"),
        ({"rows": 1}, "/prepare/neighbors/rows", "out_of_range"),
    ],
)
def test_neighbours_that_cannot_be_looked_up_are_refused(
    blocks: dict[str, Any], pointer: str, code: str
) -> None:
    submitted = {"target": "y", "columns": {"exclude": ["gone"]}, "prepare": {"neighbors": MEANS | blocks}}
    assert refused(submitted) == [(pointer, code)]


def test_neighbours_need_every_cell() -> None:
    submitted = {"target": "y", "prepare": {"neighbors": MEANS, "missing": {"kind": "propagate"}}}
    assert refused(submitted) == [("/prepare/missing/kind", "conflict")]


@pytest.mark.parametrize("columns", ["auto", ["a", "b"], [["a"], ["b", "c"]]])
def test_columns_of_neighbours_come_back_as_they_were_given(columns: Any) -> None:
    submitted = {"target": "y", "prepare": {"neighbors": MEANS | {"columns": columns}}}
    resolved = resolve(submitted)
    assert to_json(resolved)["prepare"]["neighbors"]["columns"] == columns
    assert resolve(to_json(resolved)) == resolved


def test_neighbours_are_checked_against_the_table() -> None:
    columns = [{"name": name, "type": "numeric", "distinct": 40} for name in ("a", "y")]
    columns.append({"name": "note", "type": "text", "distinct": 40})
    profile = {"rows": 40, "columns": columns}

    def faults(**block: Any) -> list[tuple[str | None, str]]:
        submitted = {"target": "y", "task": "regression", "prepare": {"neighbors": MEANS | block}}
        found = check_data(resolve(submitted, Shape(40, 1, 0)), profile)
        return [(fault.pointer, fault.code) for fault in found]

    assert faults() == faults(columns=["a"]) == []
    assert faults(columns=["a", "b"]) == [("/prepare/neighbors/columns/1", "unknown_column")]
    assert faults(columns=[["note"]]) == [("/prepare/neighbors/columns/0/0", "conflict")]
    assert faults(columns=["a"], k=[40]) == [("/prepare/neighbors/k", "out_of_range")]


def test_parts_of_windows_are_later_rows_or_other_series() -> None:
    assert resolve(WINDOWED).split == c.OrderedSplit()
    grouped = WINDOWED | {"columns": {"order": "t", "group": "g"}}
    assert resolve(grouped).split == c.GroupSplit()
    assert resolve(grouped | {"task": "forecast"}).split == c.OrderedSplit()


def test_a_forecast_without_a_model_is_made_by_a_gru() -> None:
    config = resolve({"target": "y", "task": "forecast", "columns": {"order": "t"}})
    assert config.model == c.GRU()
    assert resolve({**to_json(config), "model": {"window": 5}}).model == c.GRU(window=5)


def test_a_window_is_held_against_the_tables_length() -> None:
    columns = [{"name": name, "type": "numeric", "distinct": 20} for name in ("t", "y")]
    profile = {"rows": 30, "columns": columns}
    config = resolve(WINDOWED | {"task": "forecast", "model": {"kind": "gru", "window": 24, "horizon": 7}})
    assert [(e.pointer, e.code) for e in check_data(config, profile) if e.pointer == "/model/window"] == [
        ("/model/window", "out_of_range")
    ]
    fitting = resolve(WINDOWED | {"task": "forecast", "model": {"kind": "gru", "window": 24, "horizon": 6}})
    assert not [e for e in check_data(fitting, profile) if e.pointer in ("/model/window", "/columns")]


@pytest.mark.parametrize("kind", ["gru", "lstm", "tcn"])
def test_parameters_of_models_over_windows_are_counted(kind: str) -> None:
    model = resolve(WINDOWED | {"model": {"kind": kind, "width": 5, "layers": 2}}).model
    expected = {"gru": 3 * 5 * (3 + 5 + 2) + 3 * 5 * 12, "lstm": 4 * 5 * (3 + 5 + 2) + 4 * 5 * 12}
    expected["tcn"] = (3 * 3 + 1) * 5 + 3 * (3 * 5 + 1) * 5 + (3 + 1) * 5
    assert parameter_count(model, 3, 2) == expected[kind] + 6 * 2


def test_the_best_preset_fits_the_table() -> None:
    small, large = (resolve({"target": "y", "preset": "best"}, Shape(rows, 8, 1)) for rows in (1_000, 50_000))
    assert isinstance(small.model, c.TabM) and isinstance(large.model, c.TabM)
    assert (small.model.blocks, small.model.dropout) == (2, 0.0)
    assert (large.model.blocks, large.model.dropout) == (3, 0.1)
    assert small.prepare.neighbors.kind == large.prepare.neighbors.kind == "means"
    assert large.precision == "auto"
