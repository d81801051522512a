"""Patches: each, merged into any submitted config, gives one that is accepted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradkeel.contract.patch import merge_patch
from gradkeel.contract.resolve import resolve
from gradkeel_worker.data import Table, prepare
from gradkeel_worker.diagnosis import Evidence, remedies
from gradkeel_worker.diagnosis.case import Case
from gradkeel_worker.diagnosis.rules import RULES
from gradkeel_worker.engine.readings import Readings
from worker.diagnosis.runs import RAW, SGD, diabetes, trained
from worker.diagnosis.test_rules import STEPS, readings

Json = dict[str, Any]

SUBMITTED: dict[str, Json] = {
    "bare": {"target": "target"},
    "fast": {"target": "target", "preset": "fast"},
    "raw": {
        "target": "target",
        "prepare": {
            "numeric": {"kind": "none"},
            "target": {"kind": "none"},
            "missing": {"kind": "propagate"},
        },
        "loss": {"kind": "mse"},
        "clips": [],
        "optimizer": {"kind": "sgd", "lr": 10.0, "momentum": 0.9, "nesterov": True},
    },
    "columns": {
        "target": "target",
        "columns": {"include": ["age", "bmi", "s5"]},
        "prepare": {"per_column": {"bmi": {"kind": "none"}}, "outliers": {"kind": "winsorize", "lower": 0.1}},
        "clips": [{"kind": "value", "max_value": 0.1}, {"kind": "norm", "max_norm": 1e-4}],
    },
    "sequential": {
        "target": "target",
        "model": {
            "kind": "sequential",
            "layers": [{"kind": "linear", "units": 8}, {"kind": "sigmoid"}] * 6,
            "init": {"kind": "normal", "std": 1e-3},
            "bias_init": -10.0,
        },
        "loss": {"kind": "smooth_l1", "beta": 2.0},
        "schedule": {"kind": "cosine", "min_factor": 0.1, "warmup_steps": 10},
        "clips": [{"kind": "normalize"}],
    },
    "deep": {
        "target": "target",
        "model": {
            "kind": "mlp",
            "widths": [8] * 8,
            "activation": "tanh",
            "init": {"kind": "constant", "value": 0.1},
        },
        "prepare": {"missing": {"kind": "constant", "value": 3.0}, "numeric": {"kind": "robust"}},
        "optimizer": {"kind": "rmsprop", "lr": 1e-7},
    },
    "poisson": {"target": "target", "preset": "custom", "loss": {"kind": "poisson"}, "clips": []},
    "curves": {
        "target": "target",
        "prepare": {
            "numeric": {"kind": "quantile", "n": 50},
            "per_column": {"bmi": {"kind": "power"}, "age": {"kind": "maxabs"}},
            "target": {"kind": "power"},
            "outliers": {"kind": "drop"},
        },
        "loss": {"kind": "log_cosh"},
    },
    "tabm": {
        "target": "target",
        "model": {"kind": "tabm", "blocks": 6, "activation": "sigmoid", "bias_init": -1.0},
    },
    "resnet": {
        "target": "target",
        "model": {"kind": "resnet", "norm": "none", "blocks": 5, "init": {"kind": "normal", "std": 1e-3}},
    },
    "linear": {"target": "target", "model": {"kind": "linear"}, "optimizer": {"kind": "adagrad"}},
}


def _case(submitted: Json, given: Readings | None = None, **evidence: Any) -> Case:
    config = resolve(submitted)
    prepared = prepare(Table.from_arrays(diabetes()), config)
    return Case(
        Evidence(
            config=prepared.config,
            submitted=submitted,
            readings=given or readings(),
            prepared=prepared,
            **evidence,
        )
    )


PATCHES: dict[str, Any] = {
    "calmer_lr": lambda case: remedies.set_lr(remedies.calmer_lr(case)),
    "bolder_lr": lambda case: remedies.set_lr(remedies.bolder_lr(case)),
    "lr_once_scaled": lambda case: remedies.set_lr(remedies.lr_once_scaled(case)),
    "scale_inputs": lambda case: remedies.scale_inputs(case, ["bmi", "age"]),
    "scale_target": remedies.scale_target,
    "winsorize": remedies.winsorize,
    "fill_missing": remedies.fill_missing,
    "exclude": lambda case: remedies.exclude(case, ["age"]),
    "huber": remedies.huber,
    "norm_clip": remedies.norm_clip,
    "linear_model": remedies.linear_model,
    "relu_and_he": remedies.relu_and_he,
    "leaky_relu": remedies.leaky_relu,
    "scale_all": remedies.scale_all,
    "mend_scales": remedies.mend_scales,
    "stabilise": remedies.stabilise,
    "zero_bias": remedies.zero_bias,
    "hold_back": remedies.hold_back,
    "mse": remedies.mse,
    "train_longer": remedies.train_longer,
    "larger_batch": remedies.larger_batch,
}


@pytest.mark.parametrize("submitted", SUBMITTED.values(), ids=SUBMITTED)
@pytest.mark.parametrize("patch", PATCHES.values(), ids=PATCHES)
def test_every_patch_is_accepted_on_every_config(patch: Any, submitted: Json) -> None:
    made = patch(_case(submitted))
    resolve(merge_patch(submitted, made))
    assert remedies.is_accepted(submitted, made)


def _troubled() -> dict[str, Readings]:
    """Readings on which, between them, every rule that reads readings fires."""
    fired = {"fired": np.ones(STEPS, bool), "coefficients": np.full(STEPS, 0.01)}
    losses, lost = np.geomspace(1, 1e6, STEPS), np.ones(STEPS)
    lost[3:] = np.nan
    checks = np.arange(6) * 10
    half = np.full((6, 1), 0.9, np.float32)
    still = np.ones((STEPS, 2), np.float32)
    still[:, 0] = 1e-7
    return {
        "exploding": readings(loss=losses, global_norm=losses),
        "lost": readings(loss=lost, nonfinite=np.where(np.isnan(lost), 5, 0)),
        "jump": readings(loss=np.array([1.0, np.inf] + [np.nan] * (STEPS - 2))),
        "fast": readings(update_ratio=np.full((STEPS, 2), 0.5, np.float32)),
        "slow": readings(update_ratio=np.full((STEPS, 2), 1e-8, np.float32), loss=np.full(STEPS, 2.0)),
        "clipped": readings(
            clipping=[{"kind": "norm", "limit": 1e-4, **fired}], clip_coefficient=np.full(STEPS, 0.01)
        ),
        "value": readings(clipping=[{"kind": "value", "limit": 1e-4, **fired}]),
        "normalised": readings(clipping=[{"kind": "normalize", "limit": None, **fired}]),
        "dead": readings(sparse={"dead_fraction": (checks, half, ("layers.0",))}),
        "saturated": readings(sparse={"saturated_fraction": (checks, half, ("layers.0",))}),
        "vanishing": readings(layer_norm=still, loss=np.full(STEPS, 2.0)),
        "economy": readings(
            layer_norm=np.zeros((0, 2)), weight_norm=np.zeros((0, 2)), update_ratio=np.zeros((0, 2))
        ),
        "noisy": readings(sparse={"noise_scale": (checks, np.full((6, 1), 1e6, np.float32), ("all",))}),
        "spiky": readings(loss=np.where(np.arange(STEPS) == 150, 50.0, 0.3)),
        "thrown off": readings(loss=np.where(np.arange(STEPS) // 10 == 15, 50.0, 0.3)),
        "flat": readings(loss=np.full(STEPS, 2.0)),
        "to and fro": readings(epochs=_swinging()),
        "far off": readings(initial={"activation_std": {"layers.0": 1e-3, "output": 200.0}}),
        "empty": Readings(),
    }


def _swinging() -> list[Json]:
    losses = [1.0 + (-1) ** i * 0.5 for i in range(20)]
    return [{"epoch": i, "train_loss": loss, "validation_loss": loss} for i, loss in enumerate(losses)]


TROUBLED = _troubled()


@pytest.mark.parametrize("status", ["succeeded", "diverged"])
@pytest.mark.parametrize("submitted", SUBMITTED.values(), ids=SUBMITTED)
@pytest.mark.parametrize("trouble", TROUBLED)
def test_every_findings_patch_is_accepted(trouble: str, submitted: Json, status: str) -> None:
    case = _case(submitted, TROUBLED[trouble], status=status, profile=_profile())
    for rule in RULES.values():
        for finding in rule(case):
            resolve(merge_patch(submitted, finding.remedy.patch))
            assert finding.explanation.endswith(".")


def _profile() -> Json:
    return {
        "rows": 442,
        "duplicate_rows": 100,
        "constant_columns": ["age"],
        "duplicate_columns": [["bmi", "s5"]],
        "columns": [],
        "findings": [{**MIXED, "column": name} for name in ("bmi", "s5")],
    }


CELL: Json = {"row": 100, "line": 102, "cell": "1,2x"}
MIXED: Json = {"code": "mixed_types", "column": "s5", "count": 1, "cells": [CELL]}


def test_a_cell_that_makes_text_of_a_column_is_named_and_can_be_counted_as_missing() -> None:
    case = _case(SGD, TROUBLED["empty"], profile={"rows": 442, "columns": [], "findings": [MIXED]})
    (finding,) = [one for one in RULES["data_quality"](case) if one.evidence["issue"] == "mixed_types"]
    assert finding.severity == "warning"
    assert (finding.where["column"], finding.where["line"]) == ("s5", 102)
    assert "“1,2x” in line 102" in finding.explanation
    assert finding.remedy.patch == {
        "columns": {"types": {"s5": "numeric"}, "missing_values": {"s5": ["1,2x"]}}
    }
    mended = _case(merge_patch(SGD, finding.remedy.patch), TROUBLED["empty"], profile=case.evidence.profile)
    assert not any(one.evidence["issue"] == "mixed_types" for one in RULES["data_quality"](mended))


def test_a_patch_leaves_alone_what_it_does_not_mend() -> None:
    submitted = SUBMITTED["columns"]
    merged = merge_patch(submitted, remedies.norm_clip(_case(submitted), 2.0))
    assert merged["clips"] == [{"kind": "value", "max_value": 0.1}, {"kind": "norm", "max_norm": 2.0}]
    assert merged["columns"] == submitted["columns"]
    merged = merge_patch(submitted, remedies.exclude(_case(submitted), ["age"]))
    assert merged["columns"]["include"] == ["bmi", "s5"]


@pytest.mark.parametrize(
    ("value", "expected"), [(0.003, 0.003), (0.00399, 0.003), (10.0, 10.0), (9.99, 9.0), (1e-7, 1e-7)]
)
def test_one_digit_never_rounds_up(value: float, expected: float) -> None:
    assert remedies.one_digit(value) == expected


def test_outlying_targets_under_a_squared_error_are_named() -> None:
    rng = np.random.default_rng(0)
    target = diabetes()["target"].copy()
    rows = rng.choice(442, 6, replace=False)
    target[rows] *= 200
    config = {
        "target": "target",
        "preset": "custom",
        "model": {"kind": "mlp", "widths": [32]},
        "prepare": {"target": {"kind": "robust"}},
        "loss": {"kind": "mse"},
        "budget": {"epochs": 15, "batch_size": 64},
        "split": {"kind": "random", "validation": 0.15, "test": 0},
    }
    result = trained(diabetes(target=target), config)
    finding = next(f for f in result.report["findings"] if f["rule"] == "outliers")
    assert finding["where"]["row"] in rows
    assert finding["where"]["column"] == "target"
    assert finding["evidence"]["share_of_gradient"] > 0.5
    assert finding["remedy"]["patch"]["loss"]["kind"] == "huber"


def test_the_rate_for_scaled_inputs_rests_on_the_limit_measured_with_them() -> None:
    """Not on how far the first step went with the columns as they stand, which is far too little after."""
    result = trained(diabetes(), merge_patch(RAW, {"optimizer": {"lr": 1.0}}))
    first = result.report["findings"][0]
    limit = first["evidence"]["stability_limit_with_scaled_inputs"]
    assert first["rule"] == "feature_scale"
    assert first["remedy"]["patch"]["optimizer"]["lr"] == remedies.one_digit(limit / 4)
    assert limit / 8 < first["remedy"]["patch"]["optimizer"]["lr"] < 1.0
