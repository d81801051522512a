"""A raw file with everything that is awkward, jobs over every preparation, and three predictors' answers.

The torch model's own test predictions are compared with ``gradkeel.local`` and with the ONNX file alone,
both run in one process that cannot import torch.
"""

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gradkeel.contract.resolve import resolve
from gradkeel_worker.data import Table, read_table
from gradkeel_worker.engine import Result, train
from gradkeel_worker.export import write_bundle

ROWS = 240
TYPES = {"size": "numeric", "count": "numeric", "wide": "numeric", "zone": "categorical", "code": "numeric"}
TYPES |= {
    "when": "datetime",
    "flag": "boolean",
    "part": "categorical",
    "notes": "text",
    "empty": "categorical",
}
TYPES |= {"price": "numeric", "sick": "categorical", "grade": "categorical"}


@dataclass(frozen=True)
class RawFile:
    """The Parquet file that ingest would write, its profile, and the cells as the file's text."""

    path: Path
    profile: dict[str, Any]
    cells: dict[str, list[Any]]


def raw_cells(seed: int, holes_in: tuple[str, ...]) -> dict[str, list[Any]]:
    """Cells by column: numbers or None, or text; cells are missing in the parts named. The test part holds
    categories that the training part lacks."""
    rng = np.random.default_rng(seed)
    part = rng.permutation(np.repeat(["train", "validation", "test"], [150, 40, 50]))
    test = part == "test"
    zone = rng.choice(["north", "south", "öst", "None", " west"], ROWS).astype(object)
    zone[test & (rng.random(ROWS) < 0.2)] = "never seen"
    code = rng.integers(1, 5, ROWS)
    code[test & (rng.random(ROWS) < 0.2)] = 77
    size, wide = rng.normal(50, 12, ROWS), rng.exponential(1e5, ROWS)
    days = rng.integers(0, 700, ROWS)
    when = np.datetime_as_string(np.datetime64("2023-01-05T06:30:00") + days * 100_000, unit="s").astype(
        object
    )
    flag = rng.choice(["yes", "no"], ROWS).astype(object)
    price = 1000 + 30 * size + wide / 500 + 200 * (flag == "yes") + rng.normal(0, 40, ROWS)
    grade = np.array(["low", "mid", "top"], dtype=object)[np.digitize(price, np.quantile(price, [0.3, 0.7]))]
    cells = {"size": size, "count": rng.integers(0, 9, ROWS), "wide": wide, "zone": zone, "code": code}
    cells |= {"when": when, "flag": flag, "price": price, "grade": grade, "part": part}
    cells["sick"] = np.where(price > np.median(price), "sick", "negative").astype(object)
    if holes_in:
        pierced = np.isin(part, holes_in)
        size[pierced & (rng.random(ROWS) < 0.1)] = np.nan
        size[pierced & (rng.random(ROWS) < 0.05)] = -200.0
        wide[pierced & (rng.random(ROWS) < 0.1)] = np.inf
        for column, markers in (
            ("zone", ["", "NA", " ?", "gone"]),
            ("flag", ["", "NaN"]),
            ("when", ["", "null"]),
        ):
            holes = pierced & (rng.random(ROWS) < 0.12)
            cells[column][holes] = rng.choice(np.array(markers, dtype=object), int(holes.sum()))
    listed = {name: values.tolist() for name, values in cells.items()}
    listed["notes"] = [f"free text {i}" for i in range(ROWS)]
    listed["empty"] = [""] * ROWS
    return {name: [None if cell != cell else cell for cell in column] for name, column in listed.items()}


def write_raw(folder: Path, cells: dict[str, list[Any]]) -> RawFile:
    """The file and profile of these cells, as ingest leaves them."""
    arrays = {name: pa.array(column) for name, column in cells.items()}
    arrays |= {"__row__": pa.array(range(ROWS)), "__line__": pa.array(range(2, ROWS + 2))}
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(arrays), folder / "data.parquet")
    profile = {
        "rows": ROWS,
        "columns": [{"name": name, "type": TYPES[name], "decimal": "."} for name in cells],
    }
    return RawFile(folder / "data.parquet", profile, cells)


