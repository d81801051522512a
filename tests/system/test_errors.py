"""Every typed error of the SDK, raised by a real answer of a real service: blocking and asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import io
import json
import os
import pickle
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

import gradkeel
from gradkeel import AsyncClient, Client, GradkeelError, errors
from servers import free_port
from service.conftest import Service, running_service

RATE = 20
CONFIG: dict[str, Any] = {"target": "y", "preset": "fast", "health": {"gradient_check": False}}
WILD = CONFIG | {
    "preset": "custom",
    "model": {"kind": "mlp", "widths": [64, 64]},
    "prepare": {"numeric": {"kind": "none"}, "target": {"kind": "none"}},
    "optimizer": {"kind": "sgd", "lr": 1e6},
    "loss": {"kind": "mse"},
    "clips": [],
}
ENDLESS = CONFIG | {"budget": {"epochs": 1_000_000, "patience": 0, "max_seconds": 120}}
TABLE = "x,z,y\n" + "".join(f"{i % 13},{i % 7 * 100},{i % 13 * 3.5 + i % 7}\n" for i in range(200))


class Changing(io.BytesIO):
    """A file that is written to while it is uploaded: read again, it holds other bytes."""

    def read(self, size: int | None = -1) -> bytes:
        piece = super().read(size)
        if not piece:
            self.getbuffer()[-2] = ord("9")
        return piece


async def done(value: Any) -> Any:
    """What a blocking client returned, or what an asyncio client promises."""
    return await value if inspect.isawaitable(value) else value


class World:
    """Where errors come from: a whole stack, and a service of its own with few requests a minute."""

    def __init__(self, url: str, key: str, hurried: Service) -> None:
        self.url, self.key, self.hurried = url, key, hurried
        with Client(url, key) as client:
            self.dataset = client.datasets.upload(TABLE.encode(), name="errors.csv").id
            self.reader = str(client.keys.create(["read"], name="errors").secret)
            rejected = client.datasets.upload(b"a,b\n1,2\n3\n", name="ragged.csv", wait=False)
            self.rejected = rejected.id


@pytest.fixture(scope="module")
def world(stack: Any) -> Iterator[World]:
    profile = json.loads((stack.data / "profile.json").read_text())
    with running_service(GRADKEEL_RATE_LIMIT=str(RATE)) as hurried:
        yield World(profile["url"], profile["api_key"], hurried)


Make = Callable[..., Any]


async def bad_request(make: Make, world: World) -> None:
    data = Changing(TABLE.encode() + os.urandom(4).hex().encode() + b",1,1\n")
    await done(make(world.url, world.key).datasets.upload(data, name="changing.csv"))


async def unauthenticated(make: Make, world: World) -> None:
    await done(make(world.url, world.key + "x").jobs.get("job_0"))


async def forbidden(make: Make, world: World) -> None:
    await done(make(world.url, world.reader).jobs.create(world.dataset, config=CONFIG))


async def not_found(make: Make, world: World) -> None:
    await done(make(world.url, world.key).models.get("mdl_0"))


async def conflict(make: Make, world: World) -> None:
    client = make(world.url, world.key)
    data = await done(client.datasets.get(world.rejected))
    with pytest.raises(gradkeel.DatasetRejected):
        await done(data.wait())
    await done(client.jobs.create(data, config=CONFIG))


async def unprocessable(make: Make, world: World) -> None:
    await done(make(world.url, world.key).jobs.create(world.dataset, config=CONFIG, target="Y"))


async def too_many(make: Make, world: World) -> None:
    client = make(world.hurried.url, world.hurried.submitter, max_retries=0)
    for _ in range(2 * RATE + 1):
        with contextlib.suppress(errors.NotFoundError):
            await done(client.models.get("mdl_0"))


async def broken_record(make: Make, world: World) -> None:
    """A row whose JSON was damaged on the disk."""
    row = world.hurried.job()
    path = Path(world.hurried.env["GRADKEEL_DATA"]) / "gradkeel.db"
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE jobs SET config = '{' WHERE id = ?", (row.id,))
    await done(make(world.hurried.url, world.hurried.reader, max_retries=0).jobs.get(row.id))


async def unreachable(make: Make, world: World) -> None:
    await done(make(f"http://127.0.0.1:{free_port()}", "k", max_retries=1).jobs.get("job_0"))


async def silent(make: Make, world: World) -> None:
    """The service's processes are stopped, as by a machine that swaps."""
    assert world.hurried.server is not None
    group = world.hurried.server.process.pid
    os.killpg(group, signal.SIGSTOP)
    try:
        client = make(world.hurried.url, world.hurried.stranger, timeout=0.3, max_retries=0)
        await done(client.jobs.get("job_0"))
    finally:
        os.killpg(group, signal.SIGCONT)


