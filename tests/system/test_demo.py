"""`make demo`: what it shows, what it leaves, and that it leaves nothing running."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def commands_holding(text: str) -> list[str]:
    """The command lines of all processes that name something."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                environment = (entry / "environ").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if text in line or text in environment:
                found.append(line)
    return found


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What the demo said and the folder that it filled; a copy of its script, with a home of its own."""
    folder = tmp_path_factory.mktemp("demo")
    home = folder / "home"
    home.mkdir()
    script = folder / "deploy/demo.py"
    script.parent.mkdir()
    script.write_text((ROOT / "deploy/demo.py").read_text())
    env = dict(os.environ) | {"HOME": str(home), "OMP_NUM_THREADS": "1", "GRADKEEL_URL": "http://127.0.0.1:9"}
    env.pop("XDG_CONFIG_HOME", None)
    done = subprocess.run([sys.executable, str(script)], env=env, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(home.rglob("*")) == [], "the demo touched the user's files"
    return done.stdout, folder / "demo"


def test_it_leaves_the_stabilised_model_and_its_report(shown: tuple[str, Path]) -> None:
    folder = shown[1]
    report = json.loads((folder / "report.json").read_text())
    assert report["verdict"] in {"healthy", "strained"}
    assert "<html" in (folder / "report.html").read_text()
    with zipfile.ZipFile(folder / "model.gradkeel") as bundle:
        assert "model.onnx" in bundle.namelist()


def test_the_unstabilised_run_diverges_and_its_patch_mends_it(shown: tuple[str, Path]) -> None:
    words, folder = shown
    assert json.loads((folder / "raw/report.json").read_text())["verdict"] == "diverged"
    assert json.loads((folder / "mended/report.json").read_text())["verdict"] in {"healthy", "strained"}
    assert re.search(r"^SGD, raw +failed +diverged", words, re.M)
    assert re.search(r"^SGD, raw, patched.* succeeded", words, re.M)
    assert "patch:" in words


def test_metrics_stand_beside_the_baselines(shown: tuple[str, Path]) -> None:
    words = shown[0]
    assert re.search(r"^run .*test RMSE +MAE +constant +ridge", words, re.M)
    assert re.search(r"^SGD, stabilised +succeeded +\w+ +\d+\.\d +\d+\.\d +\d+\.\d +\d+\.\d", words, re.M)
    assert re.search(r"^AdamW: ", words, re.M)
    assert re.search(r"epoch \d+/100 .*loss .*gradient norm", words)


def test_nothing_runs_on(shown: tuple[str, Path]) -> None:
    assert commands_holding(str(shown[1])) == []
