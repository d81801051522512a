"""One supervised child process: started with a death signal, logged to a file, started again when it dies."""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)

LARGEST_LOG_BYTES = 10_000_000
PAUSES = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds before a start, by the number of deaths in a row."""
STEADY_SECONDS = 30.0
"""A child that lived so long counts as well again."""


@dataclass
class Child:
    """What to run, and how often it has died.

    ``death_signal`` is what the kernel sends when the supervisor itself dies; ``start_at`` is when (monotonic
    seconds) a dead child is due again.
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    log: Path
    death_signal: signal.Signals = signal.SIGTERM
    pass_fds: tuple[int, ...] = ()
    deaths: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    start_at: float = field(default=0.0, init=False)
    _started: float = field(default=0.0, init=False)

    def start(self) -> None:
        _rotate(self.log)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                list(self.command),
                env=dict(self.env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=self.pass_fds,
                # Its own session: Ctrl-C reaches the supervisor alone, which then stops everything in order.
                start_new_session=True,
                preexec_fn=self._prepare,
            )
        self._started = time.monotonic()

    def _prepare(self) -> None:
        """Runs in the child between fork and exec; the supervisor has one thread."""
        LIBC.prctl(PR_SET_PDEATHSIG, self.death_signal)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def revive(self) -> int | None:
        """Start again after a pause, if it has died. The exit status, when a death is noticed just now."""
        if self.alive:
            return None
        now = time.monotonic()
        if self.process is not None:
            status = self.process.returncode
            self.process = None
            self.deaths = 1 if now - self._started > STEADY_SECONDS else self.deaths + 1
            self.start_at = now + PAUSES[min(self.deaths, len(PAUSES)) - 1]
            return status
        if now >= self.start_at:
            self.start()
        return None

    def signal(self, number: signal.Signals) -> None:
        if self.alive and self.process is not None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """End it and everything in its session's process group, now."""
        if self.process is None:
            return
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def tail(self, lines: int = 15) -> str:
        """The end of its log."""
        try:
            return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
        except OSError:
            return ""


def stop(children: Sequence[Child], seconds: float) -> list[str]:
    """SIGTERM to all, SIGKILL to those that are still there after ``seconds``; the names of the latter."""
    for child in children:
        child.signal(signal.SIGTERM)
    deadline = time.monotonic() + seconds
    late = []
    for child in children:
        if child.process is None:
            continue
        try:
            child.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            late.append(child.name)
            child.kill()
    return late


def _rotate(log: Path) -> None:
    if log.exists() and log.stat().st_size > LARGEST_LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
