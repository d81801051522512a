"""What runs inside a child process: training a job, drawing up a report, reading an upload.

The Celery process imports this module to name the body; what is heavy is imported by the bodies.
A child knows no database, queue or object store: it reads and writes files in its work folder, says what
happens over its channel, and hears when it is to stop.
"""

import contextlib
import importlib
import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from gradkeel_worker import failures, limits, outcome
from gradkeel_worker.interrupts import Interrupted
from gradkeel_worker.outcome import Outcome

HELD_BACK = 2000
"""Messages that wait for a slow supervisor; step events beyond are dropped, never the training delayed."""

DROPPABLE = frozenset({"reading", "epoch", "progress"})

INTERRUPT = signal.SIGUSR1
INTERRUPTING = frozenset({"cancelled", "deadline"})
INSIST_SECONDS = 0.05


class Channel:
    """The child's end: says things without waiting, and hears a request to stop."""

    def __init__(self, connection: "Connection[Any, Any]") -> None:
        self._connection = connection
        self._waiting: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._stop: str | None = None
        self._at_mercy = False
        signal.signal(INTERRUPT, self._interrupt)
        self._sender = threading.Thread(target=self._send, daemon=True)
        self._sender.start()
        threading.Thread(target=self._receive, daemon=True).start()

    def event(self, name: str, data: dict[str, Any]) -> None:
        """One of the events of the engine."""
        if name not in DROPPABLE or self._waiting.qsize() < HELD_BACK:
            self._waiting.put({"event": name, "data": data})

    def should_stop(self) -> str | None:
        """Why to stop ("cancelled", "deadline" or "released"), or None. Costs an attribute access."""
        return self._stop

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Within, in the main thread, a request to cancel or a deadline is raised as ``Interrupted``."""
        self._at_mercy = True
        try:
            self._interrupt()
            yield
        finally:
            self._at_mercy = False

    def _interrupt(self, *_: object) -> None:
        """Python runs signal handlers in the main thread, between two of its instructions."""
        if self._at_mercy and self._stop in INTERRUPTING:
            self._at_mercy = False
            raise Interrupted(self._stop)

    def close(self) -> None:
        """Wait until everything is said."""
        self._waiting.put(None)
        self._sender.join()

    def _send(self) -> None:
        with contextlib.suppress(OSError):
            while (message := self._waiting.get()) is not None:
                self._connection.send_bytes(json.dumps(message, default=_plain).encode())

    def _receive(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                self._stop = json.loads(self._connection.recv_bytes())["stop"]
                self._insist()

    def _insist(self) -> None:
        """An exception that is raised in a destructor is lost, so once may not be enough."""
        while self._stop in INTERRUPTING and not self._connection.poll(INSIST_SECONDS):
            if self._at_mercy:
                signal.pthread_kill(threading.main_thread().ident or 0, INTERRUPT)


def _plain(value: Any) -> Any:
    """Numpy scalars and arrays, as numbers and lists."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def main(body: str, work: str, connection: "Connection[Any, Any]", bounds: limits.Bounds) -> None:
    """Entry of every child: leave the parent's session, set bounds, run the body, say how it ended."""
    os.setsid()
    limits.die_with_parent()
    folder = Path(work)
    _redirect_output(folder / outcome.OUTPUT)
    os.chdir(folder)
    channel = Channel(
        connection
    )  # first: a thread that finds no memory to start in would be waited for for ever
    limits.apply(bounds)
    try:
        result = BODIES[body](folder, channel)
    except BaseException as error:
        limits.allow_last_words()
        result = Outcome("failed", error=failures.describe(error))
        traceback.print_exc()
    result.write(folder)
    channel.close()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # nothing is left to clean up, and libraries' exit handlers can hang


def _redirect_output(path: Path) -> None:
    output = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.close(output)
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115


def _train(work: Path, channel: Channel) -> Outcome:
    training = importlib.import_module("gradkeel_worker.training")
    result: Outcome = training.train(work, channel)
    return result


def _preflight(work: Path, channel: Channel) -> Outcome:
    looking = importlib.import_module("gradkeel_worker.looking")
    result: Outcome = looking.look(work, channel)
    return result


def _report(work: Path, channel: Channel) -> Outcome:
    training = importlib.import_module("gradkeel_worker.training")
    result: Outcome = training.report_from_readings(work)
    return result


def _ingest(work: Path, channel: Channel) -> Outcome:
    reading = importlib.import_module("gradkeel_worker.reading")
    result: Outcome = reading.read(work)
    return result


def _devices(work: Path, channel: Channel) -> Outcome:
    """Which devices torch can use; asked in a child, because a process that touched CUDA must not fork."""
    torch = importlib.import_module("torch")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return Outcome("succeeded", metrics={"devices": ["cpu", *(f"cuda:{index}" for index in range(count))]})


BODIES: dict[str, Callable[[Path, Channel], Outcome]] = {
    "train": _train,
    "preflight": _preflight,
    "report": _report,
    "ingest": _ingest,
    "devices": _devices,
}
