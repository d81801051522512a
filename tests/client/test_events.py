"""Event streams: taken up after the last event seen, whatever cuts them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from fault_server import FaultServer, Reply
from gradkeel import (
    APIConnectionError,
    AsyncClient,
    Client,
    Event,
    JobCancelled,
    JobFailed,
    NotFoundError,
    WaitTimeout,
)
from gradkeel.sansio import flows
from gradkeel.sansio.commands import Answer, Clock, Emit, NextEvent, OpenEvents, WireEvent
from gradkeel.sansio.retry import RetryPolicy

STREAM = {"Content-Type": "text/event-stream"}
RUNNING = {"id": "job_1", "state": "running", "config": {}}
DONE = {"id": "job_1", "state": "succeeded", "config": {}, "model_id": None}


def stream_of(*events: tuple[int, str]) -> Reply:
    text = "retry: 1000\n\n" + "".join(
        f"id: {number}\nevent: {name}\ndata: {json.dumps({'n': number})}\n\n: heartbeat\n\n"
        for number, name in events
    )
    return Reply(200, content=text.encode(), headers=STREAM)


def test_a_cut_stream_goes_on_after_the_last_event(fault_server: Callable[..., FaultServer]) -> None:
    first = stream_of((1, "state"), (2, "epoch"), (3, "epoch"))
    whole = len(first.body())
    server = fault_server(
        Reply(200, RUNNING),
        Reply(200, content=first.content, headers=STREAM, cut=whole - 30),
        Reply(drop=True),
        Reply(503),
        stream_of((3, "epoch"), (4, "epoch")),
        stream_of((5, "end")),
    )
    with Client(server.url, "k") as client:
        seen = list(client.jobs.get("job_1").stream())
    assert [event.id for event in seen] == [1, 2, 3, 4, 5]
    assert seen[1] == Event(2, "epoch", {"n": 2})
    asked = [request.headers.get("last-event-id") for request in server.seen[1:]]
    assert asked == [None, "2", "2", "2", "4"]


def test_the_asyncio_stream_is_the_same(fault_server: Callable[..., FaultServer]) -> None:
    server = fault_server(
        Reply(200, RUNNING), stream_of((1, "state")), Reply(drop=True), stream_of((2, "end"))
    )

    async def read() -> list[Event]:
        async with AsyncClient(server.url, "k") as client:
            job = await client.jobs.get("job_1")
            return [event async for event in job.stream()]

    assert [event.name for event in asyncio.run(read())] == ["state", "end"]


def test_a_stream_after_the_last_event_is_empty(fault_server: Callable[..., FaultServer]) -> None:
    server = fault_server(Reply(200, RUNNING), Reply(204))
    with Client(server.url, "k") as client:
        assert list(client.jobs.get("job_1").stream(after=9)) == []
    assert len(server.seen) == 2


def test_leaving_a_stream_early_closes_it(fault_server: Callable[..., FaultServer]) -> None:
    server = fault_server(Reply(200, RUNNING), stream_of((1, "state"), (2, "epoch"), (3, "end")))
    with Client(server.url, "k") as client:
        stream = client.jobs.get("job_1").stream()
        assert next(iter(stream)).id == 1
        stream.close()  # type: ignore[attr-defined]


def test_a_stream_of_nothing_is_an_error(fault_server: Callable[..., FaultServer]) -> None:
    server = fault_server(Reply(200, RUNNING), Reply(404, {"title": "There is no such thing"}))
    with Client(server.url, "k") as client, pytest.raises(NotFoundError):
        list(client.jobs.get("job_1").stream())


def test_a_service_that_stays_away_is_an_error(fault_server: Callable[..., FaultServer]) -> None:
    server = fault_server(Reply(200, RUNNING), Reply(drop=True))
    with Client(server.url, "k", max_retries=1) as client, pytest.raises(APIConnectionError):
        list(client.jobs.get("job_1").stream())


def test_wait_hands_each_event_to_the_caller_and_brings_the_job_up_to_date(
    fault_server: Callable[..., FaultServer],
) -> None:
    server = fault_server(Reply(200, RUNNING), stream_of((1, "epoch"), (2, "end")), Reply(200, DONE))
    seen: list[Event] = []
    with Client(server.url, "k") as client:
        job = client.jobs.get("job_1")
        assert job.wait(on_event=seen.append) is job
    assert [event.id for event in seen] == [1, 2]
    assert job.state == "succeeded"
    assert job.ended


def test_an_asyncio_wait_awaits_a_coroutine_function(fault_server: Callable[..., FaultServer]) -> None:
    server = fault_server(Reply(200, RUNNING), stream_of((1, "epoch"), (2, "end")), Reply(200, DONE))
    seen: list[int] = []

    async def note(event: Event) -> None:
        await asyncio.sleep(0)
        seen.append(event.id)

    async def wait() -> Any:
        async with AsyncClient(server.url, "k") as client:
            return await (await client.jobs.get("job_1")).wait(on_event=note)

    assert asyncio.run(wait()).state == "succeeded"
    assert seen == [1, 2]


@pytest.mark.parametrize(("state", "error"), [("failed", JobFailed), ("cancelled", JobCancelled)])
def test_wait_raises_for_what_went_wrong_unless_told_not_to(
    fault_server: Callable[..., FaultServer], state: str, error: type[Exception]
) -> None:
    ended = {**DONE, "state": state, "error": {"code": "diverged", "message": "the loss became inf"}}
    server = fault_server(Reply(200, ended))
    with Client(server.url, "k") as client:
        job = client.jobs.get("job_1")
        assert job.wait(check=False).state == state
        with pytest.raises(error) as caught:
            job.wait()
    assert caught.value.job.id == "job_1"  # type: ignore[attr-defined]


@pytest.mark.parametrize("on_event", [None, print])
def test_wait_gives_up_after_the_time_given(
    fault_server: Callable[..., FaultServer], on_event: Callable[[Event], None] | None
) -> None:
    server = fault_server(Reply(200, RUNNING))
    with Client(server.url, "k") as client, pytest.raises(WaitTimeout):
        client.jobs.get("job_1").wait(timeout=0.0, on_event=on_event)


def test_a_stream_that_never_falls_silent_is_left_at_the_deadline() -> None:
    """The flow is driven by hand: the clock moves one second with each event."""
    flow = flows.events("/jobs/job_1/events", RetryPolicy(), timeout=5.0)
    seconds, emitted, reply = 0, 0, None
    with pytest.raises(WaitTimeout):
        while True:
            command = flow.send(reply)
            emitted += isinstance(command, Emit)
            seconds += isinstance(command, NextEvent)
            replies = {
                Clock: float(seconds),
                OpenEvents: Answer(200, {}),
                NextEvent: WireEvent(str(seconds), "reading", "{}"),
            }
            reply = replies.get(type(command))
    assert emitted == 5
