"""The service beside MLflow's server in one run: ``python benchmarks/service.py`` or ``make bench-service``.

Both servers run at once on this machine with their defaults, keys and ``synchronous=FULL`` on for Gradkeel,
and are driven in turns by the same client; the best round of each counts. ``--mlflow`` names the Python of an
environment that has MLflow; without it only Gradkeel's figures are printed.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import http.client
import io
import json
import os
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import redis
from sklearn.datasets import load_diabetes

from gradkeel import Client

CLIENTS = 8
MIB = 2**20

Request = tuple[str, str, bytes, dict[str, str]]
"""Method, path, body, headers."""


# ------------------------------------------------------------------------------------------- what is printed


def show(measure: str, ours: str, peer: str = "–", ratio: float | None = None, target: str = "") -> None:
    """One line of the table; the ratio is ours to the peer's, of rates or of times and memory."""
    told = "–" if ratio is None else f"{ratio:.2f}"
    print(f"{measure:70} {ours:>30} {peer:>30} {told:>6}   {target}".rstrip(), flush=True)


# ------------------------------------------------------------------------------------------------ the servers


class Server:
    """A server process of this benchmark and everything below it."""

    def __init__(self, command: Sequence[str], env: dict[str, str], log: Path, ready: str, port: int) -> None:
        self.port = port
        self._log = log.open("wb")
        begun = time.perf_counter()
        self.process = subprocess.Popen(
            command, env=env, stdout=self._log, stderr=subprocess.STDOUT, start_new_session=True
        )
        while not self._answers(ready):
            if self.process.poll() is not None:
                raise SystemExit(f"{command[:4]} did not start; see {log}")
            time.sleep(0.02)
        self.seconds_to_ready = time.perf_counter() - begun

    def _answers(self, path: str) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def memory(self) -> tuple[int, int, int]:
        """Processes, and their memory in MiB: proportional (shared pages split) and resident (summed)."""
        members = [pid for pid in _pids() if _session(pid) == self.process.pid or pid == self.process.pid]
        members += [pid for pid in _below(self.process.pid) if pid not in members]
        rollups = [_rollup(pid) for pid in members]
        return len(members), sum(r["Pss"] for r in rollups) // 1024, sum(r["Rss"] for r in rollups) // 1024

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._log.close()


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _stat(pid: int) -> list[str]:
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        )
    except OSError:
        return ["X", "0", "0", "0"]


def _session(pid: int) -> int:
    return int(_stat(pid)[3])


def _below(root: int) -> list[int]:
    parents = {pid: int(_stat(pid)[1]) for pid in _pids()}
    found, frontier = [], {root}
    while frontier:
        frontier = {pid for pid, parent in parents.items() if parent in frontier}
        found += sorted(frontier)
    return found


def _rollup(pid: int) -> dict[str, int]:
    """Pss and Rss of a process in KiB."""
    sizes = {"Pss": 0, "Rss": 0}
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]:
            name, _, rest = line.partition(":")
            if name in sizes:
                sizes[name] = int(rest.split()[0])
    return sizes


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_gradkeel(folder: Path) -> Server:
    port = free_port()
    env = {name: value for name, value in os.environ.items() if not name.startswith("GRADKEEL_")}
    env |= {
        "XDG_CONFIG_HOME": str(folder / "config"),
        "GRADKEEL_MAX_QUEUED_JOBS": "1000000",
        "GRADKEEL_RATE_LIMIT": "0",
    }
    command = [sys.executable, "-m", "gradkeel", "up", "--data", str(folder / "data"), "--port", str(port)]
    return Server(command, env, folder / "gradkeel.log", "/readyz", port)


def start_mlflow(python: str, folder: Path) -> Server:
    port = free_port()
    env = dict(os.environ) | {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    command = [python, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "artifacts"), "--serve-artifacts"]
    return Server(command, env, folder / "mlflow.log", "/health", port)


# ---------------------------------------------------------------------------------------------- the clients


@dataclass(frozen=True)
class Load:
    """What so many clients got out of a server for some seconds."""

    per_second: float
    p50_ms: float
    p99_ms: float

    def __str__(self) -> str:
        return f"{self.per_second:.0f}/s, p99 {self.p99_ms:.0f} ms"


