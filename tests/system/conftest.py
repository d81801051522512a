"""A whole stack, started once for the tests here: its own data folder, profile and port."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sklearn.datasets import load_diabetes

from servers import LoggedProcess

STOP_SECONDS = 40


@dataclass(frozen=True)
class Stack:
    """A running `gradkeel up`. ``env`` leads its clients to it."""

    url: str
    data: Path
    process: subprocess.Popen[str]
    env: Mapping[str, str] = field(repr=False)

    def gradkeel(self, *arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run the command line against this stack."""
        return gradkeel(*arguments, env=self.env, cwd=cwd)


def gradkeel(
    *arguments: str | Path, env: Mapping[str, str], cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "gradkeel", *(str(argument) for argument in arguments)]
    return subprocess.run(
        command, env=dict(env), cwd=cwd, capture_output=True, text=True, timeout=240, check=False
    )


def own_environment(folder: Path, extra: Sequence[tuple[str, str]] = ()) -> dict[str, str]:
    """The runner's environment without Gradkeel's settings, with a home for a profile under ``folder``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GRADKEEL_")}
    return kept | {"XDG_CONFIG_HOME": str(folder / "config"), "OMP_NUM_THREADS": "1"} | dict(extra)


@pytest.fixture(scope="session")
def diabetes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """scikit-learn's diabetes data in raw units, as CSV; the target is the column ``progression``."""
    data = load_diabetes(scaled=False)
    path = tmp_path_factory.mktemp("data") / "diabetes.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*data.feature_names, "progression"])
        writer.writerows([*map(float, row), float(y)] for row, y in zip(data.data, data.target, strict=True))
    return path


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One stack for the whole run. Tests share it: they look only at what they made themselves."""
    folder = tmp_path_factory.mktemp("gk")
    env = own_environment(folder)
    command = [sys.executable, "-m", "gradkeel", "up", "--data", str(folder / "data"), "--port", "0"]
    server = LoggedProcess(command, r"ready at (http://\S+)", env=env)
    try:
        url = server.wait_ready()[1]
        yield Stack(url, folder / "data", server.process, env)
        server.process.terminate()
        assert server.process.wait(STOP_SECONDS) == 0, "\n".join(server.tail)
    finally:
        server.kill()
