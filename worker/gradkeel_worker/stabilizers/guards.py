"""Guards judge a step on the host, before any clip, and ask for actions; they change nothing themselves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from gradkeel.contract import config as contract
from gradkeel_worker.engine.actions import Action, SkipStep, StopDiverged


class Step(Protocol):
    """What a guard may read of a step; the engine's ``StepView`` offers it."""

    @property
    def loss(self) -> float: ...
    @property
    def global_norm(self) -> float: ...


class Guard(Protocol):
    """Asked at every step. What it remembers from step to step is its ``state``, which checkpoints keep."""

    def __call__(self, step: Step) -> Sequence[Action]: ...
    def state(self) -> dict[str, Any]: ...
    def load(self, state: dict[str, Any]) -> None: ...


class SkipNonfinite:
    """Skip steps whose loss or gradient is NaN or infinite; too many in a row end the run as diverged."""

    def __init__(self, config: contract.SkipNonfinite) -> None:
        self._most, self._consecutive = config.max_consecutive, 0

    def __call__(self, step: Step) -> Sequence[Action]:
        if math.isfinite(step.loss) and math.isfinite(step.global_norm):
            self._consecutive = 0
            return ()
        self._consecutive += 1
        reason = f"the {_culprit(step)} is not finite"
        if self._consecutive < self._most:
            return (SkipStep(reason),)
        return (SkipStep(reason), StopDiverged(f"{reason}, {self._consecutive} steps in a row"))

    def state(self) -> dict[str, Any]:
        return {"consecutive": self._consecutive}

    def load(self, state: dict[str, Any]) -> None:
        self._consecutive = state["consecutive"]


def _culprit(step: Step) -> str:
    return "gradient" if math.isfinite(step.loss) else "loss"


NEEDS: dict[str, Iterable[str]] = {"skip_nonfinite": ("loss", "global_norm")}
"""Probes that a guard needs at every step, whatever the tier."""
