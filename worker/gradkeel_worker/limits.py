"""What a child process may use, and that it dies with its parent. Linux, standard library only."""

import ctypes
import os
import resource
import signal
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
LAST_WORDS = 256 * MIB
"""Kept back from a child's memory, so that one that ran out of it can still say so."""

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that made it ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() == 1:  # the parent ended before the request was made
        os._exit(1)


@dataclass(frozen=True)
class Bounds:
    """memory_mb: data beyond what the process was born with. cpu_seconds: all threads. file_mb: one file."""

    memory_mb: int
    cpu_seconds: int | None = None
    file_mb: int | None = None
    open_files: int = 1024


def apply(bounds: Bounds) -> None:
    """Bound this process. Data is bounded, not address space: CUDA reserves far more of that than it uses."""
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    memory = data_bytes() + bounds.memory_mb * MIB
    _lower(resource.RLIMIT_DATA, memory, memory + LAST_WORDS)
    _lower(resource.RLIMIT_CORE, 0, 0)
    _lower(resource.RLIMIT_NOFILE, bounds.open_files, bounds.open_files)
    if bounds.cpu_seconds is not None:
        _lower(resource.RLIMIT_CPU, bounds.cpu_seconds, bounds.cpu_seconds + 5)
    if bounds.file_mb is not None:
        _lower(resource.RLIMIT_FSIZE, bounds.file_mb * MIB, bounds.file_mb * MIB)


def _lower(which: int, soft: int, hard: int) -> None:
    _, highest = resource.getrlimit(which)
    if highest != resource.RLIM_INFINITY:
        soft, hard = min(soft, highest), min(hard, highest)
    resource.setrlimit(which, (soft, hard))


def allow_last_words() -> None:
    """Open the part of the memory that was kept back."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def data_bytes() -> int:
    """Size of this process's private writable memory, as RLIMIT_DATA counts it."""
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0


def kernel_kills() -> int:
    """How often the kernel killed a process for want of memory, in this control group or on this machine."""
    return max(_counter(path, "oom_kill") for path in (*_groups(), Path("/proc/vmstat")))


def _groups() -> list[Path]:
    try:
        entries = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
    except OSError:
        return []
    return [Path(f"/sys/fs/cgroup{entry.split(':', 2)[2]}/memory.events") for entry in entries]


def _counter(path: Path, name: str) -> int:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.split()[0] == name)
