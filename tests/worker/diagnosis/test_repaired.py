"""What the report says of repairs, and when a try is undone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradkeel.contract.report import empty_report
from gradkeel_worker.diagnosis.evaluation import row_losses, score
from gradkeel_worker.diagnosis.repaired import LEADING, asked_after, closed, with_repairs
from gradkeel_worker.engine.repairs import Validated

from ..engine.cases import breast_cancer, prepared

Json = dict[str, Any]

BEGUN: Json = {
    "attempt": 1,
    "rule": "lr_too_high",
    "text": "Lower the learning rate.",
    "patch": {"optimizer": {"lr": 0.1}},
    "proposed": {"optimizer": {"lr": 0.1}},
    "from": "start",
    "step": 0,
    "stopped_at": 9,
    "failed": "It was too high.",
    "before": None,
    "after": None,
    "metric": None,
    "gained": None,
    "steps": 20,
    "status": "applied",
    "reason": "",
}


@pytest.mark.parametrize(
    ("before", "after", "spared", "status", "gained"),
    [
        (3.0, 2.0, False, "applied", 1.0),
        (2.0, 2.0, False, "reverted", 0.0),
        (2.0, 2.0, True, "applied", 0.0),
        (2.0, 3.0, False, "reverted", -1.0),
        (2.0, 3.0, True, "applied", -1.0),
        (2.0, None, False, "reverted", None),
        (None, 3.0, False, "applied", None),
        (None, None, False, "applied", None),
    ],
)
def test_what_is_worse_is_undone_unless_there_was_nothing_before(
    before: float | None, after: float | None, spared: bool, status: str, gained: float | None
) -> None:
    metrics = [None if value is None else {"mae": 9.0, "rmse": value} for value in (before, after)]
    entry = closed(BEGUN, *metrics, spared=spared)
    assert (entry["status"], entry["gained"]) == (status, gained)
    assert ("may be chance" in entry["reason"]) == (spared and before != after)
    assert ("no usable model" in entry["reason"]) == (before is None or after is None)


def test_only_what_was_applied_is_in_the_config() -> None:
    undone = BEGUN | {"status": "reverted", "patch": {"seed": 1}}
    refused = BEGUN | {"status": "refused", "patch": {"seed": 2}}
    assert asked_after({"target": "y"}, [BEGUN, undone, refused]) == {"target": "y", "optimizer": {"lr": 0.1}}


def test_patches_hold_the_repairs_and_say_so() -> None:
    finding = {"rule": "dead_units", "remedy": {"text": "Do.", "patch": {"seed": 3}, "tried": None}}
    report = empty_report(summary="It went well.") | {"findings": [finding]}
    told = with_repairs(report, {"target": "y"}, [BEGUN])
    (remedy,) = (each["remedy"] for each in told["findings"])
    assert remedy["patch"] == {"optimizer": {"lr": 0.1}, "seed": 3}
    assert "repairs too" in remedy["text"]
    assert told["summary"].startswith("In the first run something critical was found. It was too high.")
    assert told["summary"].endswith("Of the run that is returned: It went well.")
    assert with_repairs(report, {"target": "y"}, []) == report


@pytest.mark.parametrize("changes", [{}, {"target": ["y", "bmi"]}, {"loss": {"kind": "quantile"}}])
def test_row_losses_add_up_to_the_leading_metric_of_numbers(changes: Json) -> None:
    data = prepared(**changes)
    actual = data.validation.y_raw
    shape = (len(actual), data.outputs) if data.outputs > 1 else len(actual)
    predicted = np.random.default_rng(0).normal(150, 50, shape)
    found, losses = score(data, actual, predicted), row_losses(data, actual, predicted)
    name = next(each for each in LEADING if each in found)
    mean = losses.mean() if name == "pinball" else np.sqrt(losses.mean())
    assert found[name] == pytest.approx(mean, rel=1e-12)  # float64 sums of a few hundred numbers


def test_row_losses_add_up_to_the_log_loss_of_classes() -> None:
    data = prepared(breast_cancer())
    share = np.random.default_rng(0).uniform(0.01, 0.99, len(data.validation))
    predicted = np.stack([1 - share, share], axis=1)
    actual = data.validation.y_raw
    assert score(data, actual, predicted)["log_loss"] == pytest.approx(
        row_losses(data, actual, predicted).mean(), rel=1e-12
    )


def test_predictions_are_found_by_row_and_only_where_they_are_numbers() -> None:
    held = Validated(np.array([4, 9, 2]), np.array([[1.0, 2.0], [np.nan, 0.0], [5.0, 6.0]]))
    assert held.sound() == {4: 0, 2: 2}
    assert held.of([2, 4]).tolist() == [[5.0, 6.0], [1.0, 2.0]]
