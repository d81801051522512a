"""The suite of seeded faults on a few runs: it goes on where it was, and its figures are of what it kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
SCRIPT = """
import sys
import faults
from gradkeel.contract.resolve import resolve
from seeded import kinds, runs, tables

chosen = ["--sets", "breast_cancer", "--seeds", "0", "--no-repair", "--results", sys.argv[1], "--faults"]
chosen += ["lr × 1000", "lr / 10,000", "NaN in a cell", "healthy: without the fault"]
faults.main(chosen)
with open(sys.argv[1], encoding="utf-8") as file:
    lines = file.readlines()
with open(sys.argv[1], "w", encoding="utf-8") as file:
    file.writelines(lines[:-1])
print("again")
faults.main(chosen)
for source in tables.OWN:
    for name, fault in kinds.FAULTS.items():
        if source.task in fault.tasks:
            resolve(runs.put_into(source, None, name, "sgd", 3).config)
"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[str]]:
    """What the suite printed when run twice, a line of its results lost in between; and the results."""
    kept = tmp_path_factory.mktemp("faults") / "results.jsonl"
    command = [sys.executable, "-c", SCRIPT, str(kept)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=FOLDER, timeout=280)
    return done.stdout.split("again\n"), kept.read_text(encoding="utf-8").splitlines()


def test_a_few_faults_are_named_first(printed: tuple[list[str], list[str]]) -> None:
    text = printed[0][0]
    assert "| tuned | 6/6 = 1.000 (0.61–1.00) | 6/6 = 1.000 (0.61–1.00) |" in text
    assert "False alarms on healthy runs: 0/2" in text


def test_a_run_that_was_cut_short_goes_on_where_it_was(printed: tuple[list[str], list[str]]) -> None:
    first, again = printed[0]
    assert again == first
    assert len(printed[1]) == 8  # four kinds under two optimizers
