"""One worker process: its parts, its threads, and the order in which they start and stop."""

import os
import platform
import secrets
import threading
from typing import Any

from celery import Celery

from gradkeel_store.errors import StoreError
from gradkeel_store.events import EventLog
from gradkeel_store.logs import get_logger
from gradkeel_store.objects import open_objects
from gradkeel_store.queue import make_celery
from gradkeel_store.records import open_records
from gradkeel_store.settings import Settings
from gradkeel_worker.dispatch import Dispatcher
from gradkeel_worker.folders import WorkFolder
from gradkeel_worker.holdings import Holdings
from gradkeel_worker.limits import Bounds
from gradkeel_worker.outcome import Outcome
from gradkeel_worker.parts import Parts
from gradkeel_worker.processes import Child, start_forkserver
from gradkeel_worker.signals import Stop
from gradkeel_worker.tidying import Tidying
from gradkeel_worker.upkeep import Upkeep

DEVICE_SECONDS = 60.0


class Worker:
    """Takes jobs and uploads from the records and runs them, with or without a broker.

    Make and start it in the main thread: its children die with the thread that made their forkserver.
    """

    def __init__(self, settings: Settings) -> None:
        self.owner = f"{platform.node()}-{os.getpid()}-{secrets.token_hex(4)}"
        log = get_logger("gradkeel_worker").bind(worker=self.owner)
        self._folder = WorkFolder(settings.data / "work", self.owner)
        records = open_records(settings)
        self.parts = Parts(
            settings=settings,
            records=records,
            objects=open_objects(settings),
            events=EventLog(settings),
            holdings=Holdings(records, settings, self.owner, log),
            owner=self.owner,
            folder=self._folder.path,
            log=log,
        )
        self._dispatcher = Dispatcher(self.parts)
        self._upkeep: Upkeep | None = None
        self._tidying = Tidying(self.parts)
        self._closed = False

    def start(self, producer: Celery | None = None) -> None:
        """Start everything; returns once the worker has given its first sign of life."""
        start_forkserver()
        info = {"devices": self._devices(), "host": platform.node(), "pid": os.getpid()}
        self._upkeep = Upkeep(self.parts, producer or make_celery(self.parts.settings), info)
        self.parts.holdings.start()
        self._upkeep.start()
        self._tidying.start()
        self._dispatcher.start()
        self.parts.log.info("the worker is ready", devices=info["devices"])

    def wake(self) -> None:
        """A ring: look for something to claim."""
        self._dispatcher.wake()

    def begin_stop(self) -> None:
        """Give back what runs, attempts included. Returns at once."""
        self.parts.stopping.set()
        self.parts.holdings.stop_all(Stop.RELEASED)
        self._dispatcher.wake()

    def close(self) -> None:
        """Stop in good order: everything that was running is back in the queue when this returns."""
        if self._closed:
            return
        self._closed = True
        self.begin_stop()
        self._tidying.close()
        self._dispatcher.close()
        self.parts.holdings.close()
        if self._upkeep is not None:
            self._upkeep.close()
        self._take_leave()
        self.parts.records.close()
        self._folder.close()

    def _take_leave(self) -> None:
        try:
            self.parts.records.remove_worker(self.owner)
        except StoreError as error:
            self.parts.log.warning("the worker's record stays", error=str(error))

    def _devices(self) -> list[str]:
        """What torch finds, asked in a child; at least the CPU."""
        work = self._folder.path / "devices"
        work.mkdir()
        child = Child("devices", work, Bounds(memory_mb=self.parts.settings.job_memory_mb))
        deadline = threading.Timer(DEVICE_SECONDS, child.kill)
        deadline.start()
        child.wait_for_end()
        deadline.cancel()
        child.close()
        found = Outcome.read(work)
        devices: Any = (found.metrics or {}).get("devices") if found else None
        return list(devices or ["cpu"])
