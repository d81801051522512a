"""A small bundle with one column of each type, trained and exported by the worker."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradkeel.contract.resolve import resolve
from gradkeel.local import Model, load
from gradkeel_worker.data import Table
from gradkeel_worker.engine import train
from gradkeel_worker.export import write_bundle


def make_bundle(path: Path, data: dict[str, Any], **config: Any) -> Path:
    """Train on these columns for one epoch and write the bundle."""
    blocks = {"preset": "custom", "target": "y", "budget": {"epochs": 1}, "health": {"gradient_check": False}}
    blocks |= {"model": {"kind": "mlp", "widths": [6]}} | config
    types = {"when": "datetime", "flag": "boolean"}
    table = Table.from_arrays(data, {name: types[name] for name in data if name in types})
    result = train(table, resolve(blocks))
    write_bundle(
        result,
        path,
        dataset={"id": "ds_1", "sha256": "00" * 32, "name": "raw.csv", "columns": [*data, "note"]},
        job_id="job_1",
        created_at="2026-01-02T03:04:05Z",
        report_html="<!doctype html>",
    )
    return path


def make_columns(seed: int = 0) -> dict[str, Any]:
    """120 rows: a number with holes, a whole number, two kinds of category, a date, a truth value."""
    rng = np.random.default_rng(seed)
    n = 120
    holes = rng.normal(5, 2, n)
    holes[::9] = np.nan
    return {
        "size": holes,
        "count": rng.integers(0, 9, n),
        "zone": rng.choice(np.array(["a", "b", "None"], dtype=object), n),
        "zip": rng.integers(10, 14, n),
        "when": rng.integers(0, 10**9, n).astype(float),
        "flag": rng.choice(np.array(["yes", "no"], dtype=object), n),
        "y": rng.normal(100, 9, n),
    }


TYPES = {"columns": {"types": {"zip": "categorical"}, "missing_values": {"size": [-200], "zone": ["gone"]}}}


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A regression bundle."""
    return make_bundle(tmp_path_factory.mktemp("bundle") / "model.gradkeel", make_columns(), **TYPES)


@pytest.fixture(scope="session")
def model(bundle_path: Path) -> Model:
    """The same, loaded."""
    return load(bundle_path)


@pytest.fixture(scope="session")
def binary_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A binary model with the classes 9 and 10."""
    columns = make_columns() | {"y": np.random.default_rng(1).choice([9, 10], 120)}
    return load(
        make_bundle(tmp_path_factory.mktemp("binary") / "m.gradkeel", columns, loss={"kind": "bce"}, **TYPES)
    )


@pytest.fixture
def load_trained(tmp_path: Path) -> Callable[..., Model]:
    """Train on columns, export, load."""

    def trained(data: dict[str, Any], **config: Any) -> Model:
        return load(make_bundle(tmp_path / "model.gradkeel", data, **config))

    return trained


@pytest.fixture
def columns() -> dict[str, Any]:
    """The columns that the bundles were trained on."""
    return make_columns()


@pytest.fixture
def record() -> dict[str, Any]:
    """One complete row."""
    return {"size": 4.5, "count": 3, "zone": "a", "zip": "11", "when": "2001-02-03", "flag": "yes"}
