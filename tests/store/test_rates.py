"""Rate limits, with a real Redis and without."""

import dataclasses
import threading

import pytest

from gradkeel_store import rates
from gradkeel_store.rates import RateLimiter
from gradkeel_store.settings import Settings
from servers import Valkey

LIMIT = 10


class Clock:
    """Seconds since the epoch, 20 into a minute; they pass when they are told to."""

    def __init__(self) -> None:
        self.now = 60_000_000 * 60 + 20.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def alone(settings: Settings) -> Settings:
    return dataclasses.replace(settings, rate_limit=LIMIT, redis_url="")


@pytest.fixture
def shared(alone: Settings, valkey: Valkey) -> Settings:
    return dataclasses.replace(alone, redis_url=valkey.url)


def admitted(limiter: RateLimiter, requests: int, caller: str = "key_a") -> int:
    return sum(limiter.take(caller) == 0 for _ in range(requests))


def test_a_limit_and_when_it_ends(alone: Settings, clock: Clock) -> None:
    limiter = RateLimiter(alone, clock)
    assert admitted(limiter, LIMIT + 5) == LIMIT
    assert limiter.take("key_a") == 40
    clock.now += 39.5
    assert limiter.take("key_a") == 0.5
    clock.now += 0.5
    assert admitted(limiter, LIMIT + 5) == LIMIT


def test_callers_do_not_share(alone: Settings, clock: Clock) -> None:
    limiter = RateLimiter(alone, clock)
    assert admitted(limiter, LIMIT) + admitted(limiter, LIMIT, "key_b") == 2 * LIMIT


def test_asking_for_the_wait_counts_nothing(alone: Settings, clock: Clock) -> None:
    limiter = RateLimiter(alone, clock, limit=3)
    assert [limiter.wait("key_a") for _ in range(5)] == [0.0] * 5
    assert admitted(limiter, 3) == 3
    assert limiter.wait("key_a") == 0.0  # nobody was turned away yet
    assert admitted(limiter, 1) == 0
    assert limiter.wait("key_a") == 40
    assert limiter.wait("key_b") == 0.0
    clock.now += 40
    assert limiter.wait("key_a") == 0.0


def test_no_limit(alone: Settings, clock: Clock) -> None:
    assert admitted(RateLimiter(dataclasses.replace(alone, rate_limit=0), clock), 1000) == 1000


def test_processes_share_through_redis(shared: Settings, clock: Clock) -> None:
    first, second = RateLimiter(shared, clock), RateLimiter(shared, clock)
    assert admitted(first, 6) == 6
    assert admitted(second, LIMIT) == 4
    assert admitted(first, LIMIT) == 0
    clock.now += 40
    assert admitted(second, LIMIT) == LIMIT


def test_blocks_are_taken_whole_and_add_up(shared: Settings, clock: Clock) -> None:
    wide = dataclasses.replace(shared, rate_limit=rates.BLOCKS * 10 + 5)
    first, second = RateLimiter(wide, clock), RateLimiter(wide, clock)
    assert admitted(first, 11) == 11  # two blocks of ten, of which nine are left
    assert admitted(second, wide.rate_limit) == wide.rate_limit - 20
    assert admitted(first, 100) == 9


def test_threads_count_as_one(shared: Settings, clock: Clock) -> None:
    limiter = RateLimiter(dataclasses.replace(shared, rate_limit=500), clock)
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(admitted(limiter, 100))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(found) == 500


def test_redis_that_dies_in_between(shared: Settings, clock: Clock, valkey: Valkey) -> None:
    limiter = RateLimiter(shared, clock)
    assert admitted(limiter, 6) == 6
    valkey.kill()
    assert admitted(limiter, LIMIT) == 4  # what was counted before still counts


def test_redis_that_comes_back_empty(
    shared: Settings, clock: Clock, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "REST_SECONDS", 0.0)
    limiter = RateLimiter(shared, clock)
    valkey.kill()
    assert admitted(limiter, 6) == 6
    valkey.start()
    assert admitted(limiter, LIMIT) == 4


def test_redis_that_hangs(shared: Settings, clock: Clock, valkey: Valkey) -> None:
    limiter = RateLimiter(shared, clock)
    assert admitted(limiter, 1) == 1
    valkey.freeze()
    try:
        assert admitted(limiter, LIMIT) == LIMIT - 1
    finally:
        valkey.thaw()


def test_windows_do_not_stay_in_redis(shared: Settings, clock: Clock) -> None:
    limiter = RateLimiter(shared, clock)
    limiter.take("key_a")
    client = rates._client(shared.redis_url)
    with client:
        (key,) = client.keys("gradkeel:rate:*")
        assert 0 < client.ttl(key) <= 2 * rates.WINDOW_SECONDS
