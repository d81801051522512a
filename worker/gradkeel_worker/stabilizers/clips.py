"""Clips edit the gradient in place. Each returns by how much: the factor on the gradient's norm.

They remember nothing from step to step, so a checkpoint keeps nothing of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from gradkeel.contract import config as contract


class Gradient(Protocol):
    """What a clip may do to the gradient; the engine's ``Parameters`` offers it."""

    def norm(self) -> float: ...
    def scale(self, coefficient: float) -> None: ...
    def clamp(self, limit: float) -> None: ...


Clip = Callable[[Gradient], float]

_TINY = 1e-30


def norm(config: contract.NormClip) -> Clip:
    """g ← g · min(1, max_norm / ‖g‖)."""
    limit = config.max_norm

    def clip(gradient: Gradient) -> float:
        size = gradient.norm()
        if size <= limit:
            return 1.0
        gradient.scale(limit / size)
        return limit / size

    return clip


def value(config: contract.ValueClip) -> Clip:
    """Every entry of g to ±max_value. The factor returned is that on the norm."""
    limit = config.max_value

    def clip(gradient: Gradient) -> float:
        size = gradient.norm()
        if size <= limit:  # no entry exceeds the norm
            return 1.0
        gradient.clamp(limit)
        return gradient.norm() / size

    return clip


def normalize(config: contract.Normalize) -> Clip:
    """g ← g / ‖g‖; a gradient whose norm is below epsilon is left alone."""

    def clip(gradient: Gradient) -> float:
        size = whole = gradient.norm()
        if size < config.epsilon:
            return 1.0
        if size < _TINY:  # 1 / size would be infinite in float32: go there in two steps
            gradient.scale(1 / _TINY)
            size = gradient.norm()
        gradient.scale(1 / size)
        return 1 / whole

    return clip


LIMITS: dict[str, Callable[[Any], float]] = {
    "norm": lambda config: float(config.max_norm),
    "value": lambda config: float(config.max_value),
    "normalize": lambda config: float(config.epsilon),
}
"""The number that a clip's firing is told against, by kind."""
