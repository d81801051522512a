"""Why a running job is asked to stop, told from one thread to another."""

import contextlib
import os
import threading
from enum import IntEnum


class Stop(IntEnum):
    """Reasons to stop; a later one outranks the ones before it."""

    DEADLINE = 1
    CANCELLED = 2
    RELEASED = 3
    LOST = 4


class StopSignal:
    """A reason to stop that a waiting thread notices at once: ``fileno`` becomes readable."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reason: Stop | None = None
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._open = True

    @property
    def reason(self) -> Stop | None:
        return self._reason

    def request(self, reason: Stop) -> None:
        """Ask to stop; a weaker reason than the one given before changes nothing."""
        with self._lock:
            if self._open and (self._reason is None or reason > self._reason):
                self._reason = reason
                os.eventfd_write(self._event, 1)

    def fileno(self) -> int:
        return self._event

    def clear(self) -> None:
        """Forget the wake-up; the reason stays."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._event)

    def close(self) -> None:
        with self._lock:
            self._open = False
            os.close(self._event)
