"""Who runs next: claims rows while there are free slots, woken by rings, by ends, and by the clock.

A ring only wakes; which row is next is asked of the records. So training never holds up the reading of
uploads, rings may be lost or doubled, and with the broker away everything still runs.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gradkeel_store.errors import StoreError
from gradkeel_worker.ingestion import read_upload
from gradkeel_worker.parts import Parts
from gradkeel_worker.supervisor import supervise

READERS = 1
"""Uploads that one worker reads at a time."""


@dataclass
class _Lane:
    """One kind of work: how many at a time, how to claim one, how to run it."""

    name: str
    slots: int
    claim: Callable[[], Any]
    run: Callable[[Parts, Any], None]
    running: set[threading.Thread] = field(default_factory=set)


class Dispatcher:
    """A thread that claims, and one thread for each thing that runs."""

    def __init__(self, parts: Parts) -> None:
        records, owner = parts.records, parts.owner
        self._parts = parts
        self._lanes = (
            _Lane("ingest", READERS, lambda: records.claim_next_dataset(owner), read_upload),
            _Lane("train", parts.settings.worker_concurrency, lambda: records.claim_next(owner), supervise),
        )
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="dispatcher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Something may be there to claim."""
        self._wake.set()

    def close(self) -> None:
        """Claim nothing more and wait for what runs; set `parts.stopping` first."""
        self._wake.set()
        self._thread.join()
        for lane in self._lanes:
            with self._lock:
                running = list(lane.running)
            for thread in running:
                thread.join()

    def _run(self) -> None:
        while not self._parts.stopping.is_set():
            self._wake.clear()
            for lane in self._lanes:
                self._fill(lane)
            self._wake.wait(self._parts.settings.poll_seconds)

    def _fill(self, lane: _Lane) -> None:
        while len(lane.running) < lane.slots and not self._parts.stopping.is_set():
            try:
                row = lane.claim()
            except StoreError as error:
                self._parts.log.warning("nothing can be claimed", kind=lane.name, error=str(error))
                return
            if row is None:
                return
            self._start(lane, row)

    def _start(self, lane: _Lane, row: Any) -> None:
        thread = threading.Thread(
            target=self._work, args=(lane, row), name=f"{lane.name} {row.id}", daemon=True
        )
        with self._lock:
            lane.running.add(thread)
        thread.start()

    def _work(self, lane: _Lane, row: Any) -> None:
        try:
            lane.run(self._parts, row)
        finally:
            with self._lock:
                lane.running.discard(threading.current_thread())
            self._wake.set()
