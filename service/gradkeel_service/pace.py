"""How slowly a request body may come: no long silence, and a rate over the whole of it."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gunicorn.http.body import Body
from gunicorn.http.unreader import SocketUnreader


class PacedSocket:
    """The receiving side of a connection, on which a sender may not keep us waiting for ever.

    Waiting is bounded twice: ``grace`` seconds for each look, and over the whole body ``grace`` seconds and
    one more for each ``rate`` bytes that came (``rate`` 0: no such bound). Only the time spent waiting for
    the sender counts, not what is done with the bytes in between.
    """

    def __init__(
        self,
        connection: socket.socket,
        grace: float,
        rate: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.connection = connection
        self._grace = grace
        self._rate = rate
        self._clock = clock
        self._waited = 0.0
        self._received = 0

    @property
    def left(self) -> float:
        """Seconds that the sender may still keep us waiting."""
        if not self._rate:
            return self._grace
        return self._grace + self._received / self._rate - self._waited

    def recv(self, size: int) -> bytes:
        """As ``socket.recv``; ``TimeoutError`` for a sender that is too slow."""
        if self.left <= 0:
            raise TimeoutError("the body came too slowly")
        self.connection.settimeout(min(self._grace, self.left))
        began = self._clock()
        try:
            piece = self.connection.recv(size)
        finally:
            self._waited += self._clock() - began
        self._received += len(piece)
        return piece


@contextmanager
def paced(body: object, grace: float, rate: int) -> Iterator[None]:
    """Within the block, ``body`` (gunicorn's; any other is left alone) is read through a ``PacedSocket``."""
    unreader = _unreader(body)
    if unreader is None:
        yield
        return
    connection = unreader.sock
    unreader.sock = PacedSocket(connection, grace, rate)
    try:
        yield
    finally:
        unreader.sock = connection
        connection.settimeout(grace)  # what is sent from here on waits for the reader no longer than that


def _unreader(body: object) -> SocketUnreader | None:
    """Where gunicorn takes a body's bytes from the socket."""
    reader = body.reader if isinstance(body, Body) else None
    found = getattr(reader, "unreader", None) or getattr(getattr(reader, "req", None), "unreader", None)
    return found if isinstance(found, SocketUnreader) else None
