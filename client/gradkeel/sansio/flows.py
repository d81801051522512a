"""The flows that every resource is made of: one exchange with its retries, pages, downloads, events."""

from __future__ import annotations

import binascii
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol
from urllib.parse import quote

from gradkeel.errors import DigestMismatch, WaitTimeout
from gradkeel.sansio.commands import (
    Answer,
    Body,
    Call,
    Clock,
    Emit,
    Exchange,
    Failure,
    Flow,
    NextEvent,
    OpenEvents,
    Outcome,
    Request,
    Sink,
    Sleep,
    WireEvent,
)
from gradkeel.sansio.problems import error_of, not_json, read_object
from gradkeel.sansio.retry import RetryPolicy

LONG_POLL_SECONDS = 30
WATCHED_POLL_SECONDS = 1
SHORTEST_POLL_SECONDS = 0.2
EVENT_SILENCE_SECONDS = 45.0  # three missed heartbeats of 15 s
SHORT_SILENCE_SECONDS = 10.0  # below the heartbeat: heartbeats do not show, and a caller's deadline must
PATIENCE = 10  # tries in a row without an answer, while waiting for a job
PATIENT = RetryPolicy(max_retries=PATIENCE)

Json = dict[str, Any]


@dataclass(frozen=True)
class Event:
    """One event of a job. ``id`` grows; ``name`` is one of ``gradkeel.contract.states.EventName``."""

    id: int
    name: str
    data: Json


def segment(text: str) -> str:
    """A name from outside as one segment of a path."""
    return quote(text, safe="")


def get(path: str, params: Mapping[str, Any] | None = None, **kwargs: Any) -> Request:
    return Request("GET", path, params=query(params or {}), **kwargs)


def delete(path: str) -> Request:
    return Request("DELETE", path)


def post(
    path: str, document: Any = None, *, params: Mapping[str, Any] | None = None, key: str | None = None
) -> Request:
    """A POST of JSON that carries one ``Idempotency-Key`` across all its tries."""
    headers = {"Idempotency-Key": key or str(uuid.uuid4())}
    if document is None:
        return Request("POST", path, params=query(params or {}), headers=headers)
    headers["Content-Type"] = "application/json"
    return Request("POST", path, params=query(params or {}), headers=headers, content=encode(document))


def post_body(
    path: str, body: Body, *, params: Mapping[str, Any], headers: Mapping[str, str], key: str | None
) -> Request:
    """A POST of raw bytes, also under one ``Idempotency-Key``."""
    named = {"Content-Type": "application/octet-stream", "Idempotency-Key": key or str(uuid.uuid4())}
    return Request("POST", path, params=query(params), headers={**named, **headers}, body=body)


def encode(document: Any) -> bytes:
    """Strict JSON. Raises ValueError for NaN and infinities, which the service refuses."""
    return json.dumps(document, allow_nan=False, separators=(",", ":")).encode()


def query(params: Mapping[str, Any]) -> dict[str, str]:
    """Query parameters as text, without those that are None."""
    return {k: _query_text(v) for k, v in params.items() if v is not None}


def _query_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def outcome_of(request: Request, policy: RetryPolicy, sink: Sink | None = None) -> Flow[Outcome]:
    """The outcome after as many tries as the policy allows, whatever its status."""
    retries = 0
    while True:
        if sink is not None:
            sink.restart()
        outcome: Outcome = yield Exchange(request, sink)
        delay = policy.delay(retries, request, outcome)
        if delay is None:
            return _lost_delete(request, outcome, retries)
        yield Sleep(delay)
        retries += 1


def _lost_delete(request: Request, outcome: Outcome, retries: int) -> Outcome:
    """A DELETE whose first answer was lost finds nothing on its second try: it is done."""
    gone = isinstance(outcome, Answer) and outcome.status == 404
    return Answer(204, {}) if gone and retries and request.method == "DELETE" else outcome


