"""The report as a document: keys, size, JSON, and that one exists whatever became of the job."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from gradkeel.contract.patch import merge_patch
from gradkeel.contract.report import REPORT_SCHEMA
from gradkeel.contract.resolve import resolve
from gradkeel_worker.data import Table
from gradkeel_worker.diagnosis import partial_report
from gradkeel_worker.engine import train
from gradkeel_worker.engine.readings import Readings
from worker.diagnosis.runs import RAW, SGD, VALIDATOR, breast_cancer, diabetes, lead, trained
from worker.diagnosis.test_gradient_check import WrongLoss
from worker.diagnosis.test_rules import readings

Json = dict[str, Any]


def _strict(report: Json) -> str:
    return json.dumps(report, allow_nan=False)


def test_a_report_has_every_key_and_is_strict_json() -> None:
    report = trained(diabetes(), SGD).report
    assert set(REPORT_SCHEMA["required"]) <= set(report)
    _strict(report)
    assert (
        report["fit"]["gain"]["constant"]["rmse"]["low"] < report["fit"]["gain"]["constant"]["rmse"]["high"]
    )
    assert len(report["fit"]["predictions_sample"]) == len(trained(diabetes(), SGD).prepared.test.rows)
    assert report["data"]["gradient_inflation"]["bmi"] == pytest.approx(1.0)
    assert report["clipping"][0]["role"] in ("idle", "safety_net")
    assert "constant" in report["summary"]


def test_the_same_job_reports_the_same() -> None:
    timings = ("cost", "provenance")
    one, two = (trained(diabetes(), SGD).report for _ in range(2))
    one["fit"]["seconds"] = two["fit"]["seconds"] = None
    assert {k: v for k, v in one.items() if k not in timings} == {
        k: v for k, v in two.items() if k not in timings
    }


def test_classes_show_the_probability_given_to_the_right_one() -> None:
    report = trained(breast_cancer(), SGD).report
    assert all(0 <= chance <= 1 for _, chance in report["fit"]["predictions_sample"])
    assert report["fit"]["mean_residual"] is None


def test_a_custom_loss_with_a_wrong_backward_is_found_in_training() -> None:
    report = trained(diabetes(), SGD, loss=WrongLoss(1.01)).report
    finding = lead(report)
    assert finding["rule"] == "gradient_mismatch"
    assert finding["evidence"]["relative_error"] == pytest.approx(0.01, rel=0.05)
    assert report["verdict"] == "unstable"


def test_a_custom_model_is_checked_with_its_own_modules() -> None:
    model = nn.Sequential(nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 1))
    check = trained(diabetes(), SGD, model=model).report["gradient_check"]
    assert {outcome["status"] for outcome in check["parameters"].values()} == {"pass"}
    assert len(check["parameters"]) == 4


def test_a_module_that_cannot_be_checked_leaves_a_note() -> None:
    class Single(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(10, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x.float().clone()) if x.element_size() == 4 else self.linear(x.float())

    report = train(Table.from_arrays(diabetes()), SGD, model=Single()).report
    assert report["gradient_check"] is None
    assert any("gradient check" in note for note in report["provenance"]["notes"])


def test_long_runs_of_many_layers_stay_below_the_limit() -> None:
    steps, layers = 50_000, 120
    wide = readings(
        steps,
        layers=tuple(f"layers.{i}" for i in range(layers)),
        layer_sizes=(100,) * layers,
        layer_norm=np.random.default_rng(0).random((steps, layers)).astype(np.float32),
        weight_norm=np.ones((steps, layers), np.float32),
        update_ratio=np.full((steps, layers), 1e-3, np.float32),
        loss=np.where(np.arange(steps) % 7 == 0, np.nan, 1.0),
    )
    report = partial_report(wide, resolve(SGD), SGD, "out_of_memory")
    VALIDATOR.validate(report)
    assert len(_strict(report)) < 5_000_000


@pytest.mark.parametrize(
    "status", ["cancelled", "deadline", "out_of_memory", "worker_lost", "bad_data", "internal"]
)
@pytest.mark.parametrize("given", [Readings(), readings()], ids=["no steps", "some steps"])
def test_a_report_exists_however_the_job_ended(status: str, given: Readings) -> None:
    report = partial_report(given, resolve(SGD), SGD, status, {"code": status, "message": "…"})
    VALIDATOR.validate(report)
    _strict(report)
    assert report["summary"]
    assert report["verdict"] == ("healthy" if len(given.steps) else None)  # nothing trained, nothing judged
    assert report["provenance"]["reproducible"] is (status == "bad_data")


def test_readings_left_by_a_diverged_child_still_name_the_trouble() -> None:
    result = trained(diabetes(), RAW)
    kept = Readings.from_bytes(result.readings.to_bytes())
    report = partial_report(kept, result.config, RAW, "diverged")
    VALIDATOR.validate(report)
    assert report["verdict"] == "diverged"
    assert {f["rule"] for f in report["findings"]} >= {"exploding_gradient", "non_finite"}
    resolve(merge_patch(RAW, lead(report)["remedy"]["patch"]))


def test_a_partial_report_needs_neither_torch_nor_scikit_learn() -> None:
    program = (
        "import sys\n"
        "from gradkeel.contract.resolve import resolve\n"
        "from gradkeel_worker.diagnosis import partial_report\n"
        "from gradkeel_worker.engine.readings import Readings\n"
        "submitted = {'target': 'y'}\n"
        "report = partial_report(Readings(), resolve(submitted), submitted, 'worker_lost')\n"
        "assert report['summary']\n"
        "loaded = {'torch', 'sklearn', 'scipy'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