def drive(port: int, make: Callable[[], Request], seconds: float, clients: int = CLIENTS) -> Load:
    """Send requests over kept-alive connections, one after another on each; any error ends the run."""
    times: list[float] = []
    faults: list[str] = []
    end = time.perf_counter() + seconds

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while (begun := time.perf_counter()) < end and not faults:
            method, path, body, headers = make()
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status >= 300:
                faults.append(f"{method} {path}: {answer.status} {text[:200]!r}")
            times.append(time.perf_counter() - begun)
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise SystemExit(faults[0])
    ordered = sorted(times)
    return Load(
        len(times) / (time.perf_counter() - begun),
        statistics.median(ordered) * 1e3,
        ordered[int(len(ordered) * 0.99)] * 1e3,
    )


def best(loads: list[Load]) -> Load:
    return max(loads, key=lambda load: load.per_second)


def send_file(port: int, method: str, path: str, file: Path, headers: dict[str, str]) -> float:
    """Seconds until the answer to a request whose body is the file."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600, blocksize=1 << 20)
    begun = time.perf_counter()
    with file.open("rb") as body:
        sized = headers | {"Content-Length": str(file.stat().st_size)}
        connection.request(method, path, body, sized)
        answer = connection.getresponse()
        text = answer.read()
    if answer.status >= 300:
        raise SystemExit(f"{method} {path}: {answer.status} {text[:300]!r}")
    return time.perf_counter() - begun


# -------------------------------------------------------------------------------------------------- the rows


class Bench:
    def __init__(self, ours: Server, peer: Server | None, folder: Path, rounds: int, seconds: float) -> None:
        self.ours, self.peer, self.folder = ours, peer, folder
        self.rounds, self.seconds = rounds, seconds
        profile = json.loads((folder / "data/profile.json").read_text(encoding="utf-8"))
        self.client = Client(profile["url"], profile["api_key"])
        self.key = {"Authorization": f"Bearer {profile['api_key']}"}
        self.json = self.key | {"Content-Type": "application/json"}

    def run(self) -> None:
        self.start()
        self.memory()
        self.upload()
        self.first_step()
        self.first_job()
        self.ingest()
        self.predict()
        self.post_jobs()

    def start(self) -> None:
        ours, peer = self.ours.seconds_to_ready, self.peer and self.peer.seconds_to_ready
        show(
            "start to ready",
            f"{ours:.1f} s",
            f"{peer:.1f} s" if peer else "–",
            ours / peer if peer else None,
            "≤ 5 s",
        )

    def memory(self) -> None:
        count, pss, rss = self.ours.memory()
        other = self.peer.memory() if self.peer else None
        show(
            "memory of everything idle, proportional (resident)",
            f"{pss} ({rss}) MiB, {count} processes",
            f"{other[1]} ({other[2]}) MiB, {other[0]} processes" if other else "–",
            pss / other[1] if other else None,
            "≤ 600 MiB",
        )

    def upload(self, size: int = 300 * MIB) -> None:
        file = self.folder / "upload.csv"
        line = (",".join(["123.4567890"] * 10) + "\n").encode()
        with file.open("wb") as out:
            out.write((",".join(f"c{i}" for i in range(10)) + "\n").encode())
            for index in range(size // len(line)):
                out.write(line if index % 997 else f"{index}".encode().ljust(11, b"0") + line[11:])
        digest = base64.b64encode(hashlib.sha256(file.read_bytes()).digest()).decode()
        ours, peer = [], []
        for index in range(self.rounds):
            headers = self.key | {"Content-Type": "text/csv", "Repr-Digest": f"sha-256=:{digest}:"}
            ours.append(
                send_file(self.ours.port, "POST", f"/v1/datasets?name=big-{index}.csv", file, headers)
            )
            if self.peer:
                path = f"/api/2.0/mlflow-artifacts/artifacts/big-{index}.csv"
                kind = {"Content-Type": "text/csv"}
                peer.append(send_file(self.peer.port, "PUT", path, file, kind))
        show(
            "upload of 300 MiB (Gradkeel verifies a SHA-256)",
            f"{min(ours):.2f} s, {size / MIB / min(ours):.0f} MiB/s",
            f"{min(peer):.2f} s, {size / MIB / min(peer):.0f} MiB/s" if peer else "–",
            min(peer) / min(ours) if peer else None,
            "≥ 1 × MLflow's speed",
        )
        self._drain()

    def _drain(self) -> None:
        """Wait until every upload of the last row has been read, so that it does not disturb the next one."""
        for dataset in self.client.datasets.list():
            while self.client.datasets.get(dataset.id).state == "ingesting":
                time.sleep(0.2)

    def first_step(self) -> None:
        data = self.client.datasets.upload(_diabetes())
        broker = redis.Redis.from_url(_broker_url(self._training_processes()[0]))
        seconds = [self._claim_to_step(broker, data) for _ in range(7)]
        code = "import torch; l = torch.nn.Linear(10, 1); l(torch.ones(1, 10)).sum().backward()"
        plain = min(_timed([sys.executable, "-c", code])[0] for _ in range(3))
        ours = statistics.median(seconds)
        show(
            "claim to first training step (peer: a plain child that imports torch)",
            f"{ours:.3f} s",
            f"{plain:.2f} s",
            ours / plain,
            "≤ 0.1 s",
        )

    def _claim_to_step(self, broker: redis.Redis, data: Any) -> float:
        """Seconds from the job's `started_at` until its first step event has reached the broker."""
        job = self.client.jobs.create(data, target="target", preset="fast")
        place = {f"gradkeel:events:{job.id}": "0"}
        while True:
            for _, entries in broker.xread(place, block=60_000):
                for place_of_last, entry in entries:
                    place = {f"gradkeel:events:{job.id}": place_of_last}
                    if entry[b"name"] in (b"reading", b"epoch"):
                        now = time.time()
                        started = job.wait().raw["started_at"]
                        return now - datetime.fromisoformat(started).timestamp()

    def first_job(self) -> None:
        data = self.client.datasets.upload(_diabetes())
        seconds = []
        for _ in range(5):
            begun = time.perf_counter()
            job = self.client.jobs.create(data, target="target", preset="fast", budget={"epochs": 20})
            job.wait()
            seconds.append(time.perf_counter() - begun)
        show(
            "POST to succeeded, diabetes, 20 epochs, report and bundle",
            f"{statistics.median(seconds):.2f} s",
            target="≤ 2 s",
        )

    def ingest(self) -> None:
        file = self.folder / "table.csv"
        _write_table(file)
        begun = time.perf_counter()
        data = self.client.datasets.upload(file)
        sent = time.perf_counter()
        data.wait()
        through_service = time.perf_counter() - sent
        size = file.stat().st_size / 1e6
        ours, ours_mb = _timed([sys.executable, "-c", INGEST, str(file), str(self.folder)])
        pandas, pandas_mb = _timed([sys.executable, "-c", PANDAS, str(file), str(self.folder)])
        show(
            f"CSV of {size:.0f} MB → Parquet and profile (peer: pandas, read and describe)",
            f"{ours:.1f} s in {ours_mb:.0f} MB",
            f"{pandas:.1f} s in {pandas_mb:.0f} MB",
            ours / pandas,
            "≤ 5 s in ≤ 500 MB",
        )
        show(
            f"the same through the service: {sent - begun:.1f} s to send, then ready after",
            f"{through_service:.1f} s",
        )

    def predict(self) -> None:
        data = self.client.datasets.upload(_diabetes())
        job = self.client.jobs.create(data, target="target", preset="fast")
        job.wait()
        path = f"/v1/models/{job.model_id}/predict"
        x = load_diabetes().data
        names = [f"x{i}" for i in range(x.shape[1])]
        single = json.dumps({"records": [dict(zip(names, x[0].tolist(), strict=True))]}).encode()
        loads = [
            drive(self.ours.port, lambda: ("POST", path, single, self.json), self.seconds)
            for _ in range(self.rounds)
        ]
        show("predictions of one row, 8 clients", str(best(loads)), target="≥ 500/s")
        many = np.tile(x, (50_000 // len(x) + 1, 1))[:50_000]
        columns = {name: many[:, i].tolist() for i, name in enumerate(names)}
        text = io.StringIO()
        np.savetxt(text, many, delimiter=",", header=",".join(names), comments="", fmt="%.6g")
        forms = {
            "JSON columns": (json.dumps({"columns": columns}).encode(), "application/json"),
            "CSV": (text.getvalue().encode(), "text/csv"),
        }
        for form, (body, kind) in forms.items():
            headers = self.key | {"Content-Type": kind, "Accept": kind}
            load = best(
                [
                    drive(
                        self.ours.port,
                        lambda body=body, headers=headers: ("POST", path, body, headers),
                        self.seconds,
                        1,
                    )
                    for _ in range(self.rounds)
                ]
            )
            rows = load.per_second * len(many)
            show(f"predictions in bulk, {form}, one client", f"{rows:.0f} rows/s", target="≥ 200k")

    def post_jobs(self) -> None:
        data = self.client.datasets.upload(_diabetes())
        document = {"dataset_id": data.id, "target": "target", "preset": "fast", "budget": {"epochs": 1}}
        body = json.dumps(document).encode()
        run = json.dumps({"experiment_id": "0", "start_time": 0}).encode()
        create = ("POST", "/api/2.0/mlflow/runs/create", run, {"Content-Type": "application/json"})
        with _frozen(self._training_processes()):
            ours, peer = [], []
            for _ in range(self.rounds):
                ours.append(
                    drive(self.ours.port, lambda: ("POST", "/v1/jobs", body, self.json), self.seconds)
                )
                if self.peer:
                    peer.append(drive(self.peer.port, lambda: create, self.seconds))
        mine, other = best(ours), best(peer) if peer else None
        show(
            "POST /jobs accepted, 8 clients (MLflow: create-run)",
            str(mine),
            str(other) if other else "–",
            mine.per_second / other.per_second if other else None,
            "≥ 3 × MLflow's, p99 ≤ 100 ms",
        )
        busy = drive(self.ours.port, lambda: ("POST", "/v1/jobs", body, self.json), self.seconds)
        show("the same while jobs are trained", str(busy))

    def _training_processes(self) -> list[int]:
        return [pid for pid in _below(self.ours.process.pid) if b"gradkeel_worker" in _command(pid)]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@contextlib.contextmanager
def _frozen(pids: list[int]) -> Iterator[None]:
    """Hold these processes still: what is measured is the accepting, not the training that follows."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def _broker_url(pid: int) -> str:
    """The address of the embedded broker, as a process of the stack was told it, for redis-py."""
    settings = dict(
        item.split(b"=", 1) for item in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") if b"=" in item
    )
    return (
        settings[b"GRADKEEL_BROKER_URL"]
        .decode()
        .replace("redis+socket://", "unix://")
        .replace("virtual_host", "db")
    )


def _diabetes() -> bytes:
    data = load_diabetes(scaled=False)
    text = io.StringIO()
    names = ",".join([*(f"x{i}" for i in range(10)), "target"])
    rows = np.column_stack([data.data, data.target])
    np.savetxt(text, rows, delimiter=",", header=names, comments="", fmt="%.7g")
    return text.getvalue().encode()


def _write_table(file: Path, rows: int = 1_080_000) -> None:
    """14 columns: numbers of several scales with gaps, a date, and categories; about 122 MB."""
    generator = np.random.default_rng(0)
    with file.open("w", encoding="ascii") as out:
        out.write("id,day,zone,kind,a,b,c,d,e,f,g,h,i,y\n")
        for start in range(0, rows, 20_000):
            count = min(20_000, rows - start)
            numbers = generator.lognormal(size=(count, 9)) * 10.0 ** np.arange(-2, 7)
            labels = generator.integers(0, 6, size=(count, 2))
            for index in range(count):
                cells = ",".join(f"{value:.6g}" for value in numbers[index])
                gap = "" if index % 41 == 0 else f"{numbers[index, 0]:.4f}"
                day = f"2024-{1 + index % 12:02d}-{1 + index % 28:02d}"
                out.write(f"{start + index},{day},z{labels[index, 0]},k{labels[index, 1]},{gap},{cells}\n")


INGEST = """
import sys
from pathlib import Path
from gradkeel_worker.ingest import Limits, Options, ingest
work = Path(sys.argv[2]) / "ingest"
work.mkdir(exist_ok=True)
limits = Limits(unpacked_bytes=8 << 30, columns=10_000, memory_mb=170)
ingest(Path(sys.argv[1]), work, Options.from_json({}), limits)
"""

PANDAS = """
import sys
import pandas
frame = pandas.read_csv(sys.argv[1])
frame.describe(include="all")
frame.to_parquet(sys.argv[2] + "/pandas.parquet")
"""


def _timed(command: list[str]) -> tuple[float, float]:
    """Seconds and peak memory (MB) of a command that must succeed."""
    begun = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command[:3]} failed")
    assert isinstance(usage, resource.struct_rusage)
    return time.perf_counter() - begun, usage.ru_maxrss / 1024


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--mlflow", help="Python of an environment that has MLflow")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; the best counts (default 3)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load (default 5)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="gradkeel-bench-") as name:
        folder = Path(name)
        ours = start_gradkeel(folder)
        peer = None
        try:
            peer = start_mlflow(options.mlflow, folder) if options.mlflow else None
            show("measure", "Gradkeel", "MLflow or other peer", target="to reach")
            Bench(ours, peer, folder, options.rounds, options.seconds).run()
        finally:
            for server in (ours, peer):
                if server is not None:
                    server.stop()


if __name__ == "__main__":
    main()
