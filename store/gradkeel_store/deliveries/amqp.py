"""Deliveries from a queue of RabbitMQ: unacknowledged until settled, so that a dead taker's come again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from amqp import Message
from amqp.exceptions import AMQPError, NotFound
from kombu.connection import Connection
from kombu.entity import Queue
from kombu.exceptions import KombuError
from kombu.messaging import Consumer

from gradkeel_store.deliveries.envelope import Delivery
from gradkeel_store.errors import Unavailable

CONNECT_SECONDS = 5.0
HEARTBEAT_SECONDS = 30
MORE_SECONDS = 0.005
"""How long to wait for one more message once there is one."""

T = TypeVar("T")


class AmqpDeliveries:
    """Not to be shared between threads. Every method raises ``Unavailable`` while the broker is away."""

    def __init__(self, url: str, queue: str, most: int) -> None:
        self._url, self._queue, self._most = url, queue, most
        self._connection: Any = None
        self._channel: Any = None
        self._arrived: list[Any] = []
        self._last: Any = None

    def take(self, seconds: float, most_bytes: int) -> list[Delivery]:
        """The next messages, oldest first; waits up to so many seconds for a first one."""
        messages = self._do(lambda: self._take(seconds))
        return [_delivery(message, most_bytes) for message in messages]

    def settle(self, back: Sequence[Delivery] = ()) -> None:
        """Forget all that ``take`` gave, but put ``back`` these at the end of the line."""
        self._do(lambda: self._settle(back))

    def waiting(self) -> int:
        """How many messages wait."""
        return self._do(lambda: int(self._declared(self._connected()).message_count))

    def hold(self) -> None:
        """Show that what is in hand is still being worked on."""
        self._do(lambda: self._connected().heartbeat_check())

    def close(self) -> None:
        """Break off; what was not settled comes again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.collect(socket_timeout=1)

    def _do(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except (AMQPError, KombuError, OSError) as error:
            self.close()
            raise Unavailable(f"the broker does not answer: {type(error).__name__}") from error

    def _take(self, seconds: float) -> list[Any]:
        connection = self._connected()
        connection.heartbeat_check()
        deadline = time.monotonic() + seconds
        while not self._arrived and (left := deadline - time.monotonic()) > 0:
            self._listen(connection, left)
        while self._arrived and len(self._arrived) < self._most and self._listen(connection, MORE_SECONDS):
            pass
        taken, self._arrived = self._arrived[: self._most], self._arrived[self._most :]
        self._last = taken[-1] if taken else None
        return taken

    def _listen(self, connection: Any, seconds: float) -> bool:
        try:
            connection.drain_events(timeout=seconds)
        except TimeoutError:
            return False
        return True

    def _settle(self, back: Sequence[Delivery]) -> None:
        if self._last is None:
            return
        for delivery in back:
            message = delivery.tag
            copy = Message(message.body, **message.properties)
            self._channel.basic_publish_confirm(copy, "", self._queue)
        self._channel.basic_ack(self._last.delivery_tag, multiple=True)
        self._last = None

    # Connecting

    def _connected(self) -> Any:
        if self._connection is None:
            connection: Any = Connection(
                self._url, connect_timeout=CONNECT_SECONDS, heartbeat=HEARTBEAT_SECONDS
            )  # type: ignore[no-untyped-call]
            connection.connect()
            self._connection, self._arrived, self._last = connection, [], None
            self._declared(connection)
            self._channel = connection.channel()
            self._channel.basic_qos(0, self._most, False)
            queue = Queue(self._queue, no_declare=True)  # type: ignore[no-untyped-call]
            consumer: Any = Consumer(  # type: ignore[no-untyped-call]
                self._channel, [queue], on_message=self._arrived_one, auto_declare=False
            )
            consumer.consume()
        return self._connection

    def _arrived_one(self, message: Any) -> None:
        self._arrived.append(message)

    def _declared(self, connection: Any) -> Any:
        """The queue as it is, whatever its options; a durable one is made where there is none."""
        try:
            with connection.channel() as channel:
                return channel.queue_declare(self._queue, passive=True)
        except NotFound:
            with connection.channel() as channel:
                return channel.queue_declare(self._queue, durable=True, auto_delete=False)


def _delivery(message: Any, most_bytes: int) -> Delivery:
    body = message.body
    if len(body) > most_bytes:
        return Delivery(message, fault=f"the body is over the limit of {most_bytes} bytes")
    return Delivery(
        message,
        body.encode() if isinstance(body, str) else bytes(body),
        str(message.content_type or ""),
        str(message.content_encoding or ""),
        dict(message.headers or {}),
    )
