"""Batches through the whole stack: from Python, by asyncio and from the command line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gradkeel import AsyncClient, Client, ConflictError, Dataset

from .conftest import Stack

pytestmark = pytest.mark.system

TINY: dict[str, Any] = {
    "target": "progression",
    "preset": "custom",
    "model": {"kind": "linear"},
    "budget": {"epochs": 2, "batch_size": 64},
    "health": {"gradient_check": False},
}
LONG = TINY | {"budget": {"epochs": 100_000, "patience": 0, "max_seconds": 200}}
BAD = TINY | {"optimizer": {"kind": "adamw", "lr": -1}}


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    profile = json.loads((stack.data / "profile.json").read_text())
    with Client(**profile) as made:
        yield made


@pytest.fixture
def dataset(client: Client, diabetes: Path) -> Dataset:
    return client.datasets.upload(diabetes)


def test_good_lines_run_and_bad_ones_say_why(client: Client, dataset: Dataset) -> None:
    configs = [TINY | {"seed": number} if number % 3 else BAD for number in range(9)]
    shown: list[float] = []
    batch = client.batches.submit(configs, dataset=dataset)
    batch.wait(timeout=120, on_progress=lambda seen: shown.append(seen.fraction))
    assert (batch.lines, batch.rejected, batch.counts["succeeded"], batch.succeeded) == (9, 3, 6, False)
    assert shown == sorted(shown)
    assert shown[-1] == 1.0
    results = list(batch.results())
    assert [result.custom_id for result in results] == [str(number) for number in range(1, 10)]
    for number, result in enumerate(results):
        if number % 3:
            assert result.succeeded
            assert result.metrics is not None
            assert result.metrics["test"]["rmse"] > 0
            assert client.jobs.get(str(result.job_id)).config["seed"] == number
        else:
            assert result.error is not None
            assert result.error["errors"][0]["pointer"] == "/config/optimizer/lr"
    assert len(list(client.jobs.list(batch=batch.id))) == 6
    with pytest.raises(ConflictError):
        batch.cancel()


def test_a_single_job_does_not_wait_for_a_batch(client: Client, dataset: Dataset) -> None:
    batch = client.batches.submit((TINY | {"seed": n} for n in range(400)), dataset=dataset)
    while batch.refresh().counts["succeeded"] == 0:
        pass
    job = client.jobs.create(dataset, config=TINY).wait(timeout=60)
    assert job.state == "succeeded"
    assert batch.refresh().counts["queued"] > 100
    batch.cancel()
    batch.wait(timeout=60)
    counts = batch.counts
    assert counts["cancelled"] > 100
    assert counts["succeeded"] + counts["cancelled"] == batch.lines


def test_by_asyncio(stack: Stack, dataset: Dataset) -> None:
    async def run() -> list[tuple[str | None, str]]:
        async with AsyncClient(**json.loads((stack.data / "profile.json").read_text())) as client:
            batch = await client.batches.submit([("a", TINY), ("b", BAD)], dataset=dataset.id)
            await batch.wait(timeout=60)
            assert batch.id in [seen.id async for seen in client.batches.list(limit=5)]
            return [(result.custom_id, result.state) async for result in batch.results()]

    assert asyncio.run(run()) == [("a", "succeeded"), ("b", "rejected")]


def test_from_the_command_line(stack: Stack, dataset: Dataset, tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"
    good = [{"custom_id": name, "config": TINY | {"dataset_id": dataset.id}} for name in "ab"]
    file.write_text("".join(json.dumps(line) + "\n" for line in good))
    done = stack.gradkeel("batch", "submit", file, "--wait", "--json")
    assert done.returncode == 0, done.stderr
    batch = json.loads(done.stdout)
    assert batch["counts"]["succeeded"] == 2
    assert "2 succeeded" in done.stderr
    shown = stack.gradkeel("batch", "show", batch["id"])
    assert "has ended: 2 succeeded." in shown.stdout
    listed = json.loads(stack.gradkeel("batch", "list", "--json").stdout)
    assert batch["id"] in [seen["id"] for seen in listed]
    assert batch["id"] in stack.gradkeel("batch", "list").stdout
    results = [
        json.loads(line) for line in stack.gradkeel("batch", "results", batch["id"]).stdout.splitlines()
    ]
    assert [result["custom_id"] for result in results] == ["a", "b"]
    assert stack.gradkeel("batch", "results", batch["id"], "-o", tmp_path / "out.jsonl").returncode == 0
    written = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in written] == results


def test_the_command_line_tells_what_went_wrong(stack: Stack, dataset: Dataset, tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"
    long = {"custom_id": "long", "config": LONG | {"dataset_id": dataset.id}}
    file.write_text(json.dumps(long) + "\nnot json\n")
    submitted = stack.gradkeel("batch", "submit", file, "--priority", "5", "--json")
    batch = json.loads(submitted.stdout)
    assert (submitted.returncode, batch["priority"]) == (0, 5)
    cancelled = stack.gradkeel("batch", "cancel", batch["id"])
    assert (cancelled.returncode, cancelled.stderr) == (0, "")
    assert batch["id"] in cancelled.stdout
    file.write_text("not json\n")
    failed = stack.gradkeel("batch", "submit", file, "--wait")
    assert failed.returncode == 1
    assert "1 rejected" in failed.stdout
    file.write_text("")
    empty = stack.gradkeel("batch", "submit", file)
    assert empty.returncode == 1
    assert "no line" in empty.stderr
    assert stack.gradkeel("batch", "submit", tmp_path / "absent.jsonl").returncode == 2
    assert stack.gradkeel("batch", "show", "bat_none").returncode == 1
