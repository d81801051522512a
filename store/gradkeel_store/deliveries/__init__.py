"""Messages from outside, taken off the broker so that none is lost when the taker dies.

Celery's own consumer takes a message off Redis in two steps, and a process killed between the two loses it;
it also ends over one item that is not JSON. So what comes from outside is read here, in the form that Celery
sends. Whoever takes messages settles each: ``settle`` forgets those that are done and puts the others back at
the end of the line. What a dead taker had in hand comes again.
"""

from __future__ import annotations

from gradkeel_store.deliveries.amqp import AmqpDeliveries
from gradkeel_store.deliveries.envelope import Call, Delivery, Unreadable, call_of
from gradkeel_store.deliveries.redis_lists import RedisDeliveries
from gradkeel_store.settings import Settings, redis_url_of

__all__ = ["AmqpDeliveries", "Call", "Deliveries", "Delivery", "RedisDeliveries", "Unreadable", "call_of"]

Deliveries = RedisDeliveries | AmqpDeliveries


def open_deliveries(settings: Settings, queue: str, owner: str, most: int) -> Deliveries:
    """The messages of a queue on the settings' broker, up to ``most`` in hand. Connects when first asked.

    ``owner`` names the taker: no other process may use the same.
    """
    url = redis_url_of(settings.broker_url)
    if url:
        return RedisDeliveries(url, queue, owner, most)
    return AmqpDeliveries(settings.broker_url, queue, most)
