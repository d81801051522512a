"""The wheel in environments of its own: what each extra brings, and what the bare client leaves out."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of an environment that holds the wheel without extras."""
    folder = tmp_path_factory.mktemp("bare")
    run(sys.executable, "-m", "venv", folder)
    run(folder / "bin/python", "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel)
    return folder / "bin"


def test_the_bare_client_is_light(bare: Path) -> None:
    code = (
        "import importlib.util, json, sys, gradkeel, gradkeel.cli, gradkeel.contract.resolve;"
        f"print(json.dumps([n for n in {HEAVY!r} if importlib.util.find_spec(n) or n in sys.modules]))"
    )
    assert json.loads(run(bare / "python", "-c", code)) == []


def test_the_bare_command_line_names_the_extra_that_is_missing(bare: Path) -> None:
    assert "train" in run(bare / "gradkeel", "--help")
    assert "gradkeel[server]" in run(bare / "gradkeel", "up", code=2)
