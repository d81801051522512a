"""Large tables through the worker's own child processes: what they take in time and memory, by rows.

A table of 48 numbers (some cells missing in six of them), two categorical columns and a numeric target is
generated and read as an upload in Parquet; then a job trains an epoch on it, evaluates, reports and exports.
Both children run under the bounds that a worker sets by default, ``ingest_seconds`` aside.

Memory is what a child holds beyond an idle one that has torch loaded: the peak of RssAnon in
/proc/PID/status, looked at every 10 ms, which is all but mapped files. Those the kernel can write out and
drop; the most that was in memory of them is shown apart (with the libraries' own pages). Seconds are CPU
seconds, user and system; the wall clock stands beside them.

Options: --rows 100000 1000000 10000000, --folder (a disk with 1.7 kB free for each row).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gradkeel_store.settings import Settings
from gradkeel_worker import outcome
from gradkeel_worker.ingestion import DATABASE_SHARE
from gradkeel_worker.limits import Bounds
from gradkeel_worker.outcome import Outcome
from gradkeel_worker.processes import Child, start_forkserver

Json = dict[str, Any]

MIB = 1 << 20
NUMBERS, HOLES = 48, 6
LEVELS = {"region": 12, "product": 200}
ROWS_AT_ONCE = 250_000
CONFIG: Json = {
    "target": "y",
    "preset": "custom",
    "model": {"kind": "mlp", "widths": [64, 64]},
    "budget": {"epochs": 1, "batch_size": 1024, "max_seconds": None},
}
TICKS = os.sysconf("SC_CLK_TCK")


def blocks(rows: int) -> Iterator[pa.RecordBatch]:
    """The generated table, the same for the same number of rows."""
    weights = np.random.default_rng(0).standard_normal(NUMBERS).astype(np.float32)
    for first in range(0, rows, ROWS_AT_ONCE):
        draw = np.random.default_rng((1, first))
        count = min(ROWS_AT_ONCE, rows - first)
        x = draw.standard_normal((NUMBERS, count), dtype=np.float32)
        columns: Json = {f"x{i}": pa.array(x[i]) for i in range(NUMBERS)}
        for i in range(HOLES):
            columns[f"x{i}"] = pa.array(x[i], mask=draw.random(count) < 0.02)
        codes = {name: draw.integers(0, levels, count, dtype=np.int32) for name, levels in LEVELS.items()}
        for name, levels in LEVELS.items():
            texts = pa.array([f"{name} {i}" for i in range(levels)])
            columns[name] = pa.DictionaryArray.from_arrays(pa.array(codes[name]), texts)
        noise = draw.standard_normal(count, dtype=np.float32)
        columns["y"] = pa.array(weights @ x + np.abs(x[7]) + codes["region"] / 6 + noise)
        yield pa.RecordBatch.from_pydict(columns)


def write(rows: int, path: Path) -> None:
    writer = None
    for block in blocks(rows):
        writer = writer or pq.ParquetWriter(path, block.schema, use_dictionary=list(LEVELS))
        writer.write_batch(block)
    assert writer is not None
    writer.close()


@dataclass
class Watched:
    """A child's peaks of memory in bytes, and (what it said, wall and CPU seconds since its start)."""

    child: Child
    anonymous: int = 0
    mapped: int = 0
    said: list[tuple[str, float, float]] = field(default_factory=list)
    _began: float = field(default_factory=time.monotonic)
    _cpu: float = 0.0

    def to_end(self) -> Watched:
        sampler = threading.Thread(target=self._sample)
        sampler.start()
        while not self.child.ended:
            self.child.wait(1.0)
            for message in self.child.messages():
                data = message["data"]
                self._note(f"{message['event']} {data.get('phase', '')}".strip())
        sampler.join()
        self._note("end")
        if self.child.close() != 0:
            raise RuntimeError("the child died")
        return self

    def _note(self, what: str) -> None:
        self.said.append((what, time.monotonic() - self._began, self._cpu_seconds()))

    def _sample(self) -> None:
        while not self.child.ended:
            found = memory(self.child.pid)
            self.anonymous = max(self.anonymous, found.get("RssAnon", 0))
            self.mapped = max(self.mapped, found.get("RssFile", 0) + found.get("RssShmem", 0))
            self._cpu_seconds()  # for after its end
            time.sleep(0.01)

    def _cpu_seconds(self) -> float:
        try:
            words = Path(f"/proc/{self.child.pid}/stat").read_text().rpartition(")")[2].split()
            self._cpu = max(self._cpu, (int(words[11]) + int(words[12])) / TICKS)
        except (OSError, ValueError):
            pass
        return self._cpu

    def between(self, first: str | None, last: str) -> tuple[float, float]:
        """Wall and CPU seconds from one thing that was said first to another."""
        at = {what: (wall, cpu) for what, wall, cpu in reversed(self.said)}
        begin = (0.0, 0.0) if first is None else at[first]
        return at[last][0] - begin[0], at[last][1] - begin[1]


