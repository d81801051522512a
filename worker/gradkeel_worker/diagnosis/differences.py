"""Finite differences of a scalar in float64, and what they say of autograd's derivative."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradkeel_worker.diagnosis.measured import AGREEMENT

Json = dict[str, Any]

STEPS = tuple(10.0**-k for k in range(1, 10))
"""The distances h, 1e-1 … 1e-9."""
_INFORMATIVE = 1e-3
"""An h is informative where rounding alone explains at most this share of the derivative: 1 % off is then
seen.
"""


@dataclass(frozen=True)
class Probe:
    """One directional derivative: autograd's value and both differences at every h."""

    analytic: float
    forward: np.ndarray[Any, Any]
    backward: np.ndarray[Any, Any]

    @property
    def central(self) -> np.ndarray[Any, Any]:
        return np.asarray((self.forward + self.backward) / 2)

    @property
    def factor(self) -> float:
        """Autograd's value over the central difference where that changes least from one h to the next;
        infinite where it is 0.
        """
        change = np.abs(np.diff(self.central))
        measured = float(self.central[1 + int(change.argmin())])
        return self.analytic / measured if measured else float("inf")


@dataclass(frozen=True)
class Outcome:
    """What one probe or one parameter tensor came to."""

    status: str
    relative_error: float
    absolute_error: float
    h: float

    def to_json(self) -> Json:
        return {
            "relative_error": self.relative_error,
            "absolute_error": self.absolute_error,
            "h": self.h,
            "status": self.status,
        }


@torch.no_grad()
def differences(function: Callable[[], float], point: Tensor, direction: Tensor) -> tuple[Any, Any]:
    """Forward and backward differences of ``function`` at every h as ``point``, which it reads, moves along
    ``direction``; the point is put back exactly.
    """
    kept, value = point.clone(), function()
    forward, backward = [], []
    for h in STEPS:
        point.copy_(kept).add_(direction, alpha=h)
        forward.append((function() - value) / h)
        point.copy_(kept).sub_(direction, alpha=h)
        backward.append((value - function()) / h)
    point.copy_(kept)
    return np.array(forward), np.array(backward)


def _floor(value: float) -> np.ndarray[Any, Any]:
    """Error that rounding of f alone can make at every h: 10 · ε · |f| / h."""
    return 10 * float(np.finfo(np.float64).eps) * abs(value) / np.array(STEPS)


def _has_kink(probe: Probe, floor: np.ndarray[Any, Any], size: float) -> bool:
    """Whether the one-sided derivatives stay apart as h shrinks: for a smooth f their gap shrinks with h."""
    gap = np.abs(probe.forward - probe.backward)
    usable = np.flatnonzero(floor < _INFORMATIVE * size)
    if len(usable) < 2:
        return False
    last = usable[-1]
    apart = bool(gap[last] > 1e-2 * size)
    return apart and bool(gap[last] > 0.3 * gap[max(last - 1, 0)])


def judge(probe: Probe, value: float) -> Outcome:
    """pass, fail, kink or dead for one directional derivative of a loss of size ``value``."""
    inside = np.isfinite(probe.forward) & np.isfinite(probe.backward)
    if not inside.any():
        return Outcome("kink", float("inf"), float("inf"), STEPS[0])
    if np.isfinite(probe.analytic) and abs(probe.analytic) * STEPS[-1] > max(abs(value), 1.0):
        # So steep that even the smallest step leaves the part where the loss is nearly linear.
        return Outcome("kink", float("inf"), float("inf"), STEPS[-1])
    if not np.isfinite(probe.analytic):
        return Outcome("fail", float("inf"), float("inf"), STEPS[int(np.flatnonzero(inside)[-1])])
    if not inside.all():
        # Steps that leave the domain of f, of a logarithm say, tell nothing of its derivative.
        probe = Probe(probe.analytic, probe.forward[inside], probe.backward[inside])
    return _judge(probe, _floor(value)[inside], np.array(STEPS)[inside])


def _judge(probe: Probe, floor: np.ndarray[Any, Any], steps: np.ndarray[Any, Any]) -> Outcome:
    """The same for differences that are finite, ``steps`` the h of each."""
    error = np.abs(probe.analytic - probe.central)
    sizes = np.maximum(abs(probe.analytic), np.abs(probe.central))
    size = float(max(abs(probe.analytic), np.median(np.abs(probe.central))))
    if np.all(sizes <= floor * 1.0000001) or size == 0.0:
        return Outcome("dead", 0.0, float(error.min()), float(steps[error.argmin()]))
    relative = error / np.where(sizes > 0, sizes, 1.0)
    informative = floor <= _INFORMATIVE * sizes
    trusted = informative if informative.any() else np.ones_like(informative)
    best = int(np.where(trusted, relative, np.inf).argmin())
    agrees = bool((trusted & (error <= AGREEMENT * sizes + floor)).any())
    status = "pass" if agrees else _disagreement(probe, floor, size)
    return Outcome(status, float(relative[best]), float(error[best]), float(steps[best]))


def _disagreement(probe: Probe, floor: np.ndarray[Any, Any], size: float) -> str:
    """fail where the numeric derivative settles on another value than autograd's, dead where both are too
    small to be told from rounding once h is small, else kink.

    Settled: between two neighbouring h that rounding leaves readable, it changes far less than autograd is
    off. Across the kinks of relu, or where h is large for weights this small, it changes as much.
    """
    if _has_kink(probe, floor, size):
        return "kink"
    central = probe.central
    error, change = np.abs(probe.analytic - central), np.abs(np.diff(central))
    readable = floor <= _INFORMATIVE * np.abs(central)
    pairs = readable[:-1] & readable[1:] & (error[1:] > 5 * (change + floor[1:]))
    if any(_stays(central, floor, int(i) + 1, error[i + 1]) for i in np.flatnonzero(pairs)):
        return "fail"
    # The nearest h that is not readable bounds what a derivative there may be.
    hidden = ~readable & (np.abs(central) <= floor) & (abs(probe.analytic) <= floor)
    return "dead" if hidden.any() and hidden[readable.nonzero()[0].max(initial=-1) + 1 :].all() else "kink"


def _stays(central: np.ndarray[Any, Any], floor: np.ndarray[Any, Any], at: int, error: float) -> bool:
    """Whether the numeric derivative keeps its value at every smaller h, as far as rounding lets it be seen.

    A value that it leaves again was not the derivative.
    """
    moved = np.abs(central[at + 1 :] - central[at])
    return bool((moved <= 0.2 * error + 2 * floor[at + 1 :]).all())


def directions_through(
    gradient: Tensor, generator: torch.Generator, directions: int, coordinates: int
) -> list[Tensor]:
    """Unit directions: random ones, then single entries (the steepest first, the rest at random)."""
    found = []
    for _ in range(directions):
        direction = torch.randn(gradient.shape, generator=generator, dtype=torch.float64)
        found.append(direction / direction.norm())
    steepest = int(gradient.abs().flatten().argmax())
    chosen = torch.randint(gradient.numel(), (coordinates,), generator=generator).tolist()
    for entry in dict.fromkeys([steepest, *chosen][:coordinates]):
        direction = torch.zeros(gradient.shape, dtype=gradient.dtype)
        direction.view(-1)[entry] = 1.0
        found.append(direction)
    return found
