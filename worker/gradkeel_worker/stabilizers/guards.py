"""Guards judge a step on the host, before any clip, and ask for actions; they change nothing themselves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from gradkeel.contract import config as contract
from gradkeel_worker.engine.actions import Action, RollBack, SkipStep, StopDiverged


class Step(Protocol):
    """What a guard may read of a step; the engine's ``StepView`` offers it."""

    @property
    def loss(self) -> float: ...
    @property
    def global_norm(self) -> float: ...


class Guard(Protocol):
    """Asked at every step; ``asked`` is what the guards before it ask for at this step. What it remembers
    from step to step is its ``state``, which checkpoints keep."""

    def __call__(self, step: Step, asked: Sequence[Action] = ()) -> Sequence[Action]: ...
    def state(self) -> dict[str, Any]: ...
    def load(self, state: dict[str, Any]) -> None: ...


class SkipNonfinite:
    """Skip steps whose loss or gradient is NaN or infinite; too many in a row end the run as diverged."""

    def __init__(self, config: contract.SkipNonfinite) -> None:
        self._most, self._consecutive = config.max_consecutive, 0

    def __call__(self, step: Step, asked: Sequence[Action] = ()) -> Sequence[Action]:
        if _finite(step):
            self._consecutive = 0
            return ()
        self._consecutive += 1
        reason = f"the {_culprit(step)} is not finite"
        if self._consecutive < self._most:
            return (SkipStep(reason),)
        self._consecutive = 0  # where a rollback prevents the stop, it counts anew
        return (SkipStep(reason), StopDiverged(f"{reason}, {self._most} steps in a row"))

    def state(self) -> dict[str, Any]:
        return {"consecutive": self._consecutive}

    def load(self, state: dict[str, Any]) -> None:
        self._consecutive = state["consecutive"]


class SkipOutlier:
    """Skip steps whose gradient norm is more than ``z`` standard deviations above the mean of the latest.

    Norms enter the window as that limit at most, and never where they are not finite. The standard deviation
    counts as a millionth of the mean at least.
    """

    def __init__(self, config: contract.SkipOutlier) -> None:
        self._z, self._window = config.z, config.window
        self._norms = np.zeros(config.window)
        self._count = 0

    def __call__(self, step: Step, asked: Sequence[Action] = ()) -> Sequence[Action]:
        norm = step.global_norm
        if not _finite(step):
            return ()
        limit = self._limit()
        self._norms[self._count % self._window] = min(norm, limit)
        self._count += 1
        if norm <= limit:
            return ()
        return (
            SkipStep(f"the gradient norm is {norm:.3g}, more than {limit:.3g} at which it is an outlier"),
        )

    def _limit(self) -> float:
        """Two passes over the window: sums kept up from step to step would drift."""
        if self._count < min(self._window, _FEWEST):
            return math.inf
        norms = self._norms[: self._count]
        mean = norms.sum() / len(norms)
        around = norms - mean
        deviation = math.sqrt(around.dot(around) / len(norms))
        return float(mean + self._z * max(deviation, 1e-6 * mean)) if mean > 0 else math.inf

    def state(self) -> dict[str, Any]:
        return {"norms": self._norms, "count": self._count}

    def load(self, state: dict[str, Any]) -> None:
        self._norms[:] = state["norms"]
        self._count = state["count"]


class Rollback:
    """Go back where loss or gradient is not finite, unless a guard before it copes with the step."""

    def __init__(self, config: contract.Rollback) -> None:
        self._factor, self._most, self._times = config.lr_factor, config.max, 0

    def __call__(self, step: Step, asked: Sequence[Action] = ()) -> Sequence[Action]:
        gives_up = any(isinstance(action, StopDiverged) for action in asked)
        if _finite(step) or (asked and not gives_up):
            return ()
        reason = f"the {_culprit(step)} is not finite"
        if self._times == self._most:
            return (StopDiverged(f"{reason}, after {self._most} times back to earlier weights"),)
        self._times += 1
        return (RollBack(reason, self._factor),)

    def state(self) -> dict[str, Any]:
        return {"times": self._times}

    def load(self, state: dict[str, Any]) -> None:
        self._times = state["times"]


class StopAfter:
    """End the run at the last of so many steps at which a guard before it asked for something."""

    def __init__(self, config: contract.StopAfter) -> None:
        self._most, self._steps = config.interventions, 0

    def __call__(self, step: Step, asked: Sequence[Action] = ()) -> Sequence[Action]:
        self._steps += bool(asked)
        if not asked or self._steps < self._most:
            return ()
        return (StopDiverged(f"guards stepped in {self._steps} times, the last because {asked[-1].reason}"),)

    def state(self) -> dict[str, Any]:
        return {"steps": self._steps}

    def load(self, state: dict[str, Any]) -> None:
        self._steps = state["steps"]


def judge(guards: Iterable[Guard], step: Step) -> list[Action]:
    """What the guards ask for, in order. Going back stands in place of a stop asked for before it."""
    actions: list[Action] = []
    for guard in guards:
        asked = guard(step, actions)
        if any(isinstance(action, RollBack) for action in asked):
            actions = [action for action in actions if not isinstance(action, StopDiverged)]
        actions += asked
    return actions


def _finite(step: Step) -> bool:
    return math.isfinite(step.loss) and math.isfinite(step.global_norm)


def _culprit(step: Step) -> str:
    return "gradient" if math.isfinite(step.loss) else "loss"


_FEWEST = 16
"""Norms that come before the first judgement of an outlier."""

NEEDS: dict[str, Iterable[str]] = {
    "skip_nonfinite": ("loss", "global_norm"),
    "skip_outlier": ("loss", "global_norm"),
    "rollback": ("loss", "global_norm"),
    "stop_after": (),
}
"""Probes that a guard needs at every step, whatever the tier."""
