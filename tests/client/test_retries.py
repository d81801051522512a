"""What is tried again, how often, and what is sent each time: blocking and asyncio, against a real server."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

from fault_server import FaultServer, Reply
from gradkeel import (
    APIConnectionError,
    APITimeoutError,
    AsyncClient,
    Client,
    ConflictError,
    InternalServerError,
    RateLimitError,
)
from gradkeel.sansio.commands import Answer, Failure, Request
from gradkeel.sansio.retry import RetryPolicy, retry_after

JOB = {"id": "job_1", "state": "queued", "config": {}}
IN_FLIGHT = {"type": "urn:gradkeel:problem:in_flight", "title": "still running", "status": 409}


def submit(server: FaultServer, **options: Any) -> Any:
    with Client(server.url, "key_1.secret", **options) as client:
        return client.jobs.create("ds_1", target="y")


async def submit_async(server: FaultServer, **options: Any) -> Any:
    async with AsyncClient(server.url, "key_1.secret", **options) as client:
        return await client.jobs.create("ds_1", target="y")


def submit_by_asyncio(server: FaultServer, **options: Any) -> Any:
    return asyncio.run(submit_async(server, **options))


BOTH = pytest.mark.parametrize("send", [submit, submit_by_asyncio], ids=["blocking", "asyncio"])


@BOTH
@pytest.mark.parametrize(
    "fault",
    [Reply(503), Reply(500), Reply(502), Reply(408), Reply(429), Reply(drop=True), Reply(409, IN_FLIGHT)],
    ids=["503", "500", "502", "408", "429", "dropped", "in flight"],
)
def test_a_fault_is_tried_again_under_one_idempotency_key(
    fault_server: Callable[..., FaultServer], send: Callable[..., Any], fault: Reply
) -> None:
    server = fault_server(fault, fault, Reply(202, JOB))
    assert send(server).id == "job_1"
    assert len(server.seen) == 3
    assert len({seen.headers["idempotency-key"] for seen in server.seen}) == 1
    assert {seen.body for seen in server.seen} == {b'{"dataset_id":"ds_1","target":"y"}'}


@BOTH
def test_retries_end(fault_server: Callable[..., FaultServer], send: Callable[..., Any]) -> None:
    server = fault_server(Reply(503, {"title": "The service is not ready", "request_id": "req_9"}))
    with pytest.raises(InternalServerError, match="not ready") as caught:
        send(server, max_retries=3)
    assert len(server.seen) == 4
    assert (caught.value.status, caught.value.request_id) == (503, "req_9")


@BOTH
@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422])
def test_a_refusal_is_final(
    fault_server: Callable[..., FaultServer], send: Callable[..., Any], status: int
) -> None:
    server = fault_server(Reply(status, {"title": "no"}))
    with pytest.raises(Exception, match="no") as caught:
        send(server)
    assert caught.value.status == status  # type: ignore[attr-defined]
    assert len(server.seen) == 1


@BOTH
def test_nobody_listens(send: Callable[..., Any], free_server: FaultServer) -> None:
    with pytest.raises(APIConnectionError, match="Cannot reach"):
        send(free_server, max_retries=1)


@pytest.fixture
def free_server() -> Any:
    """Something with the address of a port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    class Gone:
        url = f"http://127.0.0.1:{port}"

    return Gone()


@BOTH
def test_silence_is_a_timeout(send: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        class Silent:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        with pytest.raises(APITimeoutError):
            send(Silent(), max_retries=0, timeout=0.1)


def test_making_a_key_is_not_repeated_when_it_may_have_been_made(
    fault_server: Callable[..., FaultServer],
) -> None:
    server = fault_server(Reply(drop=True))
    with Client(server.url, "k") as client, pytest.raises(APIConnectionError):
        client.keys.create(["read"])
    assert len(server.seen) == 1
    assert "idempotency-key" not in server.seen[0].headers


def test_making_a_key_waits_for_its_turn(fault_server: Callable[..., FaultServer]) -> None:
    made = {"id": "key_1", "scopes": ["read"], "key": "key_1.secret"}
    server = fault_server(Reply(429), Reply(201, made))
    with Client(server.url, "k") as client:
        assert client.keys.create(["read"]).secret == "key_1.secret"


def test_a_delete_whose_answer_was_lost_is_done(fault_server: Callable[..., FaultServer]) -> None:
    server = fault_server(Reply(drop=True), Reply(404))
    with Client(server.url, "k") as client:
        client.datasets.delete("ds_1")
    assert [seen.method for seen in server.seen] == ["DELETE", "DELETE"]


def test_retry_after_is_honoured(fault_server: Callable[..., FaultServer]) -> None:
    server = fault_server(Reply(429, headers={"Retry-After": "0"}), Reply(202, JOB))
    assert submit(server).id == "job_1"
    policy = RetryPolicy()
    asked = Answer(503, {"retry-after": "7"})
    assert policy.delay(0, Request("GET", "/jobs"), asked) == 7.0
    assert policy.delay(0, Request("GET", "/jobs"), Answer(503, {"retry-after": "86400"})) is None


def test_too_long_a_retry_after_is_an_error(fault_server: Callable[..., FaultServer]) -> None:
    server = fault_server(Reply(429, {"title": "Too many requests"}, {"Retry-After": "86400"}))
    with pytest.raises(RateLimitError):
        submit(server)


def test_retry_after_may_be_a_date() -> None:
    past = Answer(503, {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"})
    assert retry_after(past) == 0.0
    assert retry_after(Answer(503, {"retry-after": "soon"})) is None
    assert retry_after(Failure("gone")) is None


def test_delays_grow_with_jitter_up_to_a_limit() -> None:
    low, high = RetryPolicy(random=lambda: 0.0), RetryPolicy(random=lambda: 1.0)
    assert [low.backoff(n) * 2 for n in range(12)] == [high.backoff(n) for n in range(12)]
    assert high.backoff(1) == 2 * high.backoff(0)
    assert high.backoff(40) == 8.0


def test_a_conflict_other_than_in_flight_is_final(fault_server: Callable[..., FaultServer]) -> None:
    server = fault_server(Reply(409, {"type": "urn:gradkeel:problem:dataset_rejected", "title": "rejected"}))
    with pytest.raises(ConflictError):
        submit(server)
