"""A column lost to one broken cell is the cause of a model that learnt nothing, and its patch mends it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradkeel.contract.patch import merge_patch
from gradkeel.contract.resolve import check_data, resolve
from gradkeel_worker.data import read_table
from gradkeel_worker.engine import Result, train
from gradkeel_worker.ingest import Ingested, Options, ingest
from worker.diagnosis.runs import VALIDATOR, lead

Json = dict[str, Any]
CONFIG: Json = {
    "target": "price",
    "preset": "custom",
    "model": {"kind": "mlp", "widths": [16]},
    "optimizer": {"kind": "adamw", "lr": 0.01},
    "budget": {"batch_size": 64, "epochs": 15},
    "device": "cpu",
}


def _rows(broken: dict[int, str], mark: str = ".") -> str:
    """``price`` follows ``size``; ``noise`` says nothing. Some cells of ``size`` are no numbers."""
    rng = np.random.default_rng(0)
    sizes, noise = rng.uniform(10, 90, 400).round(3), rng.normal(size=400).round(3)
    cells = [broken.get(i, str(size).replace(".", mark)) for i, size in enumerate(sizes)]
    lines = [f"{c};{n};{3 * s + 20:.1f}" for c, n, s in zip(cells, noise, sizes, strict=True)]
    return "\n".join(["size;noise;price", *lines]).replace(".", mark) + "\n"


def _read(folder: Path, text: str) -> Ingested:
    folder.joinpath("work").mkdir()
    source = folder / "upload"
    source.write_text(text)
    return ingest(source, folder / "work", Options())


def _train(found: Ingested, config: Json) -> Result:
    table = read_table(found.path, found.profile, resolve(config))
    result = train(table, config, profile=found.profile)
    VALIDATOR.validate(result.report)
    return result


@pytest.mark.parametrize("mark", [".", ","])
@pytest.mark.parametrize("broken", [{7: "12?5"}, {7: "n.n.", 20: "n.n.", 21: "~40", 300: "?"}])
def test_a_lost_column_comes_first_and_its_patch_mends_the_model(
    tmp_path: Path, broken: dict[int, str], mark: str
) -> None:
    found = _read(tmp_path, _rows(broken, mark))
    before = _train(found, CONFIG)
    first = lead(before.report)
    assert first is before.report["findings"][0]
    assert (first["rule"], first["where"]["column"], first["where"]["line"]) == ("data_quality", "size", 9)
    assert "left out of the features" in first["explanation"]
    assert first["consequences"] == ["no_better_than_baseline"]
    useless = next(one for one in before.report["findings"] if one["rule"] == "no_better_than_baseline")
    assert useless["remedy"]["patch"] == first["remedy"]["patch"]
    assert "“size”" in before.report["summary"]

    mended = merge_patch(CONFIG, first["remedy"]["patch"])
    assert check_data(resolve(mended), found.profile) == []
    after = _train(found, mended)
    serious = [finding["rule"] for finding in after.report["findings"] if finding["severity"] != "info"]
    assert serious == ["leak_suspect"]  # the size tells the price exactly
    assert _error(after) < 0.2 * _error(before)


def _error(result: Result) -> float:
    return float(result.report["fit"]["metrics"]["test"]["rmse"])


def test_a_column_of_codes_and_numbers_is_no_cause(tmp_path: Path) -> None:
    """Where many cells are no numbers, the column may be meant so: it warns, and explains nothing."""
    found = _read(tmp_path, _rows({i: f"K{i}" for i in range(0, 400, 4)}))
    findings = _train(found, CONFIG).report["findings"]
    (mixed,) = [one for one in findings if one["evidence"].get("issue") == "mixed_types"]
    assert (mixed["confidence"], mixed["consequences"], mixed["remedy"]["patch"]) == ("medium", [], {})
    assert findings[0]["rule"] == "no_better_than_baseline"
