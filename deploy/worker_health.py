"""Health of a container: 0 while the worker on this host shows progress; with ``consumer``, while that does.

A process that lives proves nothing: it may sit there consuming nothing. It writes a sign of life into the
records every few seconds; this looks for a recent one.
"""

from __future__ import annotations

import platform
import sys

from gradkeel_store.records import open_records
from gradkeel_store.records.workers import Role
from gradkeel_store.settings import Settings

SIGNS_MISSED = 3


def shows_progress(settings: Settings, host: str, role: Role = "worker") -> bool:
    """Whether a worker or consumer on this host gave a sign of life lately."""
    records = open_records(settings, migrate=False)
    try:
        live = records.live_workers(SIGNS_MISSED * settings.heartbeat_seconds, role)
        return any(worker.info.get("host") == host for worker in live)
    finally:
        records.close()


if __name__ == "__main__":
    asked: Role = "consumer" if sys.argv[1:] == ["consumer"] else "worker"
    sys.exit(0 if shows_progress(Settings.load(), platform.node(), asked) else 1)
