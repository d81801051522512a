"""`python -m gradkeel_service.consumer`: takes in what does not come as one request.

Jobs that producers put on the broker, by the main thread, and the lines of batches, by a thread of their own.
"""

import contextlib
import os
import platform
import secrets
import signal
import threading
import time
from types import FrameType

from gradkeel.contract.tasks import SUBMIT_QUEUE
from gradkeel_service.consumer.batch_reader import BatchReader
from gradkeel_service.consumer.parts import ConsumerParts
from gradkeel_service.consumer.submitting import Submitting
from gradkeel_store.deliveries import Delivery, open_deliveries
from gradkeel_store.errors import StoreError, Unavailable
from gradkeel_store.logs import configure_logging, get_logger
from gradkeel_store.settings import Settings

SIGN_SECONDS = 2.0
"""Between two signs of life; the thread that does the work gives them, so that a stuck one gives none."""

WAIT_SECONDS = 1.0
"""How long to wait for a message, and with it for a signal to stop."""

IN_HAND = 100
"""Messages taken at a time; their records are one transaction."""

PAUSES = (0.1, 0.5, 1.0, 2.0)
"""Seconds before the next try, by the number of failures in a row."""

QUOTA_SECONDS = 5.0
"""Before the next look at a queue where all that was seen waits for a project's quota."""


class Consumer:
    """One consumer process. ``run`` returns soon after ``stop``, with nothing left in hand."""

    def __init__(self, settings: Settings) -> None:
        owner = f"{platform.node()}-{os.getpid()}-{secrets.token_hex(4)}"
        self.parts = ConsumerParts.open(settings, owner)
        self.submitting = Submitting(self.parts)
        self._batches = BatchReader(self.parts)
        self._deliveries = open_deliveries(settings, SUBMIT_QUEUE, owner, IN_HAND)
        self._log = get_logger(__name__)
        self._stopping = threading.Event()
        self._signed = float("-inf")

    def stop(self) -> None:
        """Ask ``run`` to end. May be called from a signal's handler."""
        self._stopping.set()

    def run(self) -> None:
        """Take in messages until ``stop``; a broker or a database that is away is waited for."""
        self._batches.start()
        self._log.info("the consumer is ready", owner=self.parts.owner)
        failures = 0
        while not self._stopping.is_set():
            self._give_sign()
            try:
                self._turn()
                failures = 0
            except StoreError as error:
                self._log.warning("the queue has to wait", error=str(error))
                self._stopping.wait(PAUSES[min(failures, len(PAUSES) - 1)])
                failures += 1

    def _turn(self) -> None:
        """One look at the queue. What is in hand stays there until its records are written."""
        batch = self._deliveries.take(WAIT_SECONDS, self.parts.settings.max_body_bytes)
        if not batch:
            return
        waiting = self._insist(batch)
        if waiting is None:
            return  # stopped before the records could be written: closing puts the messages back
        self._deliveries.settle(waiting)
        if waiting:
            self._log.info("a project may queue no more jobs; submissions wait", waiting=len(waiting))
            self._stopping.wait(QUOTA_SECONDS * len(waiting) / len(batch))

    def _insist(self, batch: list[Delivery]) -> list[Delivery] | None:
        """Those of the batch that have to wait, once the others are in the records; None when stopped."""
        failures = 0
        while True:
            try:
                return self.submitting.take_in(batch)
            except (StoreError, OSError) as error:
                self._log.warning("submissions cannot be recorded now", error=str(error), held=len(batch))
            except Exception:  # no fault of one message: those are rejected one by one
                self._log.exception("submissions cannot be recorded now", held=len(batch))
            if self._stopping.wait(PAUSES[min(failures, len(PAUSES) - 1)]):
                return None
            failures += 1
            self._give_sign()
            with contextlib.suppress(Unavailable):
                self._deliveries.hold()

    def close(self) -> None:
        """Put back what is in hand and take leave."""
        self._deliveries.close()
        self._batches.close()
        try:
            self.parts.records.remove_worker(self.parts.owner)
        except StoreError as error:
            self._log.warning("the consumer's record stays", error=str(error))
        self.parts.records.close()

    def _give_sign(self) -> None:
        now = time.monotonic()
        if now - self._signed < min(SIGN_SECONDS, self.parts.settings.heartbeat_seconds):
            return
        counts = dict(self.submitting.counts)
        info = {"host": platform.node(), "pid": os.getpid(), "submissions": counts}
        try:
            self.parts.records.worker_heartbeat(self.parts.owner, info, role="consumer")
            self._signed = now
        except StoreError as error:
            self._log.warning("no sign of life could be given", error=str(error))


def main() -> None:
    settings = Settings.load()
    configure_logging("consumer", settings.log_level)
    consumer = Consumer(settings)

    def stop(_number: int, _frame: FrameType | None) -> None:
        consumer.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    try:
        consumer.run()
    finally:
        consumer.close()
