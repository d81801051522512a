"""What probes cost beside the training, in counted work: multiply-adds, never seconds, so that a rerun
measures at the same steps."""

from __future__ import annotations

from dataclasses import dataclass

_CALL = 5e5
"""What calling one layer, forward and backward, costs besides its products."""
_STEP = 12
"""Passes over all entries that a step makes besides: zeroing, norms, clips, the optimizer."""
_FREE = 5e8
"""Work that any run can afford for one probe: a twentieth of a second, about."""
_MOST_POINTS = 200
"""Calls of one probe of the full tier at most."""


@dataclass(frozen=True)
class Due:
    """Steps ``first``, ``first + every``, ``first + 2 · every`` …"""

    first: int
    every: int

    def at(self, step: int) -> bool:
        return step >= self.first and (step - self.first) % self.every == 0


@dataclass(frozen=True)
class Work:
    """A run of ``steps`` with batches of ``batch`` rows on a model of ``layers`` layers with ``entries``
    trainable weights; ``side`` rows are measured beside it. What a model does with one row is taken for one
    multiply-add per weight: windows and members multiply training and measuring alike."""

    steps: int
    batch: int
    side: int
    entries: int
    layers: int

    def regularly(self) -> Due:
        """10 times or more, every 10 to 100 steps.

        A side pass costs about a quarter of a step, so that it stays under 1 % of runs that matter.
        """
        return Due(0, min(100, max(10, self.steps // 10)))

    def backward(self, rows: float, calls: int = 1) -> float:
        """``calls`` forward and backward passes over ``rows`` rows in all."""
        return 3 * rows * self.entries + calls * self.layers * _CALL

    @property
    def step(self) -> float:
        """One step of the training."""
        return self.backward(self.batch) + _STEP * self.entries

    def affords(
        self,
        work: float,
        share: float,
        *,
        once: float = 0.0,
        least: int | None = None,
        settled: bool = False,
    ) -> Due | None:
        """Evenly spread, as many calls of so much ``work`` as ``share`` of the training's work pays for, or
        what any run can afford; at most 200, and ``least`` steps apart, else not more often than
        ``regularly``. One where it takes no more than ``once`` of the training's; else None.

        ``settled``: not at the first step, but where the optimizer has taken some.
        """
        whole = self.steps * self.step
        calls = min(_MOST_POINTS, int(max(share * whole, _FREE) // work))
        if not calls and work > once * whole:
            return None
        calls = max(calls, 1)
        every = max(least or self.regularly().every, -(-self.steps // calls))
        return Due(min(every, self.steps) // 2 if settled else 0, every)
