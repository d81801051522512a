"""The page of reports that the engine itself made."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.datasets import load_diabetes

from gradkeel_store.page import render_report
from gradkeel_worker.data import Table
from gradkeel_worker.engine import train
from store.page.test_document import read, words

BASE = {
    "dataset_id": "ds_1",
    "target": "progression",
    "preset": "custom",
    "model": {"kind": "mlp", "widths": [16, 16]},
    "optimizer": {"kind": "sgd", "lr": 0.01},
    "budget": {"batch_size": 64, "epochs": 8},
}
RAW = {
    "prepare": {"numeric": {"kind": "none"}, "target": {"kind": "none"}},
    "loss": {"kind": "mse"},
    "clips": [],
}


def diabetes() -> dict[str, np.ndarray]:
    data = load_diabetes(scaled=False)
    columns = {name: data.data[:, i].astype(float) for i, name in enumerate(data.feature_names)}
    return columns | {"progression": data.target.astype(float)}


def page_of(columns: dict[str, np.ndarray], **changes: object) -> str:
    result = train(Table.from_arrays(columns), BASE | changes)
    return render_report(json.loads(json.dumps(result.report)), title="diabetes.csv")


def test_a_run_that_went_well_has_every_chart() -> None:
    html = page_of(diabetes())
    drawn = {value for _, name, value in read(html).attributes if name == "id"}
    assert {"loss", "norm", "map", "ratios", "sweep", "scatter", "residuals"} <= drawn
    said = words(html)
    for part in ("Validation loss", "Linear model (ridge), test", "rule of thumb", "agrees", "Norm at 1"):
        assert part in said


def test_a_run_that_diverged_says_why_and_what_to_change() -> None:
    html = page_of(diabetes(), **RAW)
    said = words(html)
    for part in (
        "Diverged",
        "Most likely cause",
        "s1",
        "Not a finite number",
        "No clip was set for this job.",
    ):
        assert part in said
    assert '<pre id="patch-0"' in html


def test_a_missing_cell_that_was_let_through_is_named_with_its_column_and_row() -> None:
    columns = diabetes()
    columns["bmi"][17] = np.nan
    said = words(page_of(columns, prepare={"missing": {"kind": "propagate"}}))
    assert "column bmi" in said and "row 17" in said


@pytest.mark.parametrize("tier", ["economy", "standard"])
def test_classes_and_both_tiers_are_drawn(tier: str) -> None:
    columns = diabetes()
    high = columns.pop("progression") > 140
    columns["progression"] = np.where(high, "high", "low").astype(object)
    said = words(page_of(columns, health={"tier": tier}, loss={"kind": "bce"}))
    assert "How sure, and how right" in said
    assert ("no readings by layer" in said) == (tier == "economy")
