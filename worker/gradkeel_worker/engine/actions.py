"""What a guard may ask for, and what is told beside it. Actions are data; the trainer alone carries out what
guards ask for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SkipStep:
    """Do not take this optimizer step: no clip, no update, no change of the optimizer's state."""

    reason: str
    name: str = "skip_step"
    effect: str = "the optimizer step was not taken"


@dataclass(frozen=True)
class RollBack:
    """Take no step but go back to the last good weights and optimizer state; the learning rate times
    ``lr_factor`` from here on."""

    reason: str
    lr_factor: float
    name: str = "roll_back"
    effect: str = "weights and optimizer went back to the best epoch's, with a lower learning rate"


@dataclass(frozen=True)
class StopDiverged:
    """End the run as diverged."""

    reason: str
    name: str = "stop"
    effect: str = "the run ended as diverged"


@dataclass(frozen=True)
class LowerScale:
    """The loss scale of fp16 was lowered to ``scale``; the step was taken. No guard asks for it."""

    reason: str
    scale: float
    name: str = "lower_scale"
    effect: str = "the backward pass was repeated at a lower loss scale, and the step was taken"


Action = SkipStep | RollBack | StopDiverged | LowerScale
