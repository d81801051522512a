"""A job's events: changes of state from SQL and step events from a Redis stream, in one order.

Step events are a courtesy. Redis may be away, flushed or trimmed at any moment; the reader then gets a
``gap`` event where something is missing and goes on with what SQL knows. See ``event_ids.py`` for how
the ids make holes visible, and stale writers harmless: Redis refuses an id below the stream's newest.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from gradkeel.contract.states import EventName
from gradkeel_store import event_ids
from gradkeel_store.json_text import to_text
from gradkeel_store.settings import Settings

KEY = "gradkeel:events:{job_id}"
KEEP_SECONDS = 7 * 24 * 3600
BATCH = 1000
CONNECT_SECONDS = 0.5
ANSWER_SECONDS = 1.0
REST_SECONDS = 1.0
"""After a failure Redis is left alone for so long, so that a busy writer does not wait at every event."""


T = TypeVar("T")
Outcome = Literal["kept", "taken", "away"]


@dataclass(frozen=True)
class Event:
    """One event as clients see it; ``data`` holds ``job_id`` and ``fence``."""

    id: int
    name: str
    data: dict[str, Any]

    @property
    def ends(self) -> bool:
        """Whether nothing comes after it."""
        return self.name == EventName.END


class Lifecycle(Protocol):
    """What is needed of the records."""

    def lifecycle_events(self, job_id: str, after: int = 0) -> Any: ...


class EventLog:
    """Writes and reads events. One per process; threads may share it."""

    def __init__(self, settings: Settings) -> None:
        self._redis = _client(settings.redis_url) if settings.redis_url else None
        self._length = settings.event_stream_length
        self._numbers: dict[tuple[str, int], int] = {}
        self._lock = threading.Lock()
        self._rest_until = 0.0

    def append(self, job_id: str, name: str, data: Mapping[str, Any]) -> bool:
        """Write a step event of the run ``data["fence"]``.

        False when it was not kept: Redis is away (the hole shows as a gap) or the fence is stale. Never
        raises for that and waits a second at most.
        """
        fence = int(data["fence"])
        with self._lock:
            number = self._numbers.get((job_id, fence), 0)
            self._numbers[job_id, fence] = number + 1
            return self._add(job_id, fence, number, name, {"job_id": job_id} | dict(data))

    def _add(self, job_id: str, fence: int, number: int, name: str, data: dict[str, Any]) -> bool:
        fields = {"name": name, "data": to_text(data)}
        outcome = self._send(job_id, event_ids.step(fence, number), fields)
        newest = self._newest(job_id) if outcome == "taken" else None
        if newest is not None and event_ids.fence_of(newest) == fence:
            # Another writer of this run came before, such as this one before a restart: go on behind it.
            number = event_ids.number_of(newest) + 1
            self._numbers[job_id, fence] = number + 1
            outcome = self._send(job_id, event_ids.step(fence, number), fields)
        return outcome == "kept"

    def _send(self, job_id: str, event_id: int, fields: dict[str, str]) -> Outcome:
        """``taken``: the stream holds this id or a higher one."""
        key = KEY.format(job_id=job_id)

        def send(client: redis.Redis) -> Outcome:
            pipe = client.pipeline(transaction=False)
            pipe.xadd(key, fields, id=_stream_id(event_id), maxlen=self._length, approximate=True)  # type: ignore[arg-type]
            pipe.expire(key, KEEP_SECONDS)
            try:
                pipe.execute()
            except redis.ResponseError as error:
                if "equal or smaller" in str(error):
                    return "taken"
                raise
            return "kept"

        return self._ask(send, "away")

    def _newest(self, job_id: str) -> int | None:
        key = KEY.format(job_id=job_id)
        nothing: Any = []
        found: Any = self._ask(lambda client: client.xrevrange(key, count=1), nothing)
        return _event_id(found[0][0]) if found else None

    def numbered(self, job_id: str, fence: int) -> int:
        """How many step events of a run this process has numbered, those that were not kept included."""
        with self._lock:
            return self._numbers.get((job_id, fence), 0)

    def close_run(self, job_id: str) -> None:
        """Forget the counters of a job that this process has done with."""
        with self._lock:
            self._numbers = {key: number for key, number in self._numbers.items() if key[0] != job_id}

    def read(self, job_id: str, after_id: int = 0, block_ms: int = 0) -> list[Event]:
        """Step events past ``after_id``, at most 1000; waits up to ``block_ms`` for one.

        Empty when Redis is away.
        """
        return self._steps(job_id, after_id, block_ms) or []

    def _steps(self, job_id: str, after_id: int, block_ms: int) -> list[Event] | None:
        """As `read`; None when Redis is away."""
        streams: Any = {KEY.format(job_id=job_id): _stream_id(after_id)}
        answer: Any = self._ask(
            lambda client: client.xread(streams, count=BATCH, block=block_ms or None), None
        )
        if answer is None:
            time.sleep(block_ms / 1000)
            return None
        entries = answer[0][1] if answer else []
        return [event for event in (_event(job_id, *entry) for entry in entries) if event]

    def replay(self, records: Lifecycle, job_id: str, after_id: int = 0) -> list[Event]:
        """What is known past ``after_id`` now, about 1000 at most. Ask again from the last id for more."""
        return self._merged(records, job_id, after_id, 0)

    def stream(
        self, records: Lifecycle, job_id: str, last_event_id: int = 0, *, block_ms: int = 250
    ) -> Iterator[Event | None]:
        """Events past ``last_event_id`` as they come, until the job's end.

        Yields None about every ``block_ms`` while nothing comes: the place to send a heartbeat or to stop.
        """
        last = last_event_id
        while True:
            found = self._merged(records, job_id, last, block_ms)
            yield from found or (None,)
            if found:
                last = found[-1].id
                if found[-1].ends:
                    return

    def _merged(self, records: Lifecycle, job_id: str, after: int, block_ms: int) -> list[Event]:
        # SQL first: a run's end is committed after its last step event was sent, so those are there to read.
        changes = [Event(e.id, e.name, e.data) for e in records.lifecycle_events(job_id, after)]
        steps = self._steps(job_id, after, 0 if changes else block_ms)
        known = event_ids.fence_of(changes[-1].id if changes else after)
        shown = [event for event in steps or () if event_ids.fence_of(event.id) <= known]
        if steps is not None and len(steps) >= BATCH:  # more may come before a later change
            changes = [event for event in changes if event.id < steps[-1].id]
        merged = sorted(changes + shown, key=lambda event: event.id)
        return list(_with_gaps(job_id, after, merged, reachable=steps is not None))

    def _ask(self, question: Callable[[redis.Redis], T], otherwise: T) -> T:
        """Redis's answer, or ``otherwise`` where it is away, full or refuses."""
        if self._redis is None or time.monotonic() < self._rest_until:
            return otherwise
        try:
            return question(self._redis)
        except (redis.RedisError, OSError):
            self._rest_until = time.monotonic() + REST_SECONDS
            return otherwise


