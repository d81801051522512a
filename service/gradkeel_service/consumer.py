"""`python -m gradkeel_service.consumer`: takes in what does not come as one request.

Jobs that producers put on the broker, by the main thread, and the lines of batches, by a thread of their own.
"""

import os
import platform
import secrets
import signal
import threading
import time
from types import FrameType

from gradkeel_service.consumer_parts import ConsumerParts
from gradkeel_store.errors import StoreError
from gradkeel_store.logs import configure_logging, get_logger
from gradkeel_store.settings import Settings

SIGN_SECONDS = 2.0
"""Between two signs of life; the thread that does the work gives them, so that a stuck one gives none."""

WAIT_SECONDS = 1.0
"""How long to wait for a message, and with it for a signal to stop."""


class Consumer:
    """One consumer process. ``run`` returns once ``stop`` was called, with nothing left in hand."""

    def __init__(self, settings: Settings) -> None:
        owner = f"{platform.node()}-{os.getpid()}-{secrets.token_hex(4)}"
        self.parts = ConsumerParts.open(settings, owner)
        self._log = get_logger(__name__)
        self._stopping = threading.Event()
        self._signed = float("-inf")

    def stop(self) -> None:
        """Ask ``run`` to end. May be called from a signal's handler."""
        self._stopping.set()

    def run(self) -> None:
        self._log.info("the consumer is ready", owner=self.parts.owner)
        while not self._stopping.is_set():
            self._give_sign()
            self._stopping.wait(WAIT_SECONDS)

    def close(self) -> None:
        """Take leave."""
        try:
            self.parts.records.remove_worker(self.parts.owner)
        except StoreError as error:
            self._log.warning("the consumer's record stays", error=str(error))
        self.parts.records.close()

    def _give_sign(self) -> None:
        now = time.monotonic()
        if now - self._signed < SIGN_SECONDS:
            return
        info = {"host": platform.node(), "pid": os.getpid()}
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


if __name__ == "__main__":
    main()
