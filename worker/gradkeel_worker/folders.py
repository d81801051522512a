"""Work folders: one for each worker, removed once the worker is gone."""

import fcntl
import os
import shutil
from pathlib import Path
from typing import IO

LOCK = ".lock"


class WorkFolder:
    """A worker's own folder under `base`, locked for as long as the worker lives."""

    def __init__(self, base: Path, name: str) -> None:
        base.mkdir(parents=True, exist_ok=True)
        sweep(base)
        self.path = base / name
        self.path.mkdir(mode=0o700)
        self._lock: IO[str] = (self.path / LOCK).open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        os.set_inheritable(self._lock.fileno(), False)

    def close(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def sweep(base: Path) -> int:
    """Remove folders that no living worker holds; how many."""
    return sum(_remove_abandoned(folder) for folder in base.iterdir() if (folder / LOCK).exists())


def _remove_abandoned(folder: Path) -> bool:
    try:
        with (folder / LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
            return True
    except (BlockingIOError, FileNotFoundError):
        return False