def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(
        url,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=ANSWER_SECONDS,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
        protocol=2,
    )


def _stream_id(event_id: int) -> str:
    return f"{event_ids.fence_of(event_id)}-{event_id & event_ids.LAST}"


def _event_id(stream_id: str) -> int:
    fence, _, place = stream_id.partition("-")
    return (int(fence) << event_ids.BITS) + int(place)


def _event(job_id: str, stream_id: str, fields: Mapping[str, str]) -> Event | None:
    """The event of one entry; None for something that this program did not write."""
    try:
        data = json.loads(fields["data"])
        return Event(_event_id(stream_id), fields["name"], {"job_id": job_id} | data)
    except (KeyError, ValueError, TypeError):
        return None


def _with_gaps(job_id: str, after: int, events: Iterable[Event], *, reachable: bool) -> Iterator[Event]:
    """The events, with a ``gap`` before each one that something is missing before."""
    last = after
    for event in events:
        if _hole(last, event, reachable):
            places = {
                "job_id": job_id,
                "fence": event_ids.fence_of(event.id),
                "after": last,
                "before": event.id,
            }
            yield Event(event.id - 1, EventName.GAP, places)
        yield event
        last = event.id


def _hole(last: int, event: Event, reachable: bool) -> bool:
    """Whether step events are missing between the id ``last`` (0: the begin of the job) and an event."""
    fence = event_ids.fence_of(event.id)
    begin = event_ids.claimed(fence)
    if fence == 0 or event.id == begin:
        return False
    if event.id < event_ids.requeued(fence) - 1:
        return event.id != max(last, begin) + 1
    over = last >= event_ids.requeued(fence) - 1  # the run's end, or the gap before it, came already
    return not over and _cut_short(event.data, max(last, begin) - begin, reachable)


def _cut_short(end: Mapping[str, Any], seen: int, reachable: bool) -> bool:
    """Whether the end of a run comes after more step events than were ``seen``.

    It says how many there were, or None: the writer died, and nobody knows. Ends that say nothing are from
    before they did.
    """
    if "events" not in end:
        return not reachable or seen == 0
    count = end["events"]
    return count is None or seen < count
