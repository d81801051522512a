"""How long a sender may keep a reader waiting, by a clock of the test's own."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from gradkeel_service.pace import PacedSocket

GRACE, RATE = 30.0, 1000


class Clock:
    """Stands still but for ``silence`` seconds within each receipt."""

    def __init__(self) -> None:
        self.silence = 0.0
        self._now = 0.0
        self._asked = 0

    def __call__(self) -> float:
        self._asked += 1
        if self._asked % 2 == 0:  # asked before and after each receipt
            self._now += self.silence
        return self._now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    sender, receiver = socket.socketpair()
    with sender, receiver:
        yield sender, receiver


def receipts(sender: socket.socket, paced: PacedSocket, size: int, most: int) -> int:
    """How many pieces of ``size`` bytes come through, of ``most``."""
    for count in range(most):
        sender.sendall(b"x" * size)
        try:
            assert paced.recv(size) == b"x" * size
        except TimeoutError:
            return count
    return most


def test_drops_end_with_the_grace(ends: tuple[socket.socket, socket.socket], clock: Clock) -> None:
    clock.silence = 10
    paced = PacedSocket(ends[1], GRACE, RATE, clock)
    assert receipts(ends[0], paced, 1, 100) == 4  # three silences, and the bytes that came buy a little
    assert paced.left < 0


def test_the_rate_buys_time(ends: tuple[socket.socket, socket.socket], clock: Clock) -> None:
    clock.silence = 10
    assert receipts(ends[0], PacedSocket(ends[1], GRACE, RATE, clock), 10 * RATE, 100) == 100


def test_no_rate_no_end(ends: tuple[socket.socket, socket.socket], clock: Clock) -> None:
    clock.silence = 10
    assert receipts(ends[0], PacedSocket(ends[1], GRACE, 0, clock), 1, 100) == 100


def test_no_look_waits_longer_than_is_left(ends: tuple[socket.socket, socket.socket], clock: Clock) -> None:
    clock.silence = 25
    paced = PacedSocket(ends[1], GRACE, RATE, clock)
    for _ in range(2):
        ends[0].sendall(b"x")
        paced.recv(1)
    assert ends[1].gettimeout() == pytest.approx(5, abs=0.01)
