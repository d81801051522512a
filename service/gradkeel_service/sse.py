"""A job's events as a live stream (text/event-stream) or as pages of JSON."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import structlog
from flask import Response, request

from gradkeel_service.auth import project
from gradkeel_service.errors import Refusal
from gradkeel_service.parts import Parts, parts
from gradkeel_service.waiting import client_gone
from gradkeel_store.errors import Unavailable
from gradkeel_store.events import Event

log = structlog.get_logger(__name__)

HEARTBEAT_SECONDS = 15.0
RECONNECT_MILLISECONDS = 1000

HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
MEDIA_TYPE = "text/event-stream"


def document(event: Event) -> dict[str, Any]:
    """One event as the JSON pages show it."""
    return {"id": event.id, "event": str(event.name), "data": event.data}


def page(job_id: str, after: int, limit: int) -> dict[str, Any]:
    """The events past ``after`` that are known now; ``next_cursor`` is the id of the last one shown."""
    shown = _known(job_id, after, limit + 1)
    more = len(shown) > limit
    shown = shown[:limit]
    return {
        "data": [document(event) for event in shown],
        "has_more": more,
        "next_cursor": str(shown[-1].id) if shown else (str(after) if after else None),
    }


def _known(job_id: str, after: int, count: int) -> list[Event]:
    """The next ``count`` events, or fewer where no more are known: the log itself answers in portions."""
    found: list[Event] = []
    while len(found) < count:
        portion = parts().events.replay(parts().records, job_id, found[-1].id if found else after)
        if not portion:
            break
        found += portion
    return found[:count]


def stream(job_id: str, after: int) -> Response:
    """The events past ``after`` as they come, until the job's end; 503 when too many requests wait."""
    response = Response(content_type=MEDIA_TYPE)
    response.headers.update(HEADERS)
    if request.method == "HEAD":
        return response
    held = parts()
    owner = project()
    if not held.seats.take(owner):
        raise _no_seat(held, owner)
    response.response = _lines(held, job_id, after, client_gone(request.environ))
    response.call_on_close(lambda: held.seats.leave(owner))
    return response


def _no_seat(held: Parts, owner: str) -> Refusal:
    most = held.seats.each
    if held.seats.taken(owner) >= most:
        return Refusal("quota", f"the project has {most} streams open already (GRADKEEL_MAX_STREAMS)")
    return Refusal(
        "unavailable", "too many streams are open; try again, or ask with Accept: application/json"
    )


def _lines(held: Parts, job_id: str, after: int, gone: Callable[[], bool]) -> Iterator[bytes]:
    yield f"retry: {RECONNECT_MILLISECONDS}\n\n".encode()
    sent = time.monotonic()
    for event in _until_away(held, job_id, after):
        if held.stopping.is_set() or (event is None and gone()):
            return
        if event is not None:
            yield _frame(event)
        elif time.monotonic() - sent >= HEARTBEAT_SECONDS:
            yield b": heartbeat\n\n"
        else:
            continue
        sent = time.monotonic()


def _until_away(held: Parts, job_id: str, after: int) -> Iterator[Event | None]:
    """The events, until the job or the answers of the database end: the client then asks again."""
    try:
        yield from held.events.stream(held.records, job_id, after)
    except Unavailable as error:
        log.warning("stream_cut", job_id=job_id, error=str(error))


def _frame(event: Event) -> bytes:
    data = json.dumps(event.data, ensure_ascii=False, separators=(",", ":"))
    return f"id: {event.id}\nevent: {event.name}\ndata: {data}\n\n".encode()
