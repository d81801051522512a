"""Events as a stream and as pages."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import httpx2 as httpx

from service.conftest import THREADS, Service, assert_problem


def frames(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """The events of a stream."""
    event: dict[str, Any] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        if name in ("id", "event", "data"):
            event[name] = json.loads(value) if name == "data" else value
        elif not line and event:
            yield event
            event = {}


def finished_job(service: Service) -> str:
    row = service.running_job()
    for step in range(3):
        assert service.events.append(row.id, "reading", {"fence": row.fence, "step": step, "loss": 1.0})
    assert service.records.finish_job(row.id, row.fence, "succeeded", metrics={})
    return row.id


def test_a_stream_ends_with_the_job(service: Service, client: httpx.Client) -> None:
    job_id = finished_job(service)
    with client.stream("GET", f"/v1/jobs/{job_id}/events", headers={"Accept": "text/event-stream"}) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        events = list(frames(answer.iter_lines()))
    assert [event["event"] for event in events] == ["state", "state", *["reading"] * 3, "end"]
    ids = [int(event["id"]) for event in events]
    assert ids == sorted(set(ids))
    assert events[2]["data"]["job_id"] == job_id


def test_replay_goes_on_after_the_last_event(service: Service, client: httpx.Client) -> None:
    job_id = finished_job(service)
    with client.stream("GET", f"/v1/jobs/{job_id}/events") as answer:
        events = list(frames(answer.iter_lines()))
    headers = {"Last-Event-ID": events[3]["id"]}
    with client.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as answer:
        assert list(frames(answer.iter_lines())) == events[4:]


def test_a_stream_is_live(service: Service, client: httpx.Client) -> None:
    row = service.running_job()
    with client.stream("GET", f"/v1/jobs/{row.id}/events") as answer:
        live = frames(answer.iter_lines())
        assert next(live)["data"]["state"] == "queued"
        assert next(live)["data"]["state"] == "running"
        service.events.append(row.id, "epoch", {"fence": row.fence, "epoch": 1})
        assert next(live)["event"] == "epoch"
        service.records.finish_job(row.id, row.fence, "failed", error={"code": "internal", "message": "x"})
        assert [event["event"] for event in live] == ["end"]


def test_the_same_events_as_pages(service: Service, client: httpx.Client) -> None:
    job_id = finished_job(service)
    path, accept = f"/v1/jobs/{job_id}/events", {"Accept": "application/json"}
    first = client.get(path, params={"limit": 4}, headers=accept).json()
    assert first["has_more"] is True
    second = client.get(path, params={"after": first["next_cursor"]}, headers=accept).json()
    assert second["has_more"] is False
    names = [event["event"] for event in first["data"] + second["data"]]
    assert names == ["state", "state", *["reading"] * 3, "end"]


def test_the_largest_page_of_a_long_run(service: Service, client: httpx.Client) -> None:
    row = service.running_job()
    for step in range(1001):
        assert service.events.append(row.id, "reading", {"fence": row.fence, "step": step})
    assert service.records.finish_job(row.id, row.fence, "succeeded", events=1001)
    path, accept = f"/v1/jobs/{row.id}/events", {"Accept": "application/json"}
    first = client.get(path, params={"limit": 1000}, headers=accept).json()
    assert (len(first["data"]), first["has_more"]) == (1000, True)
    rest = client.get(path, params={"after": first["next_cursor"]}, headers=accept).json()
    assert (len(rest["data"]), rest["has_more"]) == (4, False)
    assert [event["data"]["step"] for event in (first["data"] + rest["data"])[2:-1]] == list(range(1001))


def test_nothing_comes_after_the_last_event(service: Service, client: httpx.Client) -> None:
    """A browser asks again after a stream has ended; 204 is how it is told to leave it."""
    job_id = finished_job(service)
    path = f"/v1/jobs/{job_id}/events"
    pages = client.get(path, headers={"Accept": "application/json"}).json()
    last = {"Last-Event-ID": pages["next_cursor"]}
    assert client.get(path, headers=last).status_code == 204
    as_json = client.get(path, headers=last | {"Accept": "application/json"}).json()
    assert as_json == {"data": [], "has_more": False, "next_cursor": pages["next_cursor"]}


def test_a_bad_last_event_id(service: Service, client: httpx.Client) -> None:
    job = service.job()
    answer = client.get(f"/v1/jobs/{job.id}/events", headers={"Last-Event-ID": "x"})
    assert_problem(answer, 422, "invalid")


def test_waiting_requests_share_one_cap(service: Service, client: httpx.Client) -> None:
    job = service.running_job()
    path = f"/v1/jobs/{job.id}/events"
    with contextlib.ExitStack() as stack:
        waiting = []
        for _ in range(THREADS // 4):
            other = stack.enter_context(service.client())
            waiting.append(frames(stack.enter_context(other.stream("GET", path)).iter_lines()))
            assert next(waiting[-1])["event"] == "state"
        with client.stream("GET", path) as refused:
            refused.read()
        assert_problem(refused, 503, "unavailable")
        assert "Retry-After" in refused.headers
        at_once = client.get(f"/v1/jobs/{job.id}?wait=60")
        assert at_once.status_code == 200
        assert "Retry-After" in at_once.headers
        service.records.finish_job(job.id, job.fence, "cancelled")
        assert [list(events)[-1]["event"] for events in waiting] == ["end", "end"]
    with client.stream("GET", path) as answer:
        assert list(frames(answer.iter_lines()))[-1]["event"] == "end"


def test_a_client_that_goes_gives_its_seat_back(service: Service, client: httpx.Client) -> None:
    job = service.running_job()
    path = f"/v1/jobs/{job.id}/events"
    for _ in range(THREADS):
        with client.stream("GET", path) as answer:
            live = frames(answer.iter_lines())
            while answer.status_code == 200 and next(live)["data"].get("state") != "running":
                pass
    # Eight streams were left, two may be open at a time: the last one got in or the seats free up soon.
    while True:
        with client.stream("GET", path) as answer:
            if answer.status_code == 200:
                break
    service.records.finish_job(job.id, job.fence, "cancelled")
