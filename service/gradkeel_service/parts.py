"""The things a request handler works with, opened once per process."""

import threading
from dataclasses import dataclass, field

from celery import Celery
from flask import current_app

from gradkeel_service.admission import Admission
from gradkeel_service.attempts import Attempts
from gradkeel_service.measures import Measures
from gradkeel_service.predictors import Predictors
from gradkeel_service.uploading.assembly import Assembly
from gradkeel_service.uses import Uses
from gradkeel_service.waiting import Seats
from gradkeel_store.events import EventLog
from gradkeel_store.objects import Objects, open_objects
from gradkeel_store.queue import make_celery
from gradkeel_store.rates import RateLimiter
from gradkeel_store.records import Records, open_records
from gradkeel_store.settings import Settings


@dataclass(frozen=True)
class Parts:
    """Records, bytes, bell, events, rates, and what the process keeps for itself."""

    settings: Settings
    records: Records
    objects: Objects
    celery: Celery
    events: EventLog
    rates: RateLimiter
    attempts: Attempts
    uses: Uses
    seats: Seats
    predictors: Predictors
    assembly: Assembly
    measures: Measures = field(default_factory=Measures)
    stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def admission(self) -> Admission:
        """What lets a config become a job."""
        return Admission(self.records, self.settings)

    @classmethod
    def open(cls, settings: Settings, threads: int) -> "Parts":
        objects, records = open_objects(settings), open_records(settings)
        objects.sweep()
        celery, stopping = make_celery(settings, role="producer"), threading.Event()
        return cls(
            settings=settings,
            records=records,
            objects=objects,
            celery=celery,
            events=EventLog(settings),
            rates=RateLimiter(settings),
            attempts=Attempts(settings),
            uses=Uses(records),
            seats=Seats(max(1, threads // 4), settings.max_streams),
            predictors=Predictors(objects),
            assembly=Assembly(records, objects, celery, stopping),
            stopping=stopping,
        )


def parts() -> Parts:
    """The parts of the current app."""
    held = current_app.extensions["gradkeel"]
    assert isinstance(held, Parts)
    return held
