"""Tables, configs and trainings that the tests of diagnosis share."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from jsonschema import Draft202012Validator
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

from gradkeel.contract.patch import merge_patch
from gradkeel.contract.report import REPORT_SCHEMA
from gradkeel_worker.data import Table
from gradkeel_worker.engine import Result, train

Json = dict[str, Any]
Columns = dict[str, np.ndarray[Any, Any]]

SGD: Json = {
    "target": "target",
    "preset": "custom",
    "model": {"kind": "mlp", "widths": [64, 64]},
    "optimizer": {"kind": "sgd", "lr": 0.01},
    "budget": {"batch_size": 64, "epochs": 30},
    "device": "cpu",
}
ADAMW = merge_patch(SGD, {"optimizer": {"kind": "adamw", "lr": 0.001}})
UNSCALED = {"prepare": {"numeric": {"kind": "none"}, "target": {"kind": "none"}}}
RAW = merge_patch(SGD, {**UNSCALED, "loss": {"kind": "mse"}, "clips": []})

VALIDATOR = Draft202012Validator(REPORT_SCHEMA)


@lru_cache
def _diabetes() -> Columns:
    data = load_diabetes(scaled=False)
    columns = {name: data.data[:, i].astype(float) for i, name in enumerate(data.feature_names)}
    return columns | {"target": data.target.astype(float)}


def diabetes(**changed: Any) -> Columns:
    """scikit-learn's diabetes data in raw units, with some columns replaced."""
    return _diabetes() | changed


def classes(load: Any) -> Columns:
    data = load()
    columns = {f"x{i}": data.data[:, i].astype(float) for i in range(data.data.shape[1])}
    return columns | {"target": np.asarray(data.target_names, object)[data.target]}


def breast_cancer() -> Columns:
    return classes(load_breast_cancer)


def wine() -> Columns:
    return classes(load_wine)


def housing(rows: int = 1500) -> Columns:
    """Like California housing: eight skewed columns, some with far-out values, a smooth non-linear target."""
    rng = np.random.default_rng(0)
    income, age = rng.lognormal(1.2, 0.5, rows), rng.uniform(1, 52, rows)
    rooms, people = rng.lognormal(1.6, 0.3, rows), rng.lognormal(7, 0.8, rows)
    north, west = rng.uniform(32, 42, rows), rng.uniform(-124, -114, rows)
    value = 40_000 * income * np.exp(-(((north - 36) / 5) ** 2)) + 600 * age + 9_000 * np.abs(west + 119)
    columns = {"income": income, "age": age, "rooms": rooms, "people": people, "north": north, "west": west}
    return columns | {"target": value * rng.lognormal(0, 0.15, rows)}


def trained(columns: Columns, config: Json, **options: Any) -> Result:
    """A training whose report satisfies the served schema."""
    result = train(Table.from_arrays(columns), config, **options)
    VALIDATOR.validate(result.report)
    assert result.report["provenance"]["notes"] == []
    return result


def lead(report: Json) -> Json:
    """The first finding that is more than information."""
    return next(finding for finding in report["findings"] if finding["severity"] != "info")


def found(report: Json, rule: str) -> Json:
    return next(finding for finding in report["findings"] if finding["rule"] == rule)


def serious(report: Json) -> list[str]:
    """Rules of the gradient and fit families that say warning or worse."""
    return [
        finding["rule"]
        for finding in report["findings"]
        if finding["severity"] != "info" and finding["family"] != "data"
    ]
