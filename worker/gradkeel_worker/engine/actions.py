"""What a guard may ask for. Actions are data; the trainer alone carries them out."""

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


Action = SkipStep | RollBack | StopDiverged