BASE: dict[str, Any] = {
    "preset": "custom",
    "target": "price",
    "columns": {
        "exclude": ["sick", "grade"],
        "types": {"code": "categorical"},
        "missing_values": {"size": [-200], "*": ["gone"]},
    },
    "split": {"kind": "column", "column": "part"},
    "budget": {"epochs": 2, "batch_size": 32},
    "health": {"gradient_check": False},
    "model": {"kind": "mlp", "widths": [12, 6]},
}

BINARY = {
    "target": "sick",
    "columns": BASE["columns"] | {"exclude": ["price", "grade"]},
    "loss": {"kind": "bce"},
}
MULTICLASS = {
    "target": "grade",
    "columns": BASE["columns"] | {"exclude": ["price", "sick"]},
    "loss": {"kind": "cross_entropy"},
}
TABM: dict[str, Any] = {"kind": "tabm", "members": 4, "blocks": 2, "width": 12}
DECIDED = {
    "split": {"kind": "random", "validation": 0.3, "test": 0.2},
    "budget": {"epochs": 8, "batch_size": 16},
}
ACTIVATIONS = ("relu", "leaky_relu", "gelu", "silu", "elu", "selu", "tanh", "sigmoid")
SCALERS = ("standard", "robust", "minmax", "maxabs", "quantile", "power", "log1p", "signed_log1p", "none")

