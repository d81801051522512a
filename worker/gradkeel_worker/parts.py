"""What the threads of one worker share."""

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gradkeel_store.events import EventLog
from gradkeel_store.objects import Objects
from gradkeel_store.records import Records
from gradkeel_store.settings import Settings
from gradkeel_worker.holdings import Holdings


@dataclass(frozen=True)
class Parts:
    """owner: the worker's id in leases.    folder: its own, for work.    stopping: set once it shuts down."""

    settings: Settings
    records: Records
    objects: Objects
    events: EventLog
    holdings: Holdings
    owner: str
    folder: Path
    log: Any
    stopping: threading.Event = field(default_factory=threading.Event)
