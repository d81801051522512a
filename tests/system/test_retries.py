"""The SDK behind a bad network: a proxy with faults in front of a real stack."""

from __future__ import annotations

import asyncio
import json
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

import gradkeel.client
from fault_proxy import Fault, FaultProxy
from gradkeel import (
    APIConnectionError,
    APITimeoutError,
    AsyncClient,
    Client,
    Event,
    InternalServerError,
    Job,
    RateLimitError,
)
from gradkeel.sansio.retry import FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS

SMALL: dict[str, Any] = {
    "preset": "custom",
    "model": {"kind": "mlp", "widths": [8]},
    "budget": {"epochs": 2, "batch_size": 64},
    "health": {"gradient_check": False},
}
POST = r"POST /v1/jobs$"


@pytest.fixture(scope="module")
def access(stack: Any) -> tuple[str, str]:
    profile = json.loads((stack.data / "profile.json").read_text())
    return profile["url"], profile["api_key"]


@pytest.fixture(scope="module")
def dataset_id(access: tuple[str, str], diabetes: Path) -> str:
    with Client(*access) as client:
        return client.datasets.upload(diabetes).id


@pytest.fixture
def proxy(access: tuple[str, str]) -> Iterator[FaultProxy]:
    made = FaultProxy(access[0])
    yield made
    made.close()


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that a blocking client asks for; none is waited out."""
    pauses: list[float] = []
    clock = types.SimpleNamespace(sleep=pauses.append, monotonic=time.monotonic)
    monkeypatch.setattr(gradkeel.client, "time", clock)
    return pauses


def submit(url: str, key: str, dataset_id: str, label: str, **options: Any) -> Any:
    with Client(url, key, **options) as client:
        return client.jobs.create(dataset_id, target="progression", config=SMALL, labels={"cut": label})


def submit_by_asyncio(url: str, key: str, dataset_id: str, label: str, **options: Any) -> Any:
    async def work() -> Any:
        async with AsyncClient(url, key, **options) as client:
            return await client.jobs.create(
                dataset_id, target="progression", config=SMALL, labels={"cut": label}
            )

    return asyncio.run(work())


BOTH = pytest.mark.parametrize("send", [submit, submit_by_asyncio], ids=["blocking", "asyncio"])
FAULTS = {
    "cut before the request": Fault("before", POST, 2),
    "cut after it was done": Fault("after", POST, 2),
    "truncated": Fault("truncate", POST, 2, bytes=40),
    "stalled": Fault("stall", POST, 1),
    "503": Fault("answer", POST, 2, 503, {"Retry-After": "0"}),
    "429": Fault("answer", POST, 2, 429, {"Retry-After": "0"}),
    "502": Fault("answer", POST, 2, 502),
}


@BOTH
@pytest.mark.parametrize("name", FAULTS)
def test_one_job_comes_of_it_whatever_the_network_does(
    proxy: FaultProxy,
    access: tuple[str, str],
    dataset_id: str,
    send: Callable[..., Any],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gradkeel.sansio.retry.FIRST_DELAY_SECONDS", 0.01)
    times = FAULTS[name].times
    proxy.faults = [replace(FAULTS[name])]
    label = f"{send.__name__} {name}"
    job = send(proxy.url, access[1], dataset_id, label, timeout=1.0 if name == "stalled" else 30.0)
    tries = proxy.sent(POST)
    assert len(tries) == times + 1
    assert len({seen.headers["idempotency-key"] for seen in tries}) == 1
    with Client(*access) as client:
        assert [found.id for found in client.jobs.list(label=f"cut={label}")] == [job.id]


def test_a_service_that_refuses_connections_for_a_while(
    proxy: FaultProxy, access: tuple[str, str], dataset_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.close()
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            proxy.open()

    clock = types.SimpleNamespace(sleep=sleep, monotonic=time.monotonic)
    monkeypatch.setattr(gradkeel.client, "time", clock)
    assert submit(proxy.url, access[1], dataset_id, "refused").state == "queued"
    assert len(pauses) == 3
    assert len(proxy.sent(POST)) == 1


def test_retry_after_is_honoured_in_both_forms(
    proxy: FaultProxy, access: tuple[str, str], dataset_id: str, slept: list[float]
) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    proxy.faults = [
        Fault("answer", POST, status=429, headers={"Retry-After": "17"}),
        Fault("answer", POST, status=503, headers={"Retry-After": date}),
    ]
    submit(proxy.url, access[1], dataset_id, "retry-after")
    assert slept[0] == 17.0
    assert 60.0 < slept[1] <= 90.0


def test_pauses_grow_within_their_bounds_and_tries_end(
    proxy: FaultProxy, access: tuple[str, str], dataset_id: str, slept: list[float]
) -> None:
    proxy.faults = [Fault("before", POST, 100)]
    with pytest.raises(APIConnectionError) as caught:
        submit(proxy.url, access[1], dataset_id, "never", max_retries=8)
    assert caught.value.__cause__ is not None
    assert len(proxy.sent(POST)) == 9
    full = [min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2**n) for n in range(8)]
    assert all(whole / 2 <= pause <= whole for pause, whole in zip(slept, full, strict=True))
    with Client(*access) as client:
        assert list(client.jobs.list(label="cut=never")) == []


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault("answer", POST, 9, 503, {"Retry-After": "0"}), InternalServerError),
        (Fault("answer", POST, 9, 429, {"Retry-After": "3600"}), RateLimitError),
        (Fault("stall", POST, 9), APITimeoutError),
        (Fault("truncate", POST, 9, bytes=9), APIConnectionError),
    ],
    ids=lambda value: getattr(value, "how", ""),
)
def test_what_is_raised_in_the_end_names_the_fault(
    proxy: FaultProxy,
    access: tuple[str, str],
    dataset_id: str,
    slept: list[float],
    fault: Fault,
    error: type[Exception],
) -> None:
    proxy.faults = [fault]
    with pytest.raises(error) as caught:
        submit(proxy.url, access[1], dataset_id, fault.how, timeout=0.3, max_retries=1)
    assert type(caught.value) is error


def test_a_large_download_is_taken_up_until_it_is_whole(
    proxy: FaultProxy, access: tuple[str, str], ended: Job, tmp_path: Path, slept: list[float]
) -> None:
    proxy.faults = [Fault("truncate", "artifact", 3, bytes=700)]
    with Client(proxy.url, access[1]) as client:
        path = client.models.get(str(ended.model_id)).download(tmp_path)
    assert len(proxy.sent("artifact")) == 4
    assert path.read_bytes()[:2] == b"PK"


@pytest.fixture(scope="module")
def ended(access: tuple[str, str], dataset_id: str) -> Job:
    """A job that has succeeded."""
    with Client(*access) as client:
        return client.jobs.create(dataset_id, target="progression", config=SMALL).wait()


def assert_once_and_in_order(seen: list[Event], kept: list[Event]) -> None:
    """Every event that the service kept once and in order, or a gap where some were lost."""
    ids = [event.id for event in seen if event.id >= 0]
    assert ids == sorted(set(ids))
    missed = {event.id for event in kept if event.name != "gap"} - set(ids)
    assert not missed or any(event.name == "gap" for event in seen)
    assert [event.name for event in seen].count("end") == 1
    assert seen[-1].name == "end"


def test_a_stream_cut_many_times_shows_every_event_once(
    proxy: FaultProxy, access: tuple[str, str], dataset_id: str, slept: list[float]
) -> None:
    budget = {"epochs": 60, "batch_size": 16, "patience": 0}
    proxy.faults = [Fault("stream", "events", 400, bytes=700)]
    with Client(proxy.url, access[1]) as client:
        job = client.jobs.create(dataset_id, target="progression", config=SMALL | {"budget": budget})
        seen = list(job.stream())
    streams = proxy.sent("events")
    assert len(streams) > 3  # how many depends on how many events there were
    asked = [int(stream.headers["last-event-id"]) for stream in streams if "last-event-id" in stream.headers]
    assert asked == sorted(asked)
    with Client(*access) as client:
        assert_once_and_in_order(seen, list(client.jobs.get(job.id).stream()))


def test_an_asyncio_stream_is_taken_up_as_well(
    proxy: FaultProxy, access: tuple[str, str], ended: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradkeel.sansio.retry.FIRST_DELAY_SECONDS", 0.001)
    proxy.faults = [Fault("stream", "events", 400, bytes=500), Fault("before", "events", 2)]

    async def read() -> list[Event]:
        async with AsyncClient(proxy.url, access[1]) as client:
            return [event async for event in (await client.jobs.get(ended.id)).stream()]

    seen = asyncio.run(read())
    with Client(*access) as client:
        assert_once_and_in_order(seen, list(client.jobs.get(ended.id).stream()))


def test_a_wait_goes_through_every_fault(
    proxy: FaultProxy, access: tuple[str, str], dataset_id: str, slept: list[float]
) -> None:
    proxy.faults = [
        Fault("before", "GET", 3),
        Fault("answer", "GET", 2, 503, {"Retry-After": "1"}),
        Fault("truncate", "GET", 2, bytes=30),
        Fault("after", "GET", 1),
    ]
    with Client(proxy.url, access[1]) as client:
        job = client.jobs.create(dataset_id, target="progression", config=SMALL)
        assert job.wait().state == "succeeded"
