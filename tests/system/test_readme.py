"""The examples of README and docs work as pasted, against a fresh `gradkeel up`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

import gradkeel

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.M | re.S)


RUNS = re.compile(r"^<!-- runs -->\n```(\w+)\n(.*?)^```$", re.M | re.S)
PAGES = sorted(path.name for path in (ROOT / "docs").glob("*.md") if RUNS.search(path.read_text()))
COMMANDS = {"python": [sys.executable, "-c"], "sh": ["bash", "-euo", "pipefail", "-c"]}


def block(language: str, word: str) -> str:
    """The one example in a language that holds a word."""
    (found,) = [text for kind, text in BLOCKS if kind == language and word in text]
    return str(found)


@pytest.fixture
def folder(tmp_path: Path, diabetes: Path) -> Path:
    """A checkout's root after `make demo`, as far as the examples look at it."""
    (tmp_path / "demo").mkdir()
    shutil.copy(diabetes, tmp_path / "demo/diabetes.csv")
    return tmp_path


def run(command: list[str], stack: Any, folder: Path) -> str:
    env = dict(stack.env) | {"PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_fits_a_screen() -> None:
    assert len(README.splitlines()) <= 65


def test_both_commands_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, re.M):
        assert re.search(rf"^{target}:.*## ", makefile, re.M)


def test_where_to_read_on_is_there() -> None:
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_command_line_example(stack: Any, folder: Path) -> None:
    example = block("sh", "gradkeel up --detach")
    lines = [
        line for line in example.splitlines() if line.startswith(("gradkeel preflight", "gradkeel train"))
    ]
    assert len(lines) == 2
    run(["bash", "-euc", "\n".join(lines)], stack, folder)
    made = {path.name for path in (folder / "demo/out").iterdir()}
    assert made == {"model.gradkeel", "report.json", "report.html", "predictions.csv"}


def test_the_curl_example(stack: Any, folder: Path) -> None:
    assert shutil.which("curl")
    run(["bash", "-euo", "pipefail", "-c", block("sh", "curl")], stack, folder)
    assert "event: end" in (folder / "demo/events.txt").read_text()
    assert "<html" in (folder / "demo/fast.html").read_text()


def test_the_python_example(stack: Any, folder: Path) -> None:
    (folder / "example.py").write_text(block("python", "Client"))
    said = run([sys.executable, "example.py"], stack, folder)
    assert re.search(r"Event\(.*name='epoch'", said)
    assert "rmse" in said
    assert "Predictions of 1 rows" in said
    with zipfile.ZipFile(folder / "demo/fast.gradkeel") as bundle:
        assert json.loads(bundle.read("manifest.json"))


def test_the_page_of_the_sdk_names_everything_that_is_public() -> None:
    page = (ROOT / "docs/sdk.md").read_text()
    assert "sdk.md" in PAGES
    assert [name for name in gradkeel.__all__ if f"`{name}`" not in page] == []


@pytest.mark.parametrize("page", PAGES)
def test_the_marked_examples_of_a_page_run_one_after_the_other(stack: Any, tmp_path: Path, page: str) -> None:
    """Blocks under ``<!-- runs -->``; those of one language are one program."""
    blocks = RUNS.findall((ROOT / "docs" / page).read_text())
    for language in dict.fromkeys(language for language, _ in blocks):
        program = "\n".join(text for kind, text in blocks if kind == language)
        run([*COMMANDS[language], program], stack, tmp_path)
