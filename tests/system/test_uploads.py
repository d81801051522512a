"""Large files from the command line: over a line that is cut, and over two runs of the command."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fault_proxy import CuttingProxy

MIB = 2**20
SIZE = 66 * MIB
ENDED_BY_CTRL_C = 130

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A CSV that is just large enough to be sent resumably."""
    path = tmp_path_factory.mktemp("large") / "large.csv"
    numbers = np.random.default_rng(5).integers(10**17, 10**18, 4000)
    block = "".join(f"{a},{b},{'x' * 990}\n" for a, b in zip(numbers, numbers[::-1], strict=True)).encode()
    with path.open("wb") as file:
        file.write(b"a,b,text\n")
        while file.tell() < SIZE:
            file.write(block)
    yield path
    path.unlink()


def command(stack: Any, line: CuttingProxy, file: Path, *options: str) -> tuple[list[str], dict[str, str]]:
    """The arguments and the environment of `gradkeel datasets upload` through the proxy."""
    key = json.loads((stack.data / "profile.json").read_text())["api_key"]
    arguments = [sys.executable, "-m", "gradkeel", "datasets", "upload", str(file), "--json", *options]
    cache = str(file.parent / "cache")
    return arguments, dict(stack.env) | {
        "GRADKEEL_URL": line.url,
        "GRADKEEL_API_KEY": key,
        "XDG_CACHE_HOME": cache,
    }


def uploaded(stack: Any, line: CuttingProxy, file: Path, *options: str) -> dict[str, Any]:
    arguments, env = command(stack, line, file, *options)
    done = subprocess.run(arguments, env=env, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def port_of(stack: Any) -> int:
    return int(stack.url.rpartition(":")[2])


def digest_of(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def test_a_large_file_cut_five_times_arrives_and_is_read(stack: Any, large: Path) -> None:
    cuts = [place * MIB for place in (5, 20, 21, 48, 60)]
    with CuttingProxy(port_of(stack), cuts) as line:
        found = uploaded(stack, line, large)
        assert line.made == 5
        assert line.sent < SIZE + 16 * MIB
    assert (found["sha256"], found["state"]) == (digest_of(large), "ready")


def test_after_ctrl_c_the_same_command_goes_on(stack: Any, large: Path) -> None:
    options = ("--delimiter", ",")  # what is there under other options is sent again
    with CuttingProxy(port_of(stack), hold=40 * MIB) as line:
        arguments, env = command(stack, line, large, *options)
        first = subprocess.Popen(arguments, env=env, stderr=subprocess.PIPE, text=True)
        assert line.held.wait(60)
        first.send_signal(signal.SIGINT)
        _, words = first.communicate(timeout=60)
        assert first.returncode == ENDED_BY_CTRL_C
        assert "run the same command again to go on" in words
        line.release()
        before = line.sent
        found = uploaded(stack, line, large, *options)
        assert line.sent - before < SIZE - 30 * MIB
    assert found["sha256"] == digest_of(large)
    assert not list((large.parent / "cache" / "gradkeel" / "uploads").iterdir())
