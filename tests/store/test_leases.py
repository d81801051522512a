from gradkeel_store.leases import LeaseWatch
from gradkeel_store.records import Lease


class Monotonic:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_a_lease_is_dead_once_it_stood_still_for_its_length() -> None:
    clock = Monotonic()
    watch = LeaseWatch(60, clock)
    lease = Lease("job_a", 1, 7)
    assert watch.expired([lease]) == []
    clock.seconds = 59
    assert watch.expired([lease]) == []
    clock.seconds = 60
    assert watch.expired([lease]) == [lease]


def test_a_sign_of_life_or_a_new_holder_starts_it_anew() -> None:
    clock = Monotonic()
    watch = LeaseWatch(60, clock)
    watch.expired([Lease("job_a", 1, 7)])
    clock.seconds = 50
    watch.expired([Lease("job_a", 1, 8)])
    clock.seconds = 100
    watch.expired([Lease("job_a", 2, 8)])
    clock.seconds = 159
    assert watch.expired([Lease("job_a", 2, 8)]) == []


def test_one_that_went_away_and_came_back_starts_anew() -> None:
    clock = Monotonic()
    watch = LeaseWatch(60, clock)
    lease = Lease("job_a", 1, 7)
    watch.expired([lease])
    clock.seconds = 30
    watch.expired([])
    clock.seconds = 61
    assert watch.expired([lease]) == []


def test_a_fresh_reaper_waits_a_whole_lease() -> None:
    clock = Monotonic()
    clock.seconds = 1e6
    assert LeaseWatch(60, clock).expired([Lease("job_a", 1, 7)]) == []
