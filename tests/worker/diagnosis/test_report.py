"""The report as a document: keys, size, JSON, and that one exists whatever became of the job."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from torch import Tensor, nn

from gradkeel.contract.patch import merge_patch
from gradkeel.contract.report import REPORT_SCHEMA
from gradkeel.contract.resolve import resolve
from gradkeel_worker.data import Table
from gradkeel_worker.diagnosis import partial_report
from gradkeel_worker.diagnosis.series import series_of
from gradkeel_worker.engine import train
from gradkeel_worker.engine.readings import Readings
from gradkeel_worker.probes.spread import BINS
from gradkeel_worker.series import write_series
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


FULL = merge_patch(SGD, {"health": {"tier": "full"}})


def test_the_full_tier_reaches_the_report() -> None:
    columns = {("output" if name == "bmi" else name): values for name, values in diabetes().items()}
    result = trained(columns, FULL)
    report, found = result.report, result.report["series"]
    assert not list(VALIDATOR.iter_errors(report))
    assert len(found["cosine"]) == len(found["steps"])
    assert found["cosine"][0] is None
    assert all(-1.0001 < value < 1.0001 for value in found["cosine"][1:])
    noise = found["gradient_noise"]
    assert len(noise["steps"]) == len(noise["noise_scale"]) == len(noise["trace"]) >= 3
    bends = found["curvature"]
    for name in ("lambda_max", "gauss_newton_lambda_max"):
        assert all(value > 0 for value in bends[name]["value"])
    assert "preconditioned_lambda_max" not in bends  # sgd divides by nothing
    assert bends["hessian_trace"]["steps"][0] == 0
    assert [sum(shares) for shares in bends["hessian_density"]["shares"]] == pytest.approx(
        [1.0] * len(bends["hessian_density"]["steps"]), abs=1e-4
    )
    pull = found["input_gradient"]
    assert set(pull["columns"]) == set(columns) - {"target"}
    assert all(len(values) == len(pull["steps"]) for values in pull["columns"].values())
    for name, size in zip(result.readings.layers, result.readings.layer_sizes, strict=True):
        for kind in ("gradient_histogram", "weight_histogram"):
            histogram = found["layers"][name][kind]
            assert {sum(counts) for counts in histogram["counts"]} == {size}
            assert {len(counts) for counts in histogram["counts"]} == {len(found["histogram_bins"])}
    assert "input_gradient" not in found["layers"]["output"]  # a column of that name is no layer
    assert report["verdict"] == "healthy"


def test_every_measurement_is_in_the_parquet_series(tmp_path: Path) -> None:
    readings = trained(diabetes(), FULL).readings
    write_series(readings, tmp_path / "series.parquet")
    table = pq.read_table(tmp_path / "series.parquet")
    assert table.num_rows == len(readings.steps)
    np.testing.assert_array_equal(table["cosine"].to_numpy(), readings.cosine)
    for name, (steps, values, names) in readings.sparse.items():
        if name.startswith(("gradient_histogram/", "weight_histogram/")):
            column = table[name].to_pylist()
            assert [column[step] for step in steps] == values.astype(int).tolist()
            assert sum(each is not None for each in column) == len(steps)
            continue
        for i, each in enumerate(names):
            column = table[f"{name}/{each}"].to_pylist()
            np.testing.assert_array_equal([column[step] for step in steps], values[:, i])
            assert sum(cell is not None for cell in column) == len(steps)


def test_very_many_layers_and_columns_still_fit() -> None:
    steps, layers, draw = 2000, 150, np.random.default_rng(0)
    norms = draw.random((steps, layers)).astype(np.float32)
    found = readings(loss=np.ones(steps))
    found.layers = tuple(f"layers.{i}" for i in range(layers))
    found.layer_sizes = (100,) * layers
    found.layer_norm = found.weight_norm = found.update_ratio = norms
    at = np.arange(0, steps, 10)
    counts = draw.integers(0, 1000, (len(at), 20)).astype(np.float32)
    for kind in ("gradient_histogram", "weight_histogram"):
        found.sparse |= {f"{kind}/{name}": (at, counts, BINS) for name in found.layers}
    names = tuple(f"a rather long name of a column, number {i}" for i in range(3000))
    found.sparse["input_gradient"] = (at, draw.random((len(at), 3000)).astype(np.float32), names)
    series = series_of(found)
    assert len(json.dumps(series)) < 4_000_000
    assert series["input_gradient"]["columns_of"] == 3000
    assert len(series["input_gradient"]["columns"]) == 500
    assert len(series["layers"]["layers.7"]["weight_histogram"]["steps"]) >= 2


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
