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
class StopDiverged:
    """End the run as diverged."""

    reason: str
    name: str = "stop"
    effect: str = "the run ended as diverged"


Action = SkipStep | StopDiverged
