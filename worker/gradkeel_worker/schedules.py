"""Schedules: the factor on the learning rate, by step and by the epochs' losses."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from gradkeel.contract import config as contract


class Schedule:
    """A constant factor after a linear warm-up; ``steps`` is the whole budget in optimizer steps."""

    def __init__(self, config: contract.Schedule, steps: int) -> None:
        self.warmup_steps, self.steps = config.warmup_steps, steps

    def factor(self, step: int) -> float:
        """Factor for 0-based ``step``: (step + 1) / (warmup_steps + 1) while warming up."""
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        return self.after_warmup(step)

    def after_warmup(self, step: int) -> float:
        return 1.0

    def epoch_ended(self, loss: float) -> None:
        """Told the validation loss (without a validation part: the training loss) after each epoch."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: whatever the step alone does not decide."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a ``state``."""


class Cosine(Schedule):
    """min_factor + (1 − min_factor) · ½(1 + cos(π · p)), p from 0 after warm-up to 1 at the last step."""

    def __init__(self, config: contract.Cosine, steps: int) -> None:
        super().__init__(config, steps)
        self.min_factor = config.min_factor

    def after_warmup(self, step: int) -> float:
        progress = (step - self.warmup_steps) / max(1, self.steps - 1 - self.warmup_steps)
        return self.min_factor + (1 - self.min_factor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


class OneCycle(Schedule):
    """torch's OneCycleLR over the steps after warm-up; the warm-up leads to its first value."""

    def __init__(self, config: contract.OneCycle, steps: int) -> None:
        super().__init__(config, steps)
        length = max(1, steps - config.warmup_steps)
        self._first, self._end = 1 / config.div_factor, 1 / config.div_factor / config.final_div_factor
        self._top, self._last = config.pct_start * length - 1, length - 1

    def factor(self, step: int) -> float:
        rate = super().factor(step)
        return rate * self._first if step < self.warmup_steps else rate

    def after_warmup(self, step: int) -> float:
        place = step - self.warmup_steps
        if place < self._top:
            return _half_cosine(self._first, 1.0, place / self._top)
        return _half_cosine(1.0, self._end, min(1.0, (place - self._top) / (self._last - self._top)))


def _half_cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * progress))


class Step(Schedule):
    """Multiplies by ``factor`` after every so many epochs."""

    def __init__(self, config: contract.StepSchedule, steps: int) -> None:
        super().__init__(config, steps)
        self._every, self._cut, self._epochs = config.every, config.factor, 0

    def after_warmup(self, step: int) -> float:
        return float(self._cut ** (self._epochs // self._every))

    def epoch_ended(self, loss: float) -> None:
        self._epochs += 1

    def state(self) -> dict[str, Any]:
        return {"epochs": self._epochs}

    def load(self, state: dict[str, Any]) -> None:
        self._epochs = state["epochs"]


class Plateau(Schedule):
    """Multiplies by ``factor`` whenever the loss has not improved for ``patience`` epochs."""

    def __init__(self, config: contract.Plateau, steps: int) -> None:
        super().__init__(config, steps)
        self._cut, self._patience = config.factor, config.patience
        self._current, self._best, self._waited = 1.0, math.inf, 0

    def after_warmup(self, step: int) -> float:
        return self._current

    def epoch_ended(self, loss: float) -> None:
        if loss < self._best:
            self._best, self._waited = loss, 0
            return
        self._waited += 1
        if self._waited >= self._patience:
            self._current *= self._cut
            self._waited = 0

    def state(self) -> dict[str, Any]:
        return {"current": self._current, "best": self._best, "waited": self._waited}

    def load(self, state: dict[str, Any]) -> None:
        self._current, self._best, self._waited = state["current"], state["best"], state["waited"]


SCHEDULES: dict[str, Callable[[Any, int], Schedule]] = {
    "constant": Schedule,
    "cosine": Cosine,
    "one_cycle": OneCycle,
    "step": Step,
    "plateau": Plateau,
}
