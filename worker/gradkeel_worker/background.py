"""What a supervisor has done for it while it watches its child: it must never wait for a store itself."""

import threading
from collections.abc import Callable
from typing import Any

from gradkeel_store.errors import StoreError


class Background:
    """One thread that does the newest duty of each kind, one after another. Call `close` in any case."""

    def __init__(self, name: str, log: Any) -> None:
        self._name, self._log = name, log
        self._duties: dict[str, Callable[[], object]] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def ask(self, kind: str, duty: Callable[[], object]) -> None:
        """Have `duty` done soon, in place of one of its kind that still waits. Returns at once."""
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._duties[kind] = duty
            self._changed.notify()

    def close(self) -> None:
        """Drop what still waits and wait for what is under way."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while (next_one := self._next()) is not None:
            kind, duty = next_one
            try:
                duty()
            except StoreError as error:
                self._log.warning("the store is away", duty=kind, error=str(error))
            except Exception:
                self._log.exception("a duty failed", duty=kind)

    def _next(self) -> tuple[str, Callable[[], object]] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._duties)
            if self._closed:
                return None
            kind = next(iter(self._duties))
            return kind, self._duties.pop(kind)