async def failed(make: Make, world: World) -> None:
    job = await done(make(world.url, world.key).jobs.create(world.dataset, config=WILD))
    await done(job.wait())


async def cancelled(make: Make, world: World) -> None:
    job = await done(make(world.url, world.key).jobs.create(world.dataset, config=ENDLESS))
    await done(job.cancel())
    await done(job.wait())


async def impatient(make: Make, world: World) -> None:
    job = await done(make(world.url, world.key).jobs.create(world.dataset, config=ENDLESS))
    try:
        await done(job.wait(timeout=0.1))
    finally:
        await done(job.cancel())


async def rejected(make: Make, world: World) -> None:
    await done(make(world.url, world.key).datasets.upload(b"a,b\n1,2\n3\n", name="ragged.csv"))


CASES: dict[str, tuple[Callable[[Make, World], Any], str]] = {
    "BadRequestError": (bad_request, "digest"),
    "AuthenticationError": (unauthenticated, "key"),
    "PermissionDeniedError": (forbidden, "submit"),
    "NotFoundError": (not_found, "mdl_0"),
    "ConflictError": (conflict, "rejected"),
    "UnprocessableError": (unprocessable, "did you mean 'y'"),
    "RateLimitError": (too_many, "minute"),
    "InternalServerError": (broken_record, r"request req_\w+\)$"),
    "APIConnectionError": (unreachable, "Cannot reach http"),
    "APITimeoutError": (silent, "did not answer in time"),
    "JobFailed": (failed, "diverged"),
    "JobCancelled": (cancelled, "was cancelled"),
    "WaitTimeout": (impatient, "it goes on"),
    "DatasetRejected": (rejected, "line 3"),
}
WITHOUT_AN_ANSWER = ("APIConnectionError", "APITimeoutError")
WITHOUT_A_PROBLEM = (*WITHOUT_AN_ANSWER, "JobCancelled", "WaitTimeout")


def test_every_error_that_the_service_can_cause_is_here() -> None:
    ours = {
        name
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, GradkeelError)
    }
    never_alone = {"GradkeelError", "APIStatusError"}
    elsewhere = {
        "DigestMismatch",
        "MissingExtra",
    }  # tests/client/test_transfers.py, tests/client/test_rows.py
    assert ours - never_alone - elsewhere <= set(CASES)


@pytest.mark.parametrize("kind", [Client, AsyncClient], ids=["blocking", "asyncio"])
@pytest.mark.parametrize("name", CASES)
def test_each_error_is_typed_told_and_traceable(world: World, name: str, kind: Any) -> None:
    provoke, said = CASES[name]
    with pytest.raises(GradkeelError, match=said) as caught:
        asyncio.run(provoke(kind, world))
    error = caught.value
    assert type(error).__name__ == name
    if name in WITHOUT_AN_ANSWER:
        assert isinstance(error.__cause__, httpx2.TransportError)
    else:
        assert str(error.request_id).startswith("req_")
    if name not in WITHOUT_A_PROBLEM:
        assert error.problem is not None
        assert error.problem["type"].startswith("urn:gradkeel:problem:")
        assert error.problem["title"]


@pytest.mark.parametrize("name", ["UnprocessableError", "JobFailed", "DatasetRejected", "APIConnectionError"])
def test_errors_cross_processes(world: World, name: str) -> None:
    provoke, _ = CASES[name]
    with pytest.raises(GradkeelError) as caught:
        asyncio.run(provoke(Client, world))
    packed = pickle.dumps(caught.value)
    assert world.key.partition(".")[2].encode() not in packed
    again = pickle.loads(packed)
    assert type(again) is type(caught.value)
    assert str(again) == str(caught.value)
    assert (again.problem, again.request_id) == (caught.value.problem, caught.value.request_id)
    assert getattr(again, "job", None) == getattr(caught.value, "job", None)
