"""Which leases are dead, by this process's own monotonic clock: wall clocks may jump."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from gradkeel_store.records.rows import Lease


class LeaseWatch:
    """Remembers since when each lease has looked the same. One per reaper; show it all leases each time."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._since: dict[Lease, float] = {}

    def expired(self, leases: Iterable[Lease]) -> list[Lease]:
        """Those whose fence and heartbeat have not changed for the length of a lease.

        Requeue them with their ``heartbeat_seq``: one whose holder came back in between then stays.
        """
        now = self._clock()
        self._since = {lease: self._since.get(lease, now) for lease in leases}
        return [lease for lease, since in self._since.items() if now - since >= self._seconds]
