"""Clients that follow a job's events through whatever happens, and what they may expect of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx2 as httpx

from gradkeel import Client, Event
from gradkeel.contract.states import EventName
from gradkeel_store import event_ids

WAIT_SECONDS = 90
RECONNECT_SECONDS = 0.2


class Follower:
    """Collects events in a thread; ``error`` is what ended it before the last one."""

    def __init__(self, events: Iterator[Event]) -> None:
        self.seen: list[Event] = []
        self.error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._follow, args=(events,), daemon=True)
        self._thread.start()

    def _follow(self, events: Iterator[Event]) -> None:
        try:
            for event in events:
                with self._changed:
                    self.seen.append(event)
                    self._changed.notify_all()
        except Exception as error:
            self.error = error

    def wait_for(self, wanted: Callable[[Event], bool]) -> Event:
        """The first event from now on that is ``wanted``."""
        with self._changed:
            begun = len(self.seen)
            came = self._changed.wait_for(lambda: any(map(wanted, self.seen[begun:])), WAIT_SECONDS)
            assert came, f"it did not come; {self.error!r} after {self.seen[-3:]}"
            return next(filter(wanted, self.seen[begun:]))

    def all(self) -> list[Event]:
        """Every event, once the last one is there."""
        self._thread.join(WAIT_SECONDS)
        assert self.error is None, self.error
        assert not self._thread.is_alive(), f"no end came after {self.seen[-3:]}"
        return self.seen


def browser(client: Client, api_key: str, job_id: str) -> Iterator[Event]:
    """What a browser's EventSource does: reads, and after every cut asks on from the last id, until a 204."""
    last = ""
    headers = {"Authorization": f"Bearer {api_key}", "Accept": "text/event-stream"}
    pause = threading.Event()
    with httpx.Client(base_url=client.url, timeout=20, headers=headers) as http:
        while True:
            try:
                with http.stream("GET", f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": last}) as got:
                    if got.status_code == 204:
                        return
                    if got.status_code == 200:
                        for event in _frames(got.iter_lines()):
                            last = str(event.id)
                            yield event
            except httpx.TransportError:
                pass
            pause.wait(RECONNECT_SECONDS)


def _frames(lines: Iterator[str]) -> Iterator[Event]:
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        if name in ("id", "event", "data"):
            fields[name] = value
        elif not line and "id" in fields:
            yield Event(int(fields["id"]), fields["event"], json.loads(fields["data"]))
            fields = {}


def pages(client: Client, api_key: str, job_id: str, limit: int = 500) -> list[dict[str, Any]]:
    """Every event as the JSON pages tell it."""
    headers = {"Authorization": f"Bearer {api_key}", "Accept": "application/json"}
    found: list[dict[str, Any]] = []
    with httpx.Client(base_url=client.url, timeout=20, headers=headers) as http:
        after: str | None = None
        while True:
            asked = {"limit": str(limit)} | ({"after": after} if after else {})
            page = http.get(f"/v1/jobs/{job_id}/events", params=asked).raise_for_status().json()
            found += page["data"]
            after = page["next_cursor"]
            if not page["has_more"]:
                return found


def assert_nothing_silent(events: list[Event]) -> None:
    """Each event once and in order; each one that is missing lies in a gap; one end, and it is the last."""
    ids = [event.id for event in events]
    assert ids == sorted(set(ids)), "an event came twice or out of order"
    assert [event.name for event in events].count(EventName.END) == 1
    assert events[-1].name == EventName.END
    gaps = [(e.data["after"], e.data["before"]) for e in events if e.name == EventName.GAP]
    silent = [i for i in _step_ids(events) - set(ids) if not any(a < i < b for a, b in gaps)]
    assert not silent, f"{len(silent)} events are missing and no gap says so: {sorted(silent)[:5]}"


def _step_ids(events: list[Event]) -> set[int]:
    """The ids of all step events that the runs' ends say there were."""
    found: set[int] = set()
    for event in events:
        count = event.data.get("events")
        if count is not None:
            fence = event_ids.fence_of(event.id)
            found |= {event_ids.step(fence, number) for number in range(count)}
    return found
