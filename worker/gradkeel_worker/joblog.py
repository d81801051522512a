"""The log of one attempt: JSON lines of what the supervisor saw, what the engine said, what was printed."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gradkeel_store.logs import redact
from gradkeel_worker import outcome

PRINTED = 1 << 20
"""Bytes of a child's own output that are kept: the last ones."""


class JobLog:
    """Collects lines in the work folder; `finish` adds what the child printed."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self.path = work / "log.jsonl"

    def add(self, message: str, **fields: Any) -> None:
        line = {"time": datetime.now(UTC).isoformat(), "source": "worker", "message": message} | fields
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(redact(line), ensure_ascii=False, default=str) + "\n")

    def finish(self) -> Path:
        for line in self._printed():
            self.add(line, source="process")
        return self.path

    def _printed(self) -> list[str]:
        try:
            with (self._work / outcome.OUTPUT).open("rb") as file:
                file.seek(max(0, file.seek(0, 2) - PRINTED))
                return file.read().decode("utf-8", "replace").splitlines()
        except FileNotFoundError:
            return []
