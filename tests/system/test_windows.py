"""A forecast by command line and SDK, and predictions of its rows and of the steps after them, against a real
stack."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest

from gradkeel import Client, UnprocessableError

CONFIG = {
    "preset": "custom",
    "task": "forecast",
    "columns": {"order": "hour", "group": "site"},
    "model": {"kind": "lstm", "width": 8, "window": 6, "horizon": 2},
    "budget": {"epochs": 2, "batch_size": 32},
}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two series of 60 rows."""
    path = tmp_path_factory.mktemp("series") / "load.csv"
    lines = [
        f"{hour},{site},{math.sin(hour / 4) + shift}"
        for site, shift in (("a", 0), ("b", 1))
        for hour in range(60)
    ]
    path.write_text("\n".join(["hour,site,load", *lines]) + "\n")
    return path


def test_predictions_of_service_bundle_and_sdk_agree(stack: Any, file: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(CONFIG))
    done = stack.gradkeel("train", file, "--target", "load", "--config", config, "--out", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert {"naive", "constant"} <= set(document["metrics"]["baselines"])
    assert document["metrics"]["test"]["mase"] > 0
    with (tmp_path / "predictions.csv").open() as written:
        assert next(csv.reader(written)) == ["row", "order", "group", "actual", "prediction"]
    tables = []
    for model in (document["model"]["id"], tmp_path / "model.gradkeel"):
        answered = stack.gradkeel("predict", model, file, "--interval", "0.8")
        assert answered.returncode == 0, answered.stderr
        assert "14 rows have no prediction" in answered.stderr
        tables.append(list(csv.DictReader(io.StringIO(answered.stdout))))
    for remote, local in zip(*tables, strict=True):
        for name, cell in remote.items():
            if cell and name in ("prediction", "lower", "upper"):
                assert float(local[name]) == pytest.approx(float(cell), rel=1e-6)
            else:
                assert local[name] == cell
    table = tables[0]
    assert len(table) == 124 and [row["step"] for row in table[120:]] == ["1", "1", "2", "2"]
    assert [row["prediction"] == "" for row in table[:8]] == [True] * 7 + [False]
    profile = json.loads((stack.data / "profile.json").read_text())
    with Client(profile["url"], profile["api_key"]) as client:
        model = client.models.get(document["model"]["id"])
        assert model.over_windows
        found = model.predict_csv(file, interval=0.8)
        assert found.places is not None and found.intervals is not None
        assert found.places[-1] == {"row": None, "order": "59", "step": 2, "group": "b"}
        assert found.intervals[0] == {"lower": None, "upper": None} and found[0] is None
        assert found[-1] == pytest.approx(float(table[-1]["prediction"]), rel=1e-9)
        with pytest.raises(UnprocessableError, match="needs 6 rows"):
            model.predict({"hour": [1], "site": ["a"], "load": [0.5]})
        with pytest.raises(UnprocessableError, match="nothing goes on from such"):
            client.jobs.create(str(document["job"]["dataset_id"]), warm_start=document["model"]["id"])