def memory(pid: int) -> dict[str, int]:
    """The fields of /proc/PID/status that are in kB, in bytes."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    fields = (line.split() for line in lines)
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in fields if words[-1] == "kB"}


def idle(folder: Path) -> int:
    """RssAnon of a child that has loaded everything and waits, bytes."""
    folder.mkdir()
    os.mkfifo(folder / outcome.JOB)  # which holds the child for as long as nobody writes
    child = Child("train", folder, Bounds(4096))
    child.wait(1.0)
    found = memory(child.pid)["RssAnon"]
    child.kill()
    child.wait_for_end()
    child.close()
    return found


def ingested(work: Path, upload: Path, settings: Settings) -> tuple[Watched, Json]:
    """Read an upload as a worker does."""
    work.mkdir()
    os.link(upload, work / outcome.UPLOAD)
    limits = {
        "unpacked_bytes": settings.max_unpacked_bytes,
        "columns": settings.max_columns,
        "rows": settings.max_rows,
        "memory_mb": settings.ingest_memory_mb // DATABASE_SHARE,
    }
    (work / outcome.JOB).write_text(json.dumps({"options": {}, "limits": limits}))
    file_mb = 2 * settings.max_unpacked_bytes // MIB
    seen = Watched(Child("ingest", work, Bounds(settings.ingest_memory_mb, file_mb=file_mb))).to_end()
    found = Outcome.read(work)
    assert found is not None and found.profile is not None, found
    return seen, found.profile


def trained(work: Path, table: Path, profile: Json, settings: Settings) -> tuple[Watched, Outcome]:
    """Train on the table that ingest wrote, as a worker does."""
    work.mkdir()
    os.link(table, work / outcome.TABLE)
    job = {
        "job_id": "job_scale",
        "title": "scale",
        "submitted": {"dataset_id": "ds_scale", **CONFIG},
        "max_parameters": settings.max_parameters,
        "profile": profile,
        "memory_mb": settings.job_memory_mb,
        "in_memory_mb": settings.job_in_memory_mb,
        "threads": 1,
        "dataset": {"id": "ds_scale", "sha256": "0" * 64, "name": "scale", "columns": None},
        "created_at": "2026-01-01T00:00:00Z",
        "checkpoint_seconds": settings.checkpoint_seconds,
        "provenance": {},
    }
    (work / outcome.JOB).write_text(json.dumps(job))
    seen = Watched(Child("train", work, Bounds(settings.job_memory_mb, file_mb=1 << 15))).to_end()
    found = Outcome.read(work)
    assert found is not None and found.status == "succeeded", found
    return seen, found


PHASES = {
    "prepare": (None, "resolved"),
    "epoch": ("resolved", "progress diagnose"),
    "evaluate, report, export": ("progress diagnose", "end"),
}


def measure(rows: int, folder: Path) -> dict[str, float]:
    """One size: CPU and wall seconds by phase, MiB of the upload, and MiB above the idle child."""
    settings = Settings.load({"GRADKEEL_DATA": str(folder / "data")})
    upload = folder / "upload.parquet"
    write(rows, upload)
    least = idle(folder / "idle")
    found: dict[str, float] = {"rows": rows, "upload MiB": upload.stat().st_size / MIB}
    reading, profile = ingested(folder / "ingest", upload, settings)
    found["ingest"], found["ingest CPU"] = reading.between(None, "end")
    found["ingest MiB"] = (reading.anonymous - least) / MIB
    job, ended = trained(folder / "train", folder / "ingest" / outcome.TABLE, profile, settings)
    for name, (first, last) in PHASES.items():
        found[name], found[f"{name} CPU"] = job.between(first, last)
    found["train MiB"] = (job.anonymous - least) / MIB
    found["mapped MiB"] = job.mapped / MIB
    assert ended.metrics is not None
    found["rmse"] = ended.metrics["test"]["rmse"]
    found["ridge"] = ended.metrics["baselines"]["ridge"]["rmse"]
    return found


def show(results: list[dict[str, float]], idle_mib: float) -> None:
    """A line a measure, a column a size, and how the largest compares to the one before it, row for row."""
    print(f"idle child with torch: {idle_mib:.0f} MiB RssAnon, not counted below; {NUMBERS} numbers, "
          f"{len(LEVELS)} categorical columns, 1 thread")  # fmt: skip
    print(f"{'':38}" + "".join(f"{int(each['rows']):>16,}" for each in results) + f"{'÷ linear':>10}")
    for name in ("ingest", *PHASES):
        cells = [f"{each[f'{name} CPU']:.1f} ({each[name]:.1f})" for each in results]
        line(f"{name}, CPU s (wall)", cells, ratio(results, f"{name} CPU"))
    line("all, CPU s a million rows", [f"{total(each) / each['rows'] * 1e6:.1f}" for each in results])
    for name, key in (("ingest", "ingest MiB"), ("job", "train MiB")):
        line(f"{name}, peak RssAnon above idle, MiB", [f"{each[key]:.0f}" for each in results])
    line("job, mapped files in memory, MiB", [f"{each['mapped MiB']:.0f}" for each in results])
    line("upload, MiB", [f"{each['upload MiB']:.0f}" for each in results])
    line("test RMSE (ridge)", [f"{each['rmse']:.3f} ({each['ridge']:.3f})" for each in results])


def line(name: str, cells: list[str], last: str = "") -> None:
    print(f"{name:38}" + "".join(f"{cell:>16}" for cell in cells) + f"{last:>10}", flush=True)


def total(found: dict[str, float]) -> float:
    return sum(found[f"{name} CPU"] for name in ("ingest", *PHASES))


def ratio(results: list[dict[str, float]], key: str) -> str:
    """Of the largest: seconds a row over those of the size before."""
    if len(results) < 2:
        return ""
    before, last = results[-2:]
    return f"{last[key] / last['rows'] / (before[key] / before['rows']):.2f}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--folder", type=Path, help="where to work (default: the temporary folder)")
    options = parser.parse_args(arguments)
    start_forkserver()
    base = Path(tempfile.mkdtemp(dir=options.folder))
    results = []
    try:
        least = idle(base / "idle") / MIB
        for rows in sorted(options.rows):
            folder = base / str(rows)
            folder.mkdir()
            results.append(measure(rows, folder))
            shutil.rmtree(folder)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    show(results, least)


if __name__ == "__main__":
    main()
