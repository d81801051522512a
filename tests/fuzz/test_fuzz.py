"""Each fuzzer for a bounded time, from its seeds on; `GRADKEEL_FUZZ_SECONDS` gives them longer."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from servers import missing

FOLDER = Path(__file__).parent
SECONDS = int(os.environ.get("GRADKEEL_FUZZ_SECONDS", "5"))
SEED = os.environ.get("GRADKEEL_FUZZ_SEED", "1")
FUZZERS = ("tables", "configs", "request_parts")


@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.parametrize("name", FUZZERS)
def test_nothing_is_found(name: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        missing("atheris is not installed: it has no wheel for this Python or machine")
    command = [sys.executable, str(FOLDER / f"{name}.py"), str(tmp_path / "corpus")]
    command += [f"-max_total_time={SECONDS}", f"-seed={SEED}", "-print_final_stats=1"]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(FOLDER.parent)}
    run = subprocess.run(command, capture_output=True, env=env, timeout=SECONDS + 100, check=False)
    said = run.stderr.decode("utf-8", "replace")
    assert run.returncode == 0, said[-6000:]
    assert "stat::number_of_executed_units" in said


def test_every_fuzzer_is_run() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == {*FUZZERS, "harness", "test_fuzz"}
