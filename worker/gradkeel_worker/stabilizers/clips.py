"""Clips edit the gradient in place. Each returns by how much: the factor on the gradient's norm."""

from __future__ import annotations

import bisect
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gradkeel.contract import config as contract


class Gradient(Protocol):
    """What a clip may do to the gradient; the engine's ``Parameters`` offers it."""

    def norm(self) -> float: ...
    def layer_norms(self) -> Sequence[float] | Tensor: ...
    def unit_norms(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...
    def scale(self, coefficient: float) -> None: ...
    def scale_layers(self, coefficients: Sequence[float]) -> None: ...
    def scale_units(self, coefficients: NDArray[np.float64]) -> None: ...
    def clamp(self, limit: float) -> None: ...


class Clip:
    """Called at every step that is taken: 1 where it left the gradient alone."""

    def __call__(self, gradient: Gradient) -> float:
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: what it remembers from step to step."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a ``state``."""


_TINY = 1e-30
_BELOW_ONE = math.nextafter(1.0, 0.0)


class Norm(Clip):
    """g ← g · min(1, max_norm / ‖g‖)."""

    def __init__(self, config: contract.NormClip) -> None:
        self._limit = config.max_norm

    def __call__(self, gradient: Gradient) -> float:
        size = gradient.norm()
        if size <= self._limit:
            return 1.0
        gradient.scale(self._limit / size)
        return self._limit / size


class Value(Clip):
    """Every entry of g to ±max_value."""

    def __init__(self, config: contract.ValueClip) -> None:
        self._limit = config.max_value

    def __call__(self, gradient: Gradient) -> float:
        size = gradient.norm()
        if size <= self._limit:  # no entry exceeds the norm
            return 1.0
        gradient.clamp(self._limit)
        return gradient.norm() / size


class LayerNorm(Clip):
    """g_l ← g_l · min(1, max_norm / ‖g_l‖) for each layer l."""

    def __init__(self, config: contract.LayerNormClip) -> None:
        self._limit = config.max_norm

    def __call__(self, gradient: Gradient) -> float:
        size = gradient.norm()
        if size <= self._limit:  # no layer exceeds the whole
            return 1.0
        norms = gradient.layer_norms()
        norms = norms.tolist() if isinstance(norms, Tensor) else norms
        if not any(norm > self._limit for norm in norms):
            return 1.0
        gradient.scale_layers([self._limit / norm if norm > self._limit else 1.0 for norm in norms])
        return _shortened(gradient, size)


class Adaptive(Clip):
    """g_u ← g_u · min(1, factor · max(‖w_u‖, floor) / ‖g_u‖) for each unit u (arXiv:2102.06171, eq. 3)."""

    def __init__(self, config: contract.AdaptiveClip) -> None:
        self._factor, self._floor = config.factor, config.floor

    def __call__(self, gradient: Gradient) -> float:
        size = gradient.norm()
        weights, norms = gradient.unit_norms()
        limits = self._factor * np.maximum(weights, self._floor)
        over = norms > limits
        if not over.any():
            return 1.0
        gradient.scale_units(np.where(over, limits / np.where(over, norms, 1.0), 1.0))
        return _shortened(gradient, size)


class Percentile(Clip):
    """Clips the norm at the p-th percentile of the latest ``window`` norms, its own among them
    (arXiv:2007.14469, algorithm 1), between two of them linearly.
    """

    def __init__(self, config: contract.PercentileClip) -> None:
        self._share, self._window = config.p / 100, config.window
        self._latest: deque[float] = deque()
        self._sorted: list[float] = []

    def __call__(self, gradient: Gradient) -> float:
        size = gradient.norm()
        if not math.isfinite(size):
            return 1.0
        self._take_in(size)
        limit = self._limit()
        if size <= limit or limit == 0:  # where most norms are 0, there is no usual size to tell
            return 1.0
        gradient.scale(limit / size)
        return limit / size

    def _take_in(self, size: float) -> None:
        if len(self._latest) == self._window:
            del self._sorted[bisect.bisect_left(self._sorted, self._latest.popleft())]
        self._latest.append(size)
        bisect.insort(self._sorted, size)

    def _limit(self) -> float:
        place = self._share * (len(self._sorted) - 1)
        below = int(place)
        above = min(below + 1, len(self._sorted) - 1)
        return self._sorted[below] + (place - below) * (self._sorted[above] - self._sorted[below])

    def state(self) -> dict[str, Any]:
        return {"latest": np.array(self._latest, np.float64)}

    def load(self, state: dict[str, Any]) -> None:
        self._latest = deque(state["latest"].tolist())
        self._sorted = sorted(self._latest)


class ZScore(Clip):
    """ZClip (arXiv:2504.02507): with μ and σ of the norms as clipped, moving averages by ``alpha``, and
    ẑ = (‖g‖ − μ) / σ > z, the norm becomes μ + σ · z² / ẑ.

    σ counts as a millionth of μ at least: norms that differ by rounding have no outliers.
    """

    def __init__(self, config: contract.ZScoreClip) -> None:
        self._alpha, self._z, self._warmup = config.alpha, config.z, config.warmup
        self._first: list[float] = []
        self._mean = self._variance = 0.0

    def __call__(self, gradient: Gradient) -> float:
        size = gradient.norm()
        if not math.isfinite(size):
            return 1.0
        if len(self._first) < self._warmup:
            self._warm_up(size)
            return 1.0
        limit = self._limit(size)
        self._take_in(limit)
        if size <= limit:
            return 1.0
        gradient.scale(limit / size)
        return limit / size

    def _warm_up(self, size: float) -> None:
        self._first.append(size)
        if len(self._first) == self._warmup:
            self._mean, self._variance = float(np.mean(self._first)), float(np.var(self._first))

    def _limit(self, size: float) -> float:
        """The norm that a gradient of norm ``size`` is given."""
        deviation = max(math.sqrt(self._variance), 1e-6 * self._mean)
        above = size - self._mean
        if above <= self._z * deviation or self._mean == 0:
            return size
        return self._mean + (self._z * deviation) ** 2 / above

    def _take_in(self, size: float) -> None:
        self._mean += (1 - self._alpha) * (size - self._mean)
        self._variance += (1 - self._alpha) * ((size - self._mean) ** 2 - self._variance)

    def state(self) -> dict[str, Any]:
        return {"first": self._first, "mean": self._mean, "variance": self._variance}

    def load(self, state: dict[str, Any]) -> None:
        self._first = list(state["first"])
        self._mean, self._variance = state["mean"], state["variance"]


class Normalize(Clip):
    """g ← g / ‖g‖; a gradient whose norm is below epsilon is left alone."""

    def __init__(self, config: contract.Normalize) -> None:
        self._epsilon = config.epsilon

    def __call__(self, gradient: Gradient) -> float:
        size = whole = gradient.norm()
        if size < self._epsilon:
            return 1.0
        if size < _TINY:  # 1 / size would be infinite in float32: go there in two steps
            gradient.scale(1 / _TINY)
            size = gradient.norm()
        gradient.scale(1 / size)
        return 1 / whole


def _shortened(gradient: Gradient, before: float) -> float:
    """The factor on the norm of a gradient of which a part became shorter: less than 1, if by rounding."""
    return min(gradient.norm() / before, _BELOW_ONE)


LIMITS: dict[str, Callable[[Any], float]] = {
    "norm": lambda config: float(config.max_norm),
    "value": lambda config: float(config.max_value),
    "layer_norm": lambda config: float(config.max_norm),
    "adaptive": lambda config: float(config.factor),
    "percentile": lambda config: float(config.p),
    "zscore": lambda config: float(config.z),
    "normalize": lambda config: float(config.epsilon),
}
"""The number that a clip's firing is told against, by kind."""
