"""Guards judge a step on the host, before any clip, and ask for actions; they change nothing themselves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from gradkeel.contract import config as contract
from gradkeel_worker.engine.actions import Action, SkipStep, StopDiverged


class Step(Protocol):
    """What a guard may read of a step; the engine's ``StepView`` offers it."""

    @property
    def loss(self) -> float: ...
    @property
    def global_norm(self) -> float: ...


Guard = Callable[[Step], Sequence[Action]]


def skip_nonfinite(config: contract.SkipNonfinite) -> Guard:
    """Skip steps whose loss or gradient is NaN or infinite; too many in a row end the run as diverged."""
    consecutive = 0

    def guard(step: Step) -> Sequence[Action]:
        nonlocal consecutive
        if math.isfinite(step.loss) and math.isfinite(step.global_norm):
            consecutive = 0
            return ()
        consecutive += 1
        reason = f"the {_culprit(step)} is not finite"
        if consecutive < config.max_consecutive:
            return (SkipStep(reason),)
        return (SkipStep(reason), StopDiverged(f"{reason}, {consecutive} steps in a row"))

    return guard


def _culprit(step: Step) -> str:
    return "gradient" if math.isfinite(step.loss) else "loss"


NEEDS: dict[str, Iterable[str]] = {"skip_nonfinite": ("loss", "global_norm")}
"""Probes that a guard needs at every step, whatever the tier."""
