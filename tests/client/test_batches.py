"""Batches from Python: what is sent, what comes back, both blocking and by asyncio."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fault_server import FaultServer, Reply
from gradkeel import AsyncClient, Batch, Client
from gradkeel.resources import batches

COUNTS = {"queued": 0, "running": 0, "succeeded": 2, "failed": 0, "cancelled": 0}
READING: dict[str, Any] = {
    "id": "bat_1", "state": "reading", "priority": -10, "lines": 3, "rejected": 0, "cancel_requested": False,
    "counts": COUNTS | {"succeeded": 0}, "progress": {"read": 0, "fraction": 0.0}, "error": None,
    "created_at": "2026-03-01T12:00:00.000000Z", "ended_at": None,
}  # fmt: skip
ENDED = READING | {
    "state": "ended",
    "rejected": 1,
    "counts": COUNTS,
    "progress": {"read": 3, "fraction": 1.0},
}
RESULTS = b'{"line":1,"custom_id":"a","state":"succeeded"}\n{"line":2,"custom_id":null,"state":"rejected"}\n'
CONFIG = {"target": "y"}


def sent(server: FaultServer) -> list[dict[str, Any]]:
    [body] = {seen.body for seen in server.seen}
    return [json.loads(line) for line in body.splitlines()]


def submit(server: FaultServer, items: Any, **options: Any) -> Batch:
    with Client(server.url, "k") as client:
        return client.batches.submit(items, **options)


def submit_async(server: FaultServer, items: Any, **options: Any) -> Any:
    async def run() -> Any:
        async with AsyncClient(server.url, "k") as client:
            return await client.batches.submit(items, **options)

    return asyncio.run(run())


BOTH = pytest.mark.parametrize("send", [submit, submit_async], ids=["blocking", "asyncio"])


@BOTH
def test_what_names_a_line(fault_server: Callable[..., FaultServer], send: Callable[..., Any]) -> None:
    server = fault_server(Reply(202, READING))
    items: list[batches.Item] = [CONFIG, ("mine", {"target": "z"}), {"custom_id": "x", "config": {"seed": 1}}]
    made = send(server, items, dataset="ds_1", target="t", priority=3)
    assert (made.id, made.read, made.ended) == ("bat_1", 0, False)
    assert sent(server) == [
        {"custom_id": "1", "config": {"dataset_id": "ds_1", "target": "y"}},
        {"custom_id": "mine", "config": {"dataset_id": "ds_1", "target": "z"}},
        {"custom_id": "x", "config": {"dataset_id": "ds_1", "target": "t", "seed": 1}},
    ]
    assert server.seen[0].path.endswith("/batches?priority=3")
    assert server.seen[0].headers["content-type"] == "application/jsonl"


@BOTH
def test_a_generator_is_drawn_once_and_sent_again(
    fault_server: Callable[..., FaultServer], send: Callable[..., Any]
) -> None:
    def configs() -> Iterator[dict[str, Any]]:
        for seed in range(500):
            yield {"target": "y", "seed": seed}

    server = fault_server(Reply(503), Reply(drop=True), Reply(202, READING))
    send(server, configs())
    assert len(server.seen) == 3
    assert len({seen.headers["idempotency-key"] for seen in server.seen}) == 1
    assert [line["config"]["seed"] for line in sent(server)] == list(range(500))


def test_numbers_that_json_lacks_are_refused_before_anything_is_sent(
    fault_server: Callable[..., FaultServer],
) -> None:
    server = fault_server(Reply(202, READING))
    with pytest.raises(ValueError, match="JSON compliant"):
        submit(server, [CONFIG | {"seed": float("nan")}])
    assert server.seen == []


def test_a_file_goes_as_it_is(fault_server: Callable[..., FaultServer], tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_bytes(b'{"custom_id": "a"}\nnot json\n')
    server = fault_server(Reply(202, READING))
    told: list[tuple[int, int]] = []
    with Client(server.url, "k") as client:
        client.batches.submit_file(path, progress=lambda done, total: told.append((done, total)))
    assert server.seen[0].body == path.read_bytes()
    assert told == [(28, 28)]


def test_waiting_shows_progress(fault_server: Callable[..., FaultServer]) -> None:
    server = fault_server(Reply(202, READING), Reply(200, READING), Reply(200, READING), Reply(200, ENDED))
    shown: list[float] = []
    with Client(server.url, "k") as client:
        made = client.batches.submit([CONFIG]).wait(on_progress=lambda seen: shown.append(seen.fraction))
    assert shown == [0.0, 0.0, 1.0]
    assert (made.ended, made.succeeded, made.counts["succeeded"]) == (True, False, 2)


def test_waiting_by_asyncio_awaits_what_it_calls(fault_server: Callable[..., FaultServer]) -> None:
    server = fault_server(Reply(202, READING), Reply(200, READING), Reply(200, ENDED))
    shown: list[str] = []

    async def run() -> None:
        async def show(seen: batches.BatchData) -> None:
            shown.append(seen.state)

        async with AsyncClient(server.url, "k") as client:
            await (await client.batches.submit([CONFIG])).wait(on_progress=show)

    asyncio.run(run())
    assert shown == ["reading", "ended"]


def test_results_line_by_line(fault_server: Callable[..., FaultServer], tmp_path: Path) -> None:
    jsonl = {"Content-Type": "application/jsonl"}
    server = fault_server(
        Reply(200, ENDED),
        Reply(503),
        Reply(200, content=RESULTS, headers=jsonl),
        Reply(200, content=RESULTS, headers=jsonl),
    )
    with Client(server.url, "k") as client:
        made = client.batches.get("bat_1")
        first, second = made.results()
        assert made.save_results(tmp_path / "out.jsonl").read_bytes() == RESULTS
    assert (first.line, first.custom_id, first.succeeded) == (1, "a", True)
    assert (second.custom_id, second.state, second.succeeded) == (None, "rejected", False)


def test_results_by_asyncio(fault_server: Callable[..., FaultServer]) -> None:
    server = fault_server(Reply(200, ENDED), Reply(200, content=RESULTS))

    async def run() -> list[int]:
        async with AsyncClient(server.url, "k") as client:
            return [result.line async for result in (await client.batches.get("bat_1")).results()]

    assert asyncio.run(run()) == [1, 2]
