"""How often a key may call: counted in Redis for all processes, in this process alone while Redis is away.

Time is cut into windows of a minute. A process takes its share of a window from Redis in blocks, so that
most requests ask nobody.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from gradkeel_store.settings import Settings

KEY = "gradkeel:rate:{caller}:{window}"
WINDOW_SECONDS = 60
BLOCKS = 200
"""A process takes a two-hundredth of the limit at a time."""

ANSWER_SECONDS = 0.25
REST_SECONDS = 5.0
"""After a failure Redis is left alone for so long."""


@dataclass
class _Share:
    """What one caller did in this process in the window that runs."""

    asked: int = 0
    granted: int = 0
    spent: bool = False


class RateLimiter:
    """Counts the requests of each caller. One per process; threads may share it."""

    def __init__(
        self, settings: Settings, clock: Callable[[], float] = time.time, *, limit: int | None = None
    ) -> None:
        """``limit`` a minute for each caller (the settings' rate of a key unless given); 0: no limit."""
        self.limit = settings.rate_limit if limit is None else limit
        self._redis = _client(settings.redis_url) if settings.redis_url and self.limit else None
        self._block = max(1, self.limit // BLOCKS)
        self._clock = clock
        self._lock = threading.Lock()
        self._window = 0
        self._shares: dict[str, _Share] = {}
        self._rest_until = 0.0

    def take(self, caller: str) -> float:
        """Count one request: 0.0 where it may run, else the seconds until the next window begins."""
        if not self.limit:
            return 0.0
        window, passed = divmod(self._clock(), WINDOW_SECONDS)
        with self._lock:  # also while Redis is asked, which is seldom and never long
            admitted = self._admit(self._share(int(window), caller), caller)
        return 0.0 if admitted else WINDOW_SECONDS - passed

    def wait(self, caller: str) -> float:
        """Count nothing: 0.0 until one was turned away, then the seconds until the next window begins."""
        window, passed = divmod(self._clock(), WINDOW_SECONDS)
        with self._lock:
            share = self._shares.get(caller) if int(window) == self._window else None
        turned_away = share is not None and (share.spent or share.asked > self.limit)
        return WINDOW_SECONDS - passed if self.limit and turned_away else 0.0

    def _share(self, window: int, caller: str) -> _Share:
        if window != self._window:
            self._window = window
            self._shares = {}
        return self._shares.setdefault(caller, _Share())

    def _admit(self, share: _Share, caller: str) -> bool:
        share.asked += 1
        if share.spent or share.asked > self.limit:
            return False
        if not share.granted:
            taken = self._taken(KEY.format(caller=caller, window=self._window))
            if taken is None:
                return True  # this process knows of no more than the limit
            share.granted = max(0, min(self._block, self.limit - taken))
            share.spent = not share.granted
        share.granted -= not share.spent
        return not share.spent

    def _taken(self, key: str) -> int | None:
        """How much of the window was taken before this block; None where Redis does not say."""
        if self._redis is None or time.monotonic() < self._rest_until:
            return None
        pipe = self._redis.pipeline(transaction=False)
        pipe.incrby(key, self._block)
        pipe.expire(key, 2 * WINDOW_SECONDS)
        try:
            return int(pipe.execute()[0]) - self._block
        except (redis.RedisError, OSError):
            self._rest_until = time.monotonic() + REST_SECONDS
            return None


def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(
        url,
        socket_connect_timeout=ANSWER_SECONDS,
        socket_timeout=ANSWER_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
