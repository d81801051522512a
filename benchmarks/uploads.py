"""A large upload over a line that is cut: ``python benchmarks/uploads.py`` or ``make bench-uploads``.

Starts a stack of its own, sends one CSV through a proxy that resets the connection so many times, and prints
how long it took, what went over the line, and the peak memory of client and web server. With ``--cuts 0``
the same file goes in one request, for comparison with ``--plain``.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gradkeel import Client

TESTS = Path(__file__).parent.parent / "tests"
MIB = 2**20
BLOCK = 4 * MIB


def write_table(path: Path, size: int) -> str:
    """A CSV of ``size`` bytes with two numeric columns, every block another; its sha256."""
    digest = hashlib.sha256()
    random = np.random.default_rng(0)
    with path.open("wb") as file:
        written = file.write(b"a,b\n")
        digest.update(b"a,b\n")
        while written < size:
            lines = random.integers(0, 10, (min(BLOCK, size - written) // 4 + 1, 2), dtype=np.uint8)
            block = np.full((len(lines), 4), ord(","), dtype=np.uint8)
            block[:, 0::2] = lines + ord("0")
            block[:, 3] = ord("\n")
            content = block.tobytes()
            written += file.write(content)
            digest.update(content)
    return digest.hexdigest()


def send(url: str, key: str, file: Path, plain: bool) -> dict[str, Any]:
    """What the client process does; times in seconds, memory in MiB."""
    marks = {"began": time.perf_counter()}

    def hashed(read: int, total: int) -> None:
        marks["hashed"] = time.perf_counter()

    with Client(url, key, max_retries=8) as client:
        data = client.datasets.upload(file, wait=False, resumable=not plain, hashing=hashed)
    ended = time.perf_counter()
    return {
        "sha256": data.sha256,
        "hashing": marks["hashed"] - marks["began"],
        "sending": ended - marks["hashed"],
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


@contextlib.contextmanager
def stack(folder: Path) -> Iterator[dict[str, Any]]:
    """A `gradkeel up` of its own: url, api_key, and the web worker's process id."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("GRADKEEL_")}
    env |= {"XDG_CONFIG_HOME": str(folder / "config"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "gradkeel", "up", "--data", str(folder / "data"), "--port", "0"]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        next(line for line in process.stdout if "ready at" in line)
        yield json.loads((folder / "data" / "profile.json").read_text()) | {"pid": web_worker(process.pid)}
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def web_worker(pid: int) -> int:
    """The gunicorn process that answers: the youngest of its line."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    server = next(child for child in children if b"gunicorn" in Path(f"/proc/{child}/cmdline").read_bytes())
    return int(Path(f"/proc/{server}/task/{server}/children").read_text().split()[0])


def resident(pid: int, field: str) -> float:
    """VmRSS or VmHWM (the peak) of a process in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def measure(folder: Path, size: int, cuts: int, plain: bool) -> None:
    sys.path.insert(0, str(TESTS))
    from fault_proxy import CuttingProxy  # noqa: PLC0415 -- lies with the tests that use it too

    file = folder / "table.csv"
    digest = write_table(file, size)
    places = [size * (index + 1) // (cuts + 1) for index in range(cuts)]
    with stack(folder) as served:
        port = int(served["url"].rpartition(":")[2])
        before = resident(served["pid"], "VmRSS")
        with CuttingProxy(port, places) as line:
            command = [sys.executable, __file__, "--client", line.url, str(file), *["--plain"] * plain]
            env = os.environ | {"GRADKEEL_API_KEY": served["api_key"], "XDG_CACHE_HOME": str(folder)}
            sent = json.loads(subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE).stdout)
        print(f"{size / MIB:.0f} MiB, {line.made} cuts, {'one POST' if plain else 'tus'}")
        print(f"  digest            {'the same' if sent['sha256'] == digest else 'ANOTHER'}")
        print(f"  hashing           {sent['hashing']:.1f} s")
        more = 100 * line.sent / size - 100
        print(f"  sending           {sent['sending']:.1f} s, {size / MIB / sent['sending']:.0f} MiB/s")
        print(f"  over the line     {line.sent / MIB:.1f} MiB, {more:.1f} % over the file")
        print(f"  client's peak     {sent['peak']:.0f} MiB")
        print(f"  web server's peak {resident(served['pid'], 'VmHWM'):.0f} MiB, {before:.0f} MiB before")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", type=int, default=1024, help="MiB (default 1024)")
    parser.add_argument("--cuts", type=int, default=5, help="how often the line is cut (default 5)")
    parser.add_argument("--plain", action="store_true", help="one POST in place of a resumable upload")
    parser.add_argument("--client", nargs=2, metavar=("URL", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.client:
        url, file = options.client
        print(json.dumps(send(url, os.environ["GRADKEEL_API_KEY"], Path(file), options.plain)))
        return
    with tempfile.TemporaryDirectory(prefix="gkb-") as folder:
        measure(Path(folder), options.size * MIB, options.cuts, options.plain)


if __name__ == "__main__":
    main()
