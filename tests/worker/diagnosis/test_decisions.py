"""What the validation part decides about a classifier's answers, and where it is applied."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from gradkeel_worker.data import Table
from gradkeel_worker.data.decision import Decision
from gradkeel_worker.diagnosis.evaluation import evaluate, outputs
from gradkeel_worker.engine import Result, train

OUTPUT = {"calibrate": "temperature", "threshold": "f1"}


def rare(**blocks: Any) -> Result:
    """A class of one row in six that the columns tell poorly; the focal loss leaves the model too unsure."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(900, 5))
    y = np.where(x[:, 0] + 1.5 * draw.normal(size=900) > 1.7, "yes", "no")
    config = {
        "target": "y",
        "preset": "custom",
        "model": {"kind": "mlp", "widths": [64]},
        "optimizer": {"kind": "adamw", "lr": 0.01},
        "budget": {"epochs": 25, "batch_size": 32, "patience": 0},
        "loss": {"kind": "focal", "gamma": 4.0},
        "split": {"validation": 0.3, "test": 0.2},
        "health": {"gradient_check": False},
        "device": "cpu",
    }
    result = train(Table.from_arrays({**{f"x{i}": x[:, i] for i in range(5)}, "y": y}), config | blocks)
    assert result.model is not None
    return result


@pytest.fixture(scope="module")
def plain() -> Result:
    return rare()


@pytest.fixture(scope="module")
def decided() -> Result:
    return rare(output=OUTPUT)


def test_unless_asked_for_the_likelier_class_is_named_and_both_are_told_of(plain: Result) -> None:
    assert plain.prepared.decision == Decision()
    named = plain.predictions["probabilities"].argmax(axis=1)
    assert (plain.predictions["prediction"] == np.array(plain.prepared.classes)[named]).all()
    fit = plain.report["fit"]
    assert fit["calibration"]["temperature"] is not None and fit["calibration"]["applied"] is False
    assert {one["kind"]: one["applied"] for one in fit["threshold"]["choices"]} == {
        "half": True,
        "f1": False,
        "balanced_accuracy": False,
    }


def test_what_is_asked_for_is_applied_everywhere(plain: Result, decided: Result) -> None:
    decision, prepared = decided.prepared.decision, decided.prepared
    assert decision.temperature is not None and decision.threshold is not None
    logits = outputs(decided.model, prepared.test)[:, 0] / decision.temperature
    told = decided.predictions["probabilities"]
    np.testing.assert_allclose(told[:, 1], 1 / (1 + np.exp(-logits)), rtol=1e-9)
    named = (told[:, 1] > decision.threshold).astype(int)
    assert (decided.predictions["prediction"] == np.array(prepared.classes)[named]).all()
    actual, test = prepared.test.y_raw, decided.metrics["test"]
    assert test["f1"] == pytest.approx(sk.f1_score(actual, named))
    assert test["accuracy"] == pytest.approx(sk.accuracy_score(actual, named))
    assert test["log_loss"] == pytest.approx(sk.log_loss(actual, told[:, 1]))
    assert test["auc"] == pytest.approx(plain.metrics["test"]["auc"])
    assert decided.metrics["validation"]["log_loss"] < plain.metrics["validation"]["log_loss"]
    assert decided.metrics["validation"]["f1"] > plain.metrics["validation"]["f1"]
    choices = {one["kind"]: one for one in decided.report["fit"]["threshold"]["choices"]}
    assert choices["f1"]["test"]["f1"] == pytest.approx(test["f1"])
    assert decided.metrics["baselines"] == plain.metrics["baselines"]


def test_test_rows_decide_nothing(decided: Result) -> None:
    prepared = decided.prepared
    test = replace(prepared.test, x=prepared.test.x[::-1] * 3, y_raw=1 - prepared.test.y_raw)
    other = evaluate(decided.model, replace(prepared, test=test), 0)
    assert other.decision == prepared.decision
    assert other.details["calibration"] == decided.report["fit"]["calibration"]


def test_a_job_that_runs_again_tells_the_same(decided: Result) -> None:
    again = rare(output=OUTPUT)
    keys = ("classification", "threshold", "calibration", "importance")
    assert {key: again.report["fit"][key] for key in keys} == {
        key: decided.report["fit"][key] for key in keys
    }


def test_without_validation_rows_to_tell_by_nothing_is_decided() -> None:
    result = rare(split={"validation": 0.0, "test": 0.2}, budget={"epochs": 1, "batch_size": 32})
    fit = result.report["fit"]
    assert fit["threshold"] is None and fit["calibration"]["temperature"] is None
    assert fit["classification"]["rows"] == len(result.prepared.test)
