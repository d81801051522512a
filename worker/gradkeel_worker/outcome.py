"""What a child leaves in its work folder for the supervisor, file by file."""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gradkeel_store.json_text import finite, to_text

# what the supervisor puts there
JOB = "job.json"
TABLE = "table.parquet"
UPLOAD = "upload"
EARLIER = "earlier.gradkeel"

# what the child leaves
READINGS = "readings.npz"
CHECKPOINT = "checkpoint.safetensors"
OUTCOME = "outcome.json"
OUTPUT = "output.txt"
REPORT = "report.json"
SERIES = "series.parquet"
PREDICTIONS = "predictions.csv"
BUNDLE = "model.gradkeel"
ONNX = "model.onnx"
SAFETENSORS = "weights.safetensors"

MODEL_FILES = {"bundle": BUNDLE, "onnx": ONNX, "safetensors": SAFETENSORS}


@dataclass(frozen=True)
class Outcome:
    """How a child that could still say so ended.

    status: succeeded, diverged, cancelled, deadline, released, failed, or rejected (ingest).
    error: {code, message, where}.    model: {target, task, columns, classes}, when its files are there.
    problem: problem document of a rejected upload.    profile: of one that was read.
    """

    status: str
    error: dict[str, Any] | None = None
    verdict: str | None = None
    metrics: dict[str, Any] | None = None
    model: dict[str, Any] | None = None
    problem: dict[str, Any] | None = None
    profile: dict[str, Any] | None = None

    def write(self, work: Path) -> None:
        """Last of all files: what it speaks of is there when it is."""
        write_text(work / OUTCOME, to_text(asdict(self)))

    @classmethod
    def read(cls, work: Path) -> "Outcome | None":
        """None where the child died before it could say anything."""
        try:
            document = json.loads((work / OUTCOME).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return cls(**document)


def write_text(path: Path, text: str) -> None:
    """Write a file that appears whole or not at all."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """As `write_text`."""
    with whole(path) as partial:
        partial.write_bytes(data)


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write a file that appears at `path` only once it is whole: a child can be killed any time."""
    partial = path.with_name(f".{path.name}.partial")
    yield partial
    os.replace(partial, path)


def write_json(path: Path, document: Any) -> None:
    """Write strict JSON; numbers that JSON lacks become null."""
    write_text(path, json.dumps(finite(document), ensure_ascii=False, allow_nan=False))
