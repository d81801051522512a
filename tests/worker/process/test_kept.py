"""What a stopped job leaves, and what its report says of the model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradkeel.contract.report import empty_report
from gradkeel_worker import outcome, training
from gradkeel_worker.data import Table
from gradkeel_worker.engine import Result, train
from gradkeel_worker.kept import with_model_told
from gradkeel_worker.outcome import Outcome

JOB: dict[str, Any] = {
    "job_id": "job_x",
    "title": "numbers",
    "dataset": {"id": "ds_x", "sha256": "0" * 64, "name": "numbers"},
    "created_at": "2026-01-01T00:00:00Z",
}
CONFIG: dict[str, Any] = {
    "dataset_id": "ds_x",
    "target": "y",
    "preset": "fast",
    "budget": {"batch_size": 16, "epochs": 50},
}


@pytest.fixture(scope="module")
def stopped() -> Result:
    """A real training that is cancelled in its fourth epoch."""
    draws = np.random.default_rng(0).normal(size=(200, 3))
    table = Table.from_arrays({"a": draws[:, 0], "b": draws[:, 1], "y": draws[:, 0] + 0.1 * draws[:, 2]})
    answers = iter([None] * 30 + ["cancelled"])
    return train(table, CONFIG, should_stop=lambda: next(answers))


def test_a_stopped_training_leaves_its_best_model(stopped: Result, tmp_path: Path) -> None:
    found = training._leave_in_time(stopped, JOB, tmp_path)
    assert found.status == "cancelled" and found.model is not None and found.metrics is not None
    assert found.metrics["test"]["rmse"] > 0
    report = json.loads((tmp_path / outcome.REPORT).read_text())
    assert report["fit"]["metrics"]["test"] == found.metrics["test"]
    assert len((tmp_path / outcome.PREDICTIONS).read_text().splitlines()) == 1 + len(stopped.prepared.test)


def test_a_model_that_cannot_be_exported_leaves_the_rest(stopped: Result, tmp_path: Path) -> None:
    (tmp_path / outcome.BUNDLE).mkdir()
    found = training._leave_in_time(stopped, JOB, tmp_path)
    assert found == Outcome.read(tmp_path)
    assert (found.status, found.model) == ("cancelled", None)
    assert {outcome.REPORT, outcome.SERIES} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ("best", "kept", "words"),
    [
        (None, False, "No model was kept, for none was ready."),
        (6, True, "The last good model, that of epoch 7, was kept."),
        (6, False, "No model was kept, for that of epoch 7 was not exported in time."),
    ],
)
def test_words(best: int | None, kept: bool, words: str) -> None:
    before = empty_report(summary="It was cancelled.") | {"fit": {"best_epoch": best}}
    report = with_model_told(before | {"provenance": {"status": "cancelled"}}, "cancelled", kept)
    assert report["summary"] == f"It was cancelled. {words}"


def test_a_training_that_had_ended_by_itself_is_told_apart() -> None:
    before = empty_report(summary="All went well.") | {"provenance": {"status": "succeeded"}}
    report = with_model_told(before, "deadline", kept=False)
    assert report["summary"].startswith("All went well. The job ran out of time after the training")
    assert report["provenance"] == {"status": "deadline"}
    assert before["summary"] == "All went well."