def answer_of(request: Request, policy: RetryPolicy, sink: Sink | None = None) -> Flow[Answer]:
    """A successful answer. Raises the error of ``errors.py`` for anything else."""
    outcome = yield from outcome_of(request, policy, sink)
    if isinstance(outcome, Failure) or not 200 <= outcome.status < 300:
        raise error_of(outcome)
    return outcome


def document_of(request: Request, policy: RetryPolicy) -> Flow[Json]:
    """The JSON object of a successful answer."""
    answer = yield from _object_answer(request, policy)
    document: Json = answer.json()
    return document


def _object_answer(request: Request, policy: RetryPolicy) -> Flow[Answer]:
    """A successful answer that holds a JSON object."""
    answer = yield from answer_of(request, policy)
    if read_object(answer.content) is None:
        raise not_json(answer)
    return answer


def text_of(request: Request, policy: RetryPolicy) -> Flow[str]:
    answer = yield from answer_of(request, policy)
    return answer.content.decode("utf-8")


def bytes_of(request: Request, policy: RetryPolicy) -> Flow[bytes]:
    answer = yield from answer_of(request, policy)
    return answer.content


def nothing_of(request: Request, policy: RetryPolicy) -> Flow[None]:
    yield from answer_of(request, policy)


def pages(
    path: str, params: Mapping[str, Any], policy: RetryPolicy, bind: Callable[[Json], Any]
) -> Flow[None]:
    """Emit every item of a list, page after page."""
    after: str | None = None
    while True:
        page = yield from document_of(get(path, {**params, "after": after}), policy)
        for item in page["data"]:
            yield Emit(bind(item))
        after = page.get("next_cursor")
        if not page.get("has_more") or after is None:
            return


def poll(
    path: str,
    done: Callable[[Json], bool],
    policy: RetryPolicy,
    timeout: float | None,
    what: str,
    on_look: Callable[[Json], Any] | None = None,
) -> Flow[Json]:
    """The document of ``polled``."""
    return (yield from polled(path, done, policy, timeout, what, on_look))[0]


def polled(
    path: str,
    done: Callable[[Json], bool],
    policy: RetryPolicy,
    timeout: float | None,
    what: str,
    on_look: Callable[[Json], Any] | None = None,
) -> Flow[tuple[Json, str | None]]:
    """Read a document, long-polling, until ``done`` says so: it, and the id of the request that brought it.

    ``on_look`` is shown the document about once a second, and at the end. Raises ``WaitTimeout`` after
    ``timeout`` seconds. Tolerates a service that is away for a while.
    """
    patient = replace(policy, max_retries=max(policy.max_retries, PATIENCE))
    deadline = yield from _deadline(timeout)
    longest = LONG_POLL_SECONDS if on_look is None else WATCHED_POLL_SECONDS
    answer = yield from _object_answer(get(path), patient)
    while not done(answer.json()):
        if on_look is not None:
            yield Call(on_look, answer.json())
        left = yield from _left(deadline, what, answer.request_id)
        wait = max(1, int(min(longest, left)))
        answer = yield from _object_answer(get(path, {"wait": wait}, timeout=wait + 30.0), patient)
        if not done(answer.json()) and "retry-after" in answer.headers:
            yield Sleep(min(left, SHORTEST_POLL_SECONDS))
    if on_look is not None:
        yield Call(on_look, answer.json())
    return answer.json(), answer.request_id


def _deadline(timeout: float | None) -> Flow[float | None]:
    if timeout is None:
        return None
    now: float = yield Clock()
    return now + timeout


def _left(deadline: float | None, what: str, request_id: str | None = None) -> Flow[float]:
    if deadline is None:
        return float(LONG_POLL_SECONDS)
    now: float = yield Clock()
    if now >= deadline:
        told = f"{what} has not ended within the time given; it goes on"
        raise WaitTimeout(told, request_id=request_id)
    return deadline - now


