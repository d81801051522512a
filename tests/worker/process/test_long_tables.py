"""Jobs whose table is too large for memory: the same model, from files in the worker's folder."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradkeel.contract.resolve import resolve
from gradkeel_store.settings import Settings
from gradkeel_worker import failures, training
from gradkeel_worker.data.storage import MEMORY, NoRoom, Scratch
from gradkeel_worker.worker import Worker

from .conftest import SMALL, Desk

Start = Callable[[Settings], Worker]


def rows_of(count: int) -> str:
    """A CSV of numbers with holes and a column of categories."""
    draw = np.random.default_rng(2)
    x, zone = draw.normal(size=(count, 4)), draw.choice(list("abc"), count)
    lines = []
    for i, ((a, b, c, e), z) in enumerate(zip(x, zone, strict=True)):
        first = "" if i % 50 == 0 else f"{a:.5f}"
        lines.append(f"{first},{b:.5f},{c:.5f},{z},{a - 2 * b + (z == 'a') + 0.1 * e:.5f}")
    return "\n".join(["p,q,r,zone,y", *lines]) + "\n"


def test_a_job_in_files_leaves_the_same_model(connected: Settings, start_worker: Start) -> None:
    desk = Desk(connected)
    dataset = desk.upload(rows_of(20_000))
    left = []
    for limit in (0, 512):
        worker = start_worker(replace(connected, job_in_memory_mb=limit))
        job = desk.submit(dataset, budget={"epochs": 2, "batch_size": 512})
        ended = desk.end(job)
        worker.close()
        assert ended.state == "succeeded" and ended.model_id is not None, ended.error
        weights = desk.records.get_model(desk.project, ended.model_id).digests["safetensors"]
        left.append((weights, ended.predictions_digest, ended.metrics, ended.verdict))
    assert left[0] == left[1]
    desk.records.close()


def job_of(rows: int, **limits: int) -> dict[str, Any]:
    columns = [{"name": name, "type": "numeric"} for name in ("a", "b", "y")]
    return {"profile": {"rows": rows, "columns": columns}, "memory_mb": 4096, "in_memory_mb": 512} | limits


CONFIG = resolve({"target": "y", **SMALL})


def test_small_tables_stay_in_memory_and_large_ones_do_not(tmp_path: Path) -> None:
    assert training._storage(tmp_path, job_of(10**6), CONFIG) is MEMORY
    assert isinstance(training._storage(tmp_path, job_of(2 * 10**7), CONFIG), Scratch)
    little = job_of(10**6, memory_mb=256)  # a fourth of which the 46 MiB would be within, but for the rest
    assert training._storage(tmp_path, little, CONFIG) is MEMORY
    assert isinstance(training._storage(tmp_path, job_of(10**6, in_memory_mb=8), CONFIG), Scratch)


def test_a_table_too_long_for_the_jobs_memory_is_refused_with_the_number(tmp_path: Path) -> None:
    with pytest.raises(failures.NeedsMemory) as caught:
        training._storage(tmp_path, job_of(10**7, memory_mb=512), CONFIG)
    told = failures.describe(caught.value)
    assert told["code"] == "out_of_memory"
    assert "10,000,000 rows needs about 1,075 MiB" in told["message"]
    assert "budget.max_memory_mb" in told["message"] and "may use 512" in told["message"]


def test_a_full_disk_is_told_beforehand(tmp_path: Path) -> None:
    with pytest.raises(NoRoom) as caught:
        training._storage(tmp_path, job_of(10**12, memory_mb=10**9), CONFIG)
    told = failures.describe(caught.value)
    assert "GRADKEEL_JOB_IN_MEMORY_MB" in told["message"] and "MiB left" in told["message"]
