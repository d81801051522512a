"""Duties beside the watching: the newest of each kind, and none that fails takes the others along."""

import threading

from gradkeel_store.errors import Unavailable
from gradkeel_store.logs import get_logger
from gradkeel_worker.background import Background

SECONDS = 30.0


def test_the_newest_of_each_kind_is_done() -> None:
    background = Background("test", get_logger("test"))
    held, through, done = threading.Event(), threading.Event(), []
    background.ask("first", lambda: held.wait(SECONDS))
    for number in range(5):
        background.ask("number", lambda number=number: done.append(number))
    background.ask("last", through.set)
    held.set()
    assert through.wait(SECONDS)
    assert done[-1] == 4 and len(done) <= 2
    background.close()


def test_a_duty_that_fails_is_told_and_the_next_one_done() -> None:
    background = Background("test", get_logger("test"))
    through = threading.Event()

    def fails(error: Exception) -> None:
        raise error

    background.ask("store", lambda: fails(Unavailable("it is away")))
    background.ask("mistake", lambda: fails(ZeroDivisionError()))
    background.ask("last", through.set)
    assert through.wait(SECONDS)
    background.close()


def test_after_the_end_nothing_is_begun() -> None:
    background = Background("test", get_logger("test"))
    background.close()
    background.ask("late", lambda: None)
    background.close()
