"""Models of several targets or quantiles: one number each, from the bundle and on the command line."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from client.local.conftest import TYPES, make_bundle, make_columns
from gradkeel.cli.app import app
from gradkeel.local import load

CONFIGS = {
    "targets": {"target": ["y", "size"]},
    "quantiles": {"loss": {"kind": "quantile", "levels": [0.1, 0.5, 0.9]}},
}
NAMES = {"targets": ("y", "size"), "quantiles": ("0.1", "0.5", "0.9")}


@pytest.fixture(scope="module", params=list(CONFIGS))
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def bundle(kind: str, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp(kind) / "model.gradkeel"
    return make_bundle(path, make_columns(), **(TYPES | CONFIGS[kind]))


def test_one_column_for_each_output(kind, bundle):
    model = load(bundle)
    columns = {name: values[:5] for name, values in make_columns().items()}
    found = model.predict(columns)
    assert model.outputs == NAMES[kind] and model.classes is None
    assert found.values.shape == (5, len(NAMES[kind])) and found.probabilities is None
    assert kind == "targets" or (np.diff(found.values, axis=1) >= 0).all()
    assert model.manifest["target"]["names"] == (["y", "size"] if kind == "targets" else ["y"])
    assert [column.name for column in model.columns].count("size") == (kind == "quantiles")


def test_the_command_line_writes_one_column_for_each(kind, bundle, tmp_path):
    columns = make_columns()
    names = [name for name in columns if name != "y"]
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(
            ["" if columns[n][i] != columns[n][i] else columns[n][i] for n in names] for i in range(4)
        )
    done = CliRunner().invoke(app, ["predict", str(bundle), str(tmp_path / "rows.csv")])
    assert done.exit_code == 0, done.output
    lines = list(csv.reader(io.StringIO(done.stdout)))
    assert lines[0] == [f"prediction {name}" for name in NAMES[kind]]
    expected = load(bundle).predict({name: columns[name][:4] for name in names}).values
    assert np.array_equal(np.array(lines[1:], dtype=float), expected)


def test_intervals_where_they_are_asked_for(kind, bundle, tmp_path):
    columns = {name: values[:5] for name, values in make_columns().items() if name != "y"}
    found = load(bundle).predict(columns, interval=0.8)
    assert found.lower.shape == ((5, 2) if kind == "targets" else (5,)) and (found.lower <= found.upper).all()
    assert load(bundle).predict(columns).lower is None
    (tmp_path / "rows.jsonl").write_text('{"count": 3, "zone": "a"}\n')
    done = CliRunner().invoke(
        app, ["predict", str(bundle), str(tmp_path / "rows.jsonl"), "--interval", "0.8"]
    )
    assert done.exit_code == 0, done.output
    names = ["lower y", "lower size", "upper y", "upper size"] if kind == "targets" else ["lower", "upper"]
    assert next(csv.reader(io.StringIO(done.stdout)))[-len(names) :] == names