CASES: dict[str, dict[str, Any]] = {
    **{f"scaler {kind}": {"prepare": {"numeric": {"kind": kind}}} for kind in SCALERS},
    "scalers by column": {"prepare": {"per_column": {"wide": {"kind": "log1p"}, "size": {"kind": "minmax"}}}},
    "curves by column": {
        "prepare": {
            "missing": {"kind": "mean"},
            "per_column": {
                "wide": {"kind": "power"},
                "size": {"kind": "quantile", "n": 40},
                "count": {"kind": "quantile", "output": "uniform"},
            },
        }
    },
    "quantiles, propagate": {
        "prepare": {"numeric": {"kind": "quantile", "n": 20}, "missing": {"kind": "propagate"}}
    },
    "power, propagate": {"prepare": {"numeric": {"kind": "power"}, "missing": {"kind": "propagate"}}},
    "outliers dropped": {"prepare": {"outliers": {"kind": "drop", "robust_z": 3.0}}},
    **{
        f"target {kind}": {"prepare": {"target": {"kind": kind}}}
        for kind in ("auto", "standard", "robust", "log1p", "power", "none")
    },
    **{
        f"missing {kind} {indicator}": {"prepare": {"missing": {"kind": kind, "indicator": indicator}}}
        for kind in ("median", "mean", "most_frequent", "constant")
        for indicator in (False, True)
    },
    **{
        f"missing {kind}": {"prepare": {"missing": {"kind": kind}}}
        for kind in ("drop_rows", "refuse", "propagate")
    },
    "winsorize": {
        "prepare": {"outliers": {"kind": "winsorize"}, "per_column": {"wide": {"kind": "signed_log1p"}}}
    },
    "onehot": {"prepare": {"categorical": {"kind": "onehot"}}},
    "onehot, few levels": {"prepare": {"categorical": {"kind": "onehot", "max_levels": 2}}},
    "ordinal": {"prepare": {"categorical": {"kind": "ordinal"}}},
    "numbers, piecewise linear": {
        "prepare": {"embedding": {"kind": "piecewise_linear", "bins": 12, "width": 4}},
        "budget": {"ema": 0.05},
    },
    "numbers, bins of a tree": {
        "prepare": {"embedding": {"kind": "piecewise_linear", "bins": 6, "width": 3, "by": "tree"}},
        "precision": "bf16",
    },
    "numbers, periodic": {
        "prepare": {
            "embedding": {"kind": "periodic", "frequencies": 5, "width": 4},
            "missing": {"kind": "mean"},
        }
    },
    "embedding, rare levels": {
        "prepare": {"categorical": {"kind": "embedding", "min_count": 30, "width": 3}}
    },
    "categories alone": {"columns": BASE["columns"] | {"include": ["zone", "code"]}},
    "numbers alone": {"columns": BASE["columns"] | {"include": ["size", "count", "wide"]}},
    "neighbours": {"prepare": {"neighbors": {"kind": "means", "columns": ["size", "wide"], "k": [2, 5]}}},
    "neighbours at equal distances, embedded": {
        "prepare": {
            "neighbors": {
                "kind": "means",
                "columns": [["count"], ["zone", "code"], ["when", "flag", "size"]],
                "metric": "scaled",
            },
            "embedding": {"kind": "piecewise_linear", "bins": 6, "width": 3},
            "categorical": {"kind": "onehot"},
        }
    },
    "neighbours of classes, ordinal": MULTICLASS
    | {
        "prepare": {
            "neighbors": {"kind": "means", "columns": ["zone", "size", "wide"], "rows": 100},
            "categorical": {"kind": "ordinal"},
        }
    },
    "linear": {"model": {"kind": "linear"}},
    "linear without bias": {"model": {"kind": "linear", "bias": False}},
    "batch norm and dropout": {"model": {"kind": "mlp", "widths": [12, 6], "norm": "batch", "dropout": 0.2}},
    "layer norm": {"model": {"kind": "mlp", "widths": [12, 6], "norm": "layer"}},
    "sequential": {
        "model": {
            "kind": "sequential",
            "layers": [
                {"kind": "linear", "units": 9},
                {"kind": "batch_norm"},
                {"kind": "gelu"},
                {"kind": "dropout", "p": 0.1},
                {"kind": "linear", "units": 5},
                {"kind": "layer_norm"},
            ],
        }
    },
    **{
        f"{name} layers": {"model": {"kind": "mlp", "widths": [8], "activation": name}}
        for name in ACTIVATIONS
    },
    "resnet": {"model": {"kind": "resnet", "width": 12, "residual_dropout": 0.1, "activation": "silu"}},
    "resnet, layer norm": {
        "model": {"kind": "resnet", "width": 12, "blocks": 1, "norm": "layer", "dropout": 0.0}
    },
    "resnet without norm": BINARY | {"model": {"kind": "resnet", "width": 12, "norm": "none"}},
    "tabm": {"model": TABM, "prepare": {"embedding": {"kind": "piecewise_linear", "bins": 12, "width": 4}}},
    "tabm, whole, one-hot": {
        "model": TABM | {"mini": False, "activation": "gelu"},
        "prepare": {"categorical": {"kind": "onehot"}},
        "budget": {"ema": 0.05},
    },
    "tabm binary": BINARY | {"model": TABM},
    "tabm multiclass": MULTICLASS | {"model": TABM | {"mini": False, "dropout": 0.0}},
    "tabm poisson": {"model": TABM, "loss": {"kind": "poisson"}},
    "poisson": {"loss": {"kind": "poisson"}},
    **{
        f"quantiles, target {kind}": {
            "loss": {"kind": "quantile", "levels": [0.05, 0.5, 0.9]},
            "prepare": {"target": {"kind": kind}},
        }
        for kind in ("auto", "robust", "log1p", "power", "none")
    },
    "one quantile": {"loss": {"kind": "quantile", "levels": [0.9]}},
    **{
        f"two targets {kind}": {"target": ["price", "size"], "prepare": {"target": {"kind": kind}}}
        for kind in ("auto", "standard", "power", "none")
    },
    "two targets, neighbours": {
        "target": ["price", "size"],
        "prepare": {"neighbors": {"kind": "means", "k": [3], "columns": ["count", "wide"]}},
    },
    "two targets, poisson": {"target": ["price", "count"], "loss": {"kind": "poisson"}},
    "focal": BINARY | {"loss": {"kind": "focal"}},
    "focal over classes": MULTICLASS | {"loss": {"kind": "focal", "gamma": 1.0}},
    "binary": BINARY,
    "binary linear onehot": BINARY
    | {"model": {"kind": "linear"}, "prepare": {"categorical": {"kind": "onehot"}}},
    "binary, decided": BINARY | DECIDED | {"output": {"calibrate": "temperature", "threshold": "f1"}},
    "multiclass, tempered": MULTICLASS | DECIDED | {"output": {"calibrate": "temperature"}},
    "multiclass": MULTICLASS,
    "multiclass linear ordinal": MULTICLASS
    | {"model": {"kind": "linear"}, "prepare": {"categorical": {"kind": "ordinal"}}},
}


