"""What the consumer process works with, opened once."""

from dataclasses import dataclass

from celery import Celery

from gradkeel_service.admission import Admission
from gradkeel_store.objects import Objects, open_objects
from gradkeel_store.queue import make_celery
from gradkeel_store.records import Records, open_records
from gradkeel_store.settings import Settings


@dataclass(frozen=True)
class ConsumerParts:
    """Records, bytes and bell; ``owner`` names this process in leases and signs of life."""

    settings: Settings
    records: Records
    objects: Objects
    celery: Celery
    owner: str

    @property
    def admission(self) -> Admission:
        """What lets a config become a job."""
        return Admission(self.records, self.settings)

    @classmethod
    def open(cls, settings: Settings, owner: str) -> "ConsumerParts":
        return cls(
            settings=settings,
            records=open_records(settings),
            objects=open_objects(settings),
            celery=make_celery(settings, role="producer"),
            owner=owner,
        )