def events(
    path: str, policy: RetryPolicy, after: int | None = None, timeout: float | None = None
) -> Flow[None]:
    """Emit the events of a job until it has ended; a cut stream is taken up after the last event seen.

    Raises ``WaitTimeout`` after ``timeout`` seconds.
    """
    deadline = yield from _deadline(timeout)
    last, failures, request_id = after, 0, None
    while True:
        silence = EVENT_SILENCE_SECONDS
        if deadline is not None:
            silence = min(SHORT_SILENCE_SECONDS, (yield from _left(deadline, "The job", request_id)))
        ended, seen, outcome = yield from _one_stream(path, last, silence, deadline)
        if ended:
            return
        expected = deadline is not None and isinstance(outcome, Failure) and outcome.timed_out
        failures = 0 if seen != last or expected else failures + 1
        last, request_id = seen, outcome.request_id if isinstance(outcome, Answer) else request_id
        yield Sleep(0.0 if expected else _pause(policy, path, failures, outcome))


def _one_stream(
    path: str, last: int | None, silence: float, deadline: float | None
) -> Flow[tuple[bool, int | None, Outcome]]:
    """Read one connection: whether the job's end was seen, the last event's id, how it ended.

    A stream that is never silent has to be left at the deadline too.
    """
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": str(last)} if last is not None else {})
    request = get(path, headers=headers, timeout=silence)
    outcome: Outcome = yield OpenEvents(request)
    if isinstance(outcome, Failure) or outcome.status >= 300:
        return False, last, outcome
    if outcome.status == 204:  # nothing comes after ``last``
        return True, last, outcome
    while True:
        wire: WireEvent | Failure | None = yield NextEvent()
        if not isinstance(wire, WireEvent):
            return False, last, wire or outcome
        if not wire.data:
            continue  # no event, by the standard: a bare `retry:` line, say
        event = read_event(wire)
        last = event.id if event.id >= 0 else last
        yield Emit(event)
        if event.name == "end":
            return True, last, outcome
        yield from _left(deadline, "The job", outcome.request_id)


def _pause(policy: RetryPolicy, path: str, failures: int, outcome: Outcome) -> float:
    """How long to wait before the stream is opened again. Raises where that is hopeless."""
    if isinstance(outcome, Answer) and outcome.status < 300:
        return policy.backoff(min(failures, 4))
    patient = replace(policy, max_retries=max(policy.max_retries, PATIENCE))
    delay = patient.delay(max(failures - 1, 0), get(path), outcome)
    if delay is None:
        raise error_of(outcome)
    return delay


def read_event(wire: WireEvent) -> Event:
    """An event as sent → ``Event``; one without a number gets -1."""
    data = json.loads(wire.data)
    number = int(wire.id) if wire.id.lstrip("-").isdigit() else -1
    return Event(number, wire.name, data if isinstance(data, dict) else {"value": data})


def each(flow: Flow[None], function: Callable[[Any], Any]) -> Flow[None]:
    """Run a flow, handing what it emits to ``function`` in place of the one who iterates."""
    reply: Any = None
    while True:
        try:
            command = flow.send(reply)
        except StopIteration:
            return
        reply = yield Call(function, command.item) if isinstance(command, Emit) else command


class DigestSink(Sink, Protocol):
    """A sink that knows the digest of what it holds."""

    def hexdigest(self) -> str:
        """sha256 of the bytes written since the last restart, as hex."""


def download(
    path: str, params: Mapping[str, Any], policy: RetryPolicy, sink: DigestSink, expected: str | None
) -> Flow[Answer]:
    """Fetch into ``sink``; check the digest against ``expected`` (hex) and the answer's ``Repr-Digest``."""
    answer = yield from answer_of(get(path, params), policy, sink)
    named = {digest for digest in (expected, repr_digest(answer.headers)) if digest is not None}
    if named - {sink.hexdigest()}:
        raise DigestMismatch(
            f"{path}: what arrived has the digest {sink.hexdigest()}, not {', '.join(sorted(named))}",
            request_id=answer.request_id,
        )
    return answer


def repr_digest(headers: Mapping[str, str]) -> str | None:
    """The sha-256 of a ``Repr-Digest`` header (RFC 9530) as hex, else None."""
    for part in headers.get("repr-digest", "").split(","):
        name, _, value = part.strip().partition("=")
        if name == "sha-256":
            return binascii.a2b_base64(value.strip(":")).hex()
    return None
