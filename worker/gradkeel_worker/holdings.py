"""What this worker holds: one thread keeps all its leases alive and looks for cancel requests."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gradkeel_store.errors import StoreError
from gradkeel_store.records import Records
from gradkeel_store.settings import Settings
from gradkeel_worker.signals import Stop, StopSignal


@dataclass(eq=False)
class Holding:
    """A lease on a job or a data set. ``last_good``: monotonic time of the last accepted sign of life."""

    id: str
    fence: int
    beat: Callable[[], bool]
    stop: StopSignal = field(default_factory=StopSignal)
    last_good: float = field(default_factory=time.monotonic)

    def heartbeat(self) -> bool:
        """Give a sign of life. A lost lease asks its run to stop; no answer leaves `last_good` as it was."""
        if self.beat():
            self.last_good = time.monotonic()
            return True
        self.stop.request(Stop.LOST)
        return False


class Holdings:
    """All leases of one worker. ``owner`` is the worker's id in the records."""

    def __init__(self, records: Records, settings: Settings, owner: str, log: Any) -> None:
        self._records, self._settings, self._owner, self._log = records, settings, owner, log
        self._held: dict[str, Holding] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def add(self, holding: Holding) -> None:
        with self._lock:
            self._held[holding.id] = holding

    def remove(self, holding: Holding) -> None:
        with self._lock:
            self._held.pop(holding.id, None)
        holding.stop.close()

    def all(self) -> list[Holding]:
        with self._lock:
            return list(self._held.values())

    def stop_all(self, reason: Stop) -> None:
        for holding in self.all():
            holding.stop.request(reason)

    def _run(self) -> None:
        beat_at = time.monotonic()
        while not self._ended.wait(self._settings.cancel_poll_seconds):
            if time.monotonic() - beat_at >= self._settings.heartbeat_seconds:
                beat_at = time.monotonic()
                self._beat()
            self._pass_on_cancels()

    def _beat(self) -> None:
        for holding in self.all():
            try:
                if not holding.heartbeat():
                    self._log.warning("lease lost", id=holding.id, fence=holding.fence)
            except StoreError as error:
                self._log.warning("no heartbeat", id=holding.id, error=str(error))

    def _pass_on_cancels(self) -> None:
        held = {holding.id: holding for holding in self.all()}
        if not held:
            return
        try:
            requested = self._records.cancel_requests(self._owner)
        except StoreError as error:
            self._log.warning("cancel requests cannot be read", error=str(error))
            return
        for job_id in requested:
            if job_id in held:
                held[job_id].stop.request(Stop.CANCELLED)
