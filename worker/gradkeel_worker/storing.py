"""Writes that outlast a store that is away for a moment."""

from collections.abc import Callable
from typing import Any, TypeVar

from gradkeel_store.errors import StorageFull, Unavailable
from gradkeel_worker.holdings import Holding
from gradkeel_worker.signals import Stop

T = TypeVar("T")
PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0)
"""Seconds between tries: together less than a lease."""


def persist(action: Callable[[], T], holding: Holding, wait: Callable[[float], Any], log: Any) -> T:
    """Do `action`, again and again while the store is away and the lease is held.

    wait: sleeps for so many seconds, or less when the worker stops.

    Raises:
        Unavailable, StorageFull: it stayed away.
    """
    for pause in PAUSES:
        try:
            return action()
        except (Unavailable, StorageFull) as error:
            if holding.stop.reason is Stop.LOST:
                raise
            log.warning("the store is away", id=holding.id, error=str(error), again_in=pause)
            wait(pause)
    return action()