@dataclass(frozen=True)
class Case:
    """One job: its result, its bundle's digests, the raw file it came from."""

    result: Result
    digests: dict[str, str]
    raw: RawFile
    folder: Path


def run_case(config: dict[str, Any], raw: RawFile, folder: Path) -> Case:
    """Train and write the bundle."""
    resolved = resolve(BASE | config)
    result = train(read_table(raw.path, raw.profile, resolved), resolved)
    assert result.model is not None, result.error
    folder.mkdir(parents=True, exist_ok=True)
    digests = write_bundle(
        result,
        folder / "model.gradkeel",
        dataset={"id": "ds_1", "sha256": "00" * 32, "name": "raw.csv"},
        job_id="job_1",
        created_at="2026-01-02T03:04:05Z",
        report_html="<!doctype html><title>report</title>",
    )
    return Case(result, digests, raw, folder)


@pytest.fixture(scope="session")
def raw_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RawFile]:
    """The awkward file; the same with nothing missing; the same with cells missing in the test part alone."""
    folder = tmp_path_factory.mktemp("raw")
    holes = {"awkward": ("train", "validation", "test"), "whole": (), "missing in test": ("test",)}
    return {name: write_raw(folder / name, raw_cells(3, parts)) for name, parts in holes.items()}


FILES = {"missing refuse": "whole"} | dict.fromkeys(
    ("missing propagate", "quantiles, propagate", "power, propagate"), "missing in test"
)
"""Which file a case is about, where that is not the awkward one."""


@pytest.fixture(scope="session")
def cases(raw_files: dict[str, RawFile], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    """Every case, trained and exported."""
    root = tmp_path_factory.mktemp("cases")
    return {
        name: run_case(config, raw_files[FILES.get(name, "awkward")], root / str(index))
        for index, (name, config) in enumerate(CASES.items())
    }


@pytest.fixture
def run() -> Callable[[dict[str, Any], RawFile, Path], Case]:
    """Train one more config on a raw file and write its bundle."""
    return run_case


@pytest.fixture
def train_on() -> Callable[..., Result]:
    """Train on columns given as lists, target "y"."""

    def trained(data: dict[str, Any], **blocks: Any) -> Result:
        least = {key: BASE[key] for key in ("preset", "budget", "health", "model")}
        return train(Table.from_arrays(data), resolve(least | {"target": "y"} | blocks))

    return trained


@pytest.fixture(params=list(CASES))
def case_name(request: pytest.FixtureRequest) -> str:
    """Each case in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def elsewhere(cases: dict[str, Case]) -> dict[str, dict[str, Any]]:
    """What ``gradkeel.local`` and the ONNX file alone predict for the raw test rows, without torch."""
    for case in cases.values():
        _write_question(case)
    script = Path(__file__).with_name("without_torch.py")
    folders = [str(case.folder) for case in cases.values()]
    done = subprocess.run(
        [sys.executable, str(script), *folders], capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return {name: dict(np.load(case.folder / "answer.npz")) for name, case in cases.items()}


def _write_question(case: Case) -> None:
    with zipfile.ZipFile(case.folder / "model.gradkeel") as archive:
        archive.extract("model.onnx", case.folder)
    test = case.result.prepared.test.rows
    columns = json.loads(zipfile.ZipFile(case.folder / "model.gradkeel").read("manifest.json"))["columns"]
    rows = {c["name"]: [case.raw.cells[c["name"]][i] for i in test] for c in columns}
    inputs = {c["name"]: c["type"] for c in columns}
    (case.folder / "rows.json").write_text(json.dumps({"rows": rows, "types": inputs}))
