"""Looking at what other processes do: those that are not children of the test runner too."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def children_of(pid: int) -> list[int]:
    """Pids of the direct children of a process."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(child) for child in task.read_text().split()]
    return found


def wait_for_exit(pid: int, seconds: float = 30.0) -> bool:
    """Wait until a process that is no child of ours has ended; whether it did in time."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)


def eventually(check: Callable[[], Any], seconds: float = 60) -> Any:
    """What ``check`` gives once it is true: what is watched lies in other processes and gives no event."""
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)
    return found
