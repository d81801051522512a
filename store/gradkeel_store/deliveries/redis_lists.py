"""Deliveries from a Redis or Valkey list, as Celery's producers fill it.

A message is moved, in one step of the server, onto a list of what this taker has in hand, and goes from there
only when it is settled. A taker shows that it lives; the list of one that has fallen silent is put back.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from gradkeel_store.deliveries.envelope import Delivery, delivery_of_item
from gradkeel_store.errors import Unavailable

PRIORITIES = ("", "\x06\x163", "\x06\x166", "\x06\x169")
"""Celery keeps a list for each step of priority; the plain name is the first."""

VISIBILITY_SECONDS = 10
"""What a taker has in hand comes again when it gave no sign for so long."""

LOOK_SECONDS = 3.0
"""Between two looks for takers that have fallen silent."""

ANSWER_SECONDS = 5.0

AT_ONCE = 10
ENOUGH_BYTES = 32 * 1024 * 1024
"""No more messages are taken once those in hand have so many bytes; messages come by tens."""

T = TypeVar("T")


class RedisDeliveries:
    """Not to be shared between threads. Every method raises ``Unavailable`` while the broker is away."""

    def __init__(self, url: str, queue: str, owner: str, most: int) -> None:
        self._redis: Any = redis.Redis.from_url(
            url,
            socket_connect_timeout=ANSWER_SECONDS,
            socket_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self._queue, self._owner, self._most = queue, owner, most
        self._takers = f"{queue}.takers"
        self._hand = self._hand_of(owner)
        self._unsure = True
        self._looked = float("-inf")

    def take(self, seconds: float, most_bytes: int) -> list[Delivery]:
        """The next messages, oldest first; waits up to so many seconds for a first one."""
        items = self._do(lambda: self._take(seconds))
        return [delivery_of_item(item, item, most_bytes) for item in items]

    def settle(self, back: Sequence[Delivery] = ()) -> None:
        """Forget all that ``take`` gave, but put ``back`` these at the end of the line."""

        def change() -> None:
            pipe = self._redis.pipeline(transaction=True)
            for delivery in back:
                pipe.lpush(self._queue, delivery.tag)
            pipe.delete(self._hand)
            pipe.execute()

        self._do(change)

    def waiting(self) -> int:
        """How many messages wait."""
        return self._do(lambda: sum(self._lengths()))

    def hold(self) -> None:
        """Show that what is in hand is still being worked on."""
        self._do(self._show_life)

    def close(self) -> None:
        """Put back what is in hand, at the head of the line, and take leave."""
        with contextlib.suppress(Unavailable):  # it then comes again once the silence is noticed
            self._do(lambda: self._adopt(self._owner))
        self._redis.close()

    def _do(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except (redis.RedisError, OSError) as error:
            # What the server did before the connection broke is not known: look before taking more.
            self._unsure = True
            raise Unavailable(f"the broker does not answer: {type(error).__name__}") from error

    def _take(self, seconds: float) -> list[bytes]:
        self._show_life()
        self._look_after_others()
        if self._unsure and (held := self._held()):
            return held
        self._unsure = False
        if found := self._move():
            return found
        first = self._redis.blmove(self._queue, self._hand, seconds, "RIGHT", "LEFT")
        return [] if first is None else self._move([first])

    def _held(self) -> list[bytes]:
        found: list[bytes] = self._redis.lrange(self._hand, 0, -1)
        return found[::-1]

    def _lengths(self) -> list[int]:
        pipe = self._redis.pipeline(transaction=False)
        for step in PRIORITIES:
            pipe.llen(self._queue + step)
        return [int(length) for length in pipe.execute()]

    def _move(self, held: Sequence[bytes] = ()) -> list[bytes]:
        """Up to as many as may be in hand, and not many more bytes; with those that are ``held`` already."""
        found, lengths = list(held), self._lengths()
        waiting = [
            step
            for step, length in zip(PRIORITIES, lengths, strict=True)
            for _ in range(min(length, self._most))
        ]
        while waiting and len(found) < self._most and sum(map(len, found)) < ENOUGH_BYTES:
            some = min(AT_ONCE, self._most - len(found))
            pipe = self._redis.pipeline(transaction=False)
            for step in waiting[:some]:
                pipe.lmove(self._queue + step, self._hand, "RIGHT", "LEFT")
            waiting = waiting[some:]
            found += [item for item in pipe.execute() if item is not None]
        return found

    # Who lives

    def _hand_of(self, owner: str) -> str:
        return f"{self._queue}.hand.{owner}"

    def _sign_of(self, owner: str) -> str:
        return f"{self._queue}.taker.{owner}"

    def _show_life(self) -> None:
        pipe = self._redis.pipeline(transaction=True)
        pipe.sadd(self._takers, self._owner)
        pipe.set(self._sign_of(self._owner), "1", ex=VISIBILITY_SECONDS)
        pipe.execute()

    def _look_after_others(self) -> None:
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        for name in self._redis.smembers(self._takers):
            owner = name.decode(errors="replace")
            if owner != self._owner and not self._redis.exists(self._sign_of(owner)):
                self._adopt(owner)

    def _adopt(self, owner: str) -> None:
        """Put what ``owner`` had in hand back at the head of the line, the oldest first again."""
        while self._redis.lmove(self._hand_of(owner), self._queue, "LEFT", "RIGHT") is not None:
            pass
        self._redis.srem(self._takers, owner)
        self._redis.delete(self._sign_of(owner))
