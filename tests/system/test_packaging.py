"""The wheel in environments of its own: what each extra brings, and what the bare client leaves out."""

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradkeel.local import load
from gradkeel_worker.data import Table
from gradkeel_worker.engine import train
from gradkeel_worker.export import write_bundle

ROOT = Path(__file__).parent.parent.parent
HEAVY = ("torch", "flask", "celery", "sqlalchemy", "numpy", "onnxruntime", "sklearn", "duckdb", "pyarrow")


def run(*command: str | Path, code: int = 0) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=280)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, ROOT)
    (built,) = folder.glob("gradkeel-*.whl")
    return built


def environment(folder: Path, what: str) -> Path:
    """The `bin` folder of a fresh environment that holds `what`."""
    run(sys.executable, "-m", "venv", folder)
    run(folder / "bin/python", "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", what)
    return folder / "bin"


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and no extra."""
    return environment(tmp_path_factory.mktemp("bare"), str(wheel))


def test_the_bare_client_is_light(bare: Path) -> None:
    code = (
        "import importlib.util, json, sys, gradkeel, gradkeel.cli, gradkeel.contract.resolve;"
        f"print(json.dumps([n for n in {HEAVY!r} if importlib.util.find_spec(n) or n in sys.modules]))"
    )
    assert json.loads(run(bare / "python", "-c", code)) == []


def test_the_bare_command_line_names_the_extra_that_is_missing(bare: Path) -> None:
    assert "train" in run(bare / "gradkeel", "--help")
    assert "gradkeel[server]" in run(bare / "gradkeel", "up", code=2)


def test_the_estimators_are_an_extra_that_names_all_they_import(bare: Path, wheel: Path) -> None:
    assert "gradkeel[sklearn]" in run(bare / "python", "-c", "import gradkeel.sklearn", code=1)
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        asked = re.findall(r"^Requires-Dist: ([\w-]+).*extra == 'sklearn'", archive.read(name).decode(), re.M)
    assert set(asked) == {"numpy", "pyarrow", "scikit-learn"}


def test_a_bundle_predicts_where_torch_is_not_installed(wheel: Path, tmp_path: Path) -> None:
    bundle = write_small_bundle(tmp_path / "model.gradkeel")
    rows: dict[str, list[Any]] = {"size": [1.0, None, 3.0], "zone": ["a", "never seen", None]}
    here = load(bundle).predict(rows).values.tolist()
    code = (
        "import importlib.util, json, sys; from gradkeel.local import load;"
        "assert importlib.util.find_spec('torch') is None;"
        "print(json.dumps(load(sys.argv[1]).predict(json.loads(sys.argv[2])).values.tolist()))"
    )
    python = environment(tmp_path / "local", f"{wheel}[local]") / "python"
    assert json.loads(run(python, "-c", code, bundle, json.dumps(rows))) == pytest.approx(here, rel=1e-9)


def write_small_bundle(path: Path) -> Path:
    """A model of a number and a category, trained for two epochs."""
    zone = np.array(["a", "b", "c", "b"] * 20, dtype=object)
    size = np.linspace(0, 9, 80)
    table = Table.from_arrays({"size": size, "zone": zone, "y": size + (zone == "b")})
    result = train(table, {"target": "y", "preset": "fast", "budget": {"epochs": 2}})
    about = {"id": "ds_0", "sha256": "0" * 64, "name": "small.csv"}
    write_bundle(
        result,
        path,
        dataset=about,
        job_id="job_0",
        created_at="2026-01-01T00:00:00Z",
        report_html="<html></html>",
    )
    return path
