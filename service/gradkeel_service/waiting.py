"""Requests that wait (long polls, event streams) share one cap on the threads they may hold."""

import contextlib
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

T = TypeVar("T")

PAUSES = (0.02, 0.05, 0.1, 0.2)
"""Seconds between two looks at the record: quick at first, so that a change just made is seen at once."""


class Seats:
    """At most ``count`` requests wait at a time, and at most ``each`` of one project."""

    def __init__(self, count: int, each: int) -> None:
        self.count, self.each = count, each
        self._lock = threading.Lock()
        self._taken: Counter[str] = Counter()

    @contextlib.contextmanager
    def seat(self, project: str) -> Iterator[bool]:
        """Whether there was a free seat; it is held until the block ends."""
        taken = self.take(project)
        try:
            yield taken
        finally:
            if taken:
                self.leave(project)

    def take(self, project: str) -> bool:
        with self._lock:
            free = self._taken.total() < self.count and self._taken[project] < self.each
            self._taken[project] += free
        return free

    def leave(self, project: str) -> None:
        with self._lock:
            self._taken[project] -= 1

    def taken(self, project: str) -> int:
        """How many seats the project holds now, in this process."""
        with self._lock:
            return self._taken[project]


def poll(
    look: Callable[[], T],
    done: Callable[[T], bool],
    seconds: float,
    stop: threading.Event,
    gone: Callable[[], bool],
) -> T:
    """The last look: taken when it is ``done``, time is over, ``stop`` is set or the asker is ``gone``."""
    deadline = time.monotonic() + seconds
    seen = look()
    looks = 0
    while not done(seen) and not gone():
        pause = min(PAUSES[min(looks // 5, len(PAUSES) - 1)], deadline - time.monotonic())
        if pause <= 0 or stop.wait(pause):
            break
        looks += 1
        seen = look()
    return seen


def client_gone(environ: Mapping[str, Any]) -> Callable[[], bool]:
    """A check whether the client of this request has closed its connection."""
    connection: socket.socket | None = environ.get("gunicorn.socket")

    def gone() -> bool:
        if connection is None:
            return False
        try:
            readable, _, _ = select.select([connection], [], [], 0)
            return bool(readable) and connection.recv(1, socket.MSG_PEEK) == b""
        except (OSError, ValueError):
            return True

    return gone
