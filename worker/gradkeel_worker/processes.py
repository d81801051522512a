"""Child processes of a forkserver: start, talk, wait, kill.

A child leads a session of its own, so that killing its group takes everything it started along.
"""

import contextlib
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from gradkeel_worker import child
from gradkeel_worker.limits import Bounds

ENVIRONMENT = {
    # a forkserver with threads cannot fork safely: keep the libraries from starting any
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}

_starter = ThreadPoolExecutor(1, "starter")
"""Starts every child, and so a forkserver in place of one that died: it dies with the thread that made it."""

# start() also polls the children of other threads, and what it reaps there reads as exit code 255
_lifecycle = threading.Lock()
_context = multiprocessing.get_context("forkserver")


def start_forkserver() -> None:
    """Start the forkserver with everything preloaded. From the main thread: it dies with its creator."""
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("the forkserver must be started from the main thread")
    os.environ.update(ENVIRONMENT)
    _context.set_forkserver_preload(["gradkeel_worker.forkserver_preload"])
    forkserver.ensure_running()


class CannotStart(Exception):
    """No child can be started now: this machine is out of descriptors, processes or memory."""


class Child:
    """One running child. Its body is named in ``gradkeel_worker.child.BODIES``.

    Raises:
        CannotStart: there is no room for it.
    """

    def __init__(self, body: str, work: Path, bounds: Bounds) -> None:
        try:
            self._start(body, work, bounds)
        except (OSError, EOFError) as error:
            raise CannotStart(f"no process can be started: {error or 'the forkserver died'}") from error

    def _start(self, body: str, work: Path, bounds: Bounds) -> None:
        ours, theirs = _context.Pipe()
        self._channel: Connection[Any, Any] = ours
        self._open = True
        with theirs:
            self._process = _context.Process(
                target=child.main, args=(body, str(work), theirs, bounds), daemon=True
            )
            with _lifecycle:
                _starter.submit(self._process.start).result()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def wait(self, seconds: float, *others: Any) -> list[Any]:
        """Wait until the child speaks or ends, or one of `others` is ready; what is ready."""
        mine: list[Any] = [self._process.sentinel, *([self._channel] if self._open else [])]
        return wait([*mine, *others], seconds)

    def wait_for_end(self) -> None:
        """Wait for the child's end, whatever it says meanwhile."""
        while not self.ended:
            self.wait(60.0)
            for _ in self.messages():
                pass

    @property
    def ended(self) -> bool:
        return bool(wait([self._process.sentinel], 0))

    def messages(self) -> Iterator[dict[str, Any]]:
        """What the child has said so far, without waiting."""
        while self._open and self._channel.poll():
            try:
                message = self._channel.recv_bytes()
            except (EOFError, OSError):
                self._open = False
                return
            yield json.loads(message)

    def send(self, message: dict[str, Any]) -> None:
        """Tell the child; one that is gone hears nothing."""
        with contextlib.suppress(OSError):
            self._channel.send_bytes(json.dumps(message).encode())

    def kill(self) -> None:
        """Kill the child and everything it started."""
        if self.ended:
            return
        for kill in (os.killpg, os.kill):  # it leads no group before its first steps
            with contextlib.suppress(ProcessLookupError):
                kill(self.pid, signal.SIGKILL)

    def close(self) -> int | None:
        """Exit code of a child that has ended: negative for a signal."""
        with _lifecycle:
            self._process.join(5)
            code = self._process.exitcode
            if code is not None:
                self._process.close()
        self._channel.close()
        self._open = False
        return code
