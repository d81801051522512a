"""Watches one child until it ends: passes on what it says, and stops it when there is a reason to."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gradkeel_worker.holdings import Holding
from gradkeel_worker.limits import kernel_kills
from gradkeel_worker.processes import Child
from gradkeel_worker.signals import Stop

TICK_SECONDS = 0.5
GRACE_SECONDS = {Stop.CANCELLED: 1.0, Stop.RELEASED: 8.0, Stop.DEADLINE: 20.0}
"""A child that was told to stop is killed after so long. A cancel takes two seconds at most, with the time
between two looks for requests and the storing of what there is; a worker has to stop within twenty; for a
deadline nobody waits."""


@dataclass(frozen=True)
class Ending:
    """How a child ended: exit code (negative: signal), why it was stopped, and whether the kernel killed for
    want of memory meanwhile."""

    exit_code: int | None
    stopped: Stop | None
    memory_kill: bool


@dataclass
class Watch:
    """One child under one lease.

    seconds: its deadline.    self_kill: without a good heartbeat for so long the lease counts as lost.
    on_message: what to do with each message.    on_tick: called about twice a second.
    """

    child: Child
    holding: Holding
    seconds: float
    self_kill: float
    on_message: Callable[[dict[str, Any]], None]
    on_tick: Callable[[], None]
    _begun: float = field(default_factory=time.monotonic)
    _kills_before: int = field(default_factory=kernel_kills)
    _asked: Stop | None = None
    _kill_at: float | None = None

    def until_end(self) -> Ending:
        stop = self.holding.stop
        try:
            while not self.child.ended:
                self.child.wait(self._patience(), stop)
                stop.clear()
                self._pass_on()
                self.on_tick()
                self._steer()
        finally:
            self.child.kill()
        self.child.wait(TICK_SECONDS)
        self._pass_on()
        memory_kill = kernel_kills() > self._kills_before
        return Ending(self.child.close(), stop.reason, memory_kill)

    def _patience(self) -> float:
        left = TICK_SECONDS if self._kill_at is None else self._kill_at - time.monotonic()
        return min(max(left, 0.01), TICK_SECONDS)

    def _pass_on(self) -> None:
        for message in self.child.messages():
            self.on_message(message)

    def _steer(self) -> None:
        now = time.monotonic()
        stop = self.holding.stop
        if now - self.holding.last_good > self.self_kill:
            stop.request(Stop.LOST)
        if now - self._begun > self.seconds:
            stop.request(Stop.DEADLINE)
        if stop.reason is Stop.LOST:
            self.child.kill()
        elif stop.reason is not None:
            self._ask_to_stop(stop.reason, now)

    def _ask_to_stop(self, reason: Stop, now: float) -> None:
        if reason is not self._asked:
            self._asked = reason
            self._kill_at = min(now + GRACE_SECONDS[reason], self._kill_at or math.inf)
            self.child.send({"stop": reason.name.lower()})
        elif self._kill_at is not None and now > self._kill_at:
            self.child.kill()
