"""Finite-difference gradient check in float64: does autograd return the derivative of what the job minimises?

It runs on a copy of the model and, where it is a module, of the loss, so that a custom backward is what gets
checked. Agreement says nothing about float32 or about the data.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Json = dict[str, Any]
Loss = Callable[[Tensor, Tensor], Tensor]

STEPS = tuple(10.0**-k for k in range(1, 10))
"""The distances h, 1e-1 … 1e-9."""
TOLERANCE = 1e-5
"""Largest relative error of central differences: they reach about 1e-9 on smooth float64 code, a wrong
backward never does.
"""
_INFORMATIVE = 1e-3
"""An h is informative where rounding alone explains at most this share of the derivative: 1 % off is then
seen.
"""
_MAX_TENSORS = 48
_MANY_TENSORS = 12
"""Above so many tensors each gets one direction and one entry: the time stays about the same."""
_MAX_ROWS = 64
_MAX_WORK = 5e6
"""Rows × parameters of one evaluation at most, a few ms."""

_METHOD = (
    "Forward (f(x+h)-f(x))/h and central (f(x+h)-f(x-h))/2h differences, h = 1e-1 … 1e-9, of the training "
    "loss on "
    "{rows} fixed rows in float64, dropout off, {place}. Each parameter tensor: {directions} random "
    "directions and "
    "{coordinates} sampled entries. relative_error = |a-n|/max(|a|,|n|) at the best h. It says nothing "
    "about float32 "
    "or about the data."
)


@dataclass(frozen=True)
class _Probe:
    """One directional derivative: autograd's value and both differences at every h."""

    analytic: float
    forward: np.ndarray[Any, Any]
    backward: np.ndarray[Any, Any]

    @property
    def central(self) -> np.ndarray[Any, Any]:
        return np.asarray((self.forward + self.backward) / 2)


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


def in_float64(loss_fn: Loss) -> Loss:
    """A float64 copy of a loss: of a module, or of an object that holds modules; a plain function is
    itself.
    """
    if isinstance(loss_fn, nn.Module):
        return copy.deepcopy(loss_fn).double()
    held = {
        name: value
        for name, value in getattr(loss_fn, "__dict__", {}).items()
        if isinstance(value, nn.Module)
    }
    if not held:
        return loss_fn
    twin = copy.copy(loss_fn)
    for name, module in held.items():
        setattr(twin, name, copy.deepcopy(module).double())
    return twin


class _Subject:
    """The float64 copy: its loss as a function of its parameters."""

    def __init__(self, model: nn.Module, loss_fn: Loss, x: Tensor, c: Tensor, y: Tensor) -> None:
        self.model = copy.deepcopy(model).double().train()
        for module in self.model.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.eval()
        self.loss_fn = in_float64(loss_fn)
        self.x, self.c = x.double(), c
        self.y = y.double() if y.is_floating_point() else y
        if not self._deterministic():
            self.model.eval()
        if not self._deterministic():
            raise ValueError("the loss of a fixed batch changes from one evaluation to the next")

    def _deterministic(self) -> bool:
        return self.value() == self.value()

    def loss(self) -> Tensor:
        return self.loss_fn(self.model(self.x, self.c), self.y)

    @torch.no_grad()
    def value(self) -> float:
        return float(self.loss())

    def gradients(self) -> dict[str, Tensor]:
        """Autograd's derivative by parameter name; zeros where the loss does not depend on one."""
        named = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        found = torch.autograd.grad(self.loss(), list(named.values()), allow_unused=True)
        return {
            name: torch.zeros_like(p) if g is None else g
            for (name, p), g in zip(named.items(), found, strict=True)
        }

    @torch.no_grad()
    def differences(self, parameter: Tensor, direction: Tensor, value: float) -> tuple[Any, Any]:
        """Forward and backward differences along ``direction`` at every h; the parameter is put back
        exactly.
        """
        kept = parameter.clone()
        forward, backward = [], []
        for h in STEPS:
            parameter.copy_(kept).add_(direction, alpha=h)
            forward.append((self.value() - value) / h)
            parameter.copy_(kept).sub_(direction, alpha=h)
            backward.append((value - self.value()) / h)
        parameter.copy_(kept)
        return np.array(forward), np.array(backward)


def _floor(value: float) -> np.ndarray[Any, Any]:
    """Error that rounding of f alone can make at every h: 10 · ε · |f| / h."""
    return 10 * float(np.finfo(np.float64).eps) * abs(value) / np.array(STEPS)


def _has_kink(probe: _Probe, floor: np.ndarray[Any, Any], size: float) -> bool:
    """Whether the one-sided derivatives stay apart as h shrinks: for a smooth f their gap shrinks with h."""
    gap = np.abs(probe.forward - probe.backward)
    usable = np.flatnonzero(floor < _INFORMATIVE * size)
    if len(usable) < 2:
        return False
    last = usable[-1]
    apart = bool(gap[last] > 1e-2 * size)
    return apart and bool(gap[last] > 0.3 * gap[max(last - 1, 0)])


def judge(probe: _Probe, value: float) -> Outcome:
    """pass, fail, kink or dead for one directional derivative of a loss of size ``value``."""
    floor = _floor(value)
    error = np.abs(probe.analytic - probe.central)
    sizes = np.maximum(abs(probe.analytic), np.abs(probe.central))
    size = float(max(abs(probe.analytic), np.median(np.abs(probe.central))))
    if not np.isfinite(error).all():
        return Outcome("fail", float("inf"), float("inf"), STEPS[0])
    if np.all(sizes <= floor * 1.0000001) or size == 0.0:
        return Outcome("dead", 0.0, float(error.min()), STEPS[int(error.argmin())])
    relative = error / np.where(sizes > 0, sizes, 1.0)
    informative = floor <= _INFORMATIVE * sizes
    trusted = informative if informative.any() else np.ones_like(informative)
    best = int(np.where(trusted, relative, np.inf).argmin())
    agrees = bool((trusted & (error <= TOLERANCE * sizes + floor)).any())
    status = "pass" if agrees else _disagreement(probe, floor, size)
    return Outcome(status, float(relative[best]), float(error[best]), STEPS[best])


def _disagreement(probe: _Probe, floor: np.ndarray[Any, Any], size: float) -> str:
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


_ORDER = ("fail", "kink", "pass", "dead")


def _worst(outcomes: list[Outcome]) -> Outcome:
    """A tensor fails with any of its probes; it is dead only where all of them are."""
    return min(outcomes, key=lambda one: (_ORDER.index(one.status), -one.relative_error))


def _directions(
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


def _spread(names: list[str]) -> list[str]:
    """At most _MAX_TENSORS of the names, evenly spread, first and last included."""
    if len(names) <= _MAX_TENSORS:
        return names
    return [names[i] for i in np.linspace(0, len(names) - 1, _MAX_TENSORS).round().astype(int)]


def _curve(probes: list[_Probe], which: str) -> list[float | None]:
    """Median relative error at every h over the probes that are not dead."""
    curves = []
    for probe in probes:
        numeric = getattr(probe, which)
        size = np.maximum(abs(probe.analytic), np.abs(numeric))
        if np.isfinite(size).all() and (size > 0).all():
            curves.append(np.abs(probe.analytic - numeric) / size)
    return [float(v) for v in np.median(curves, axis=0)] if curves else [None] * len(STEPS)


def check_gradients(
    model: nn.Module,
    loss_fn: Loss,
    x: Tensor,
    c: Tensor,
    y: Tensor,
    *,
    place: str = "at the returned weights",
    seed: int = 0,
    directions: int = 2,
    coordinates: int = 2,
) -> Json:
    """Check every trainable parameter tensor of ``model``; the model itself is not touched.

    ``x`` [n, d], ``c`` int64 [n, k], ``y`` (as the loss takes it) are one fixed batch, as the job feeds it.
    Returns
    ``{"parameters": {name: {relative_error, absolute_error, h, status}},
    "h_sweep": [{h, central, forward, parameters}], "method": text}``.
    Raises ValueError where the loss of a fixed batch is random or not finite.
    """
    weights = sum(p.numel() for p in model.parameters())
    rows = int(max(8, min(_MAX_ROWS, len(x), _MAX_WORK // max(weights, 1))))
    with _single_stream():
        subject = _Subject(model, loss_fn, x[:rows], c[:rows], y[:rows])
        value = subject.value()
        if not np.isfinite(value):
            raise ValueError("the loss of the fixed batch is not finite")
        probes = _probe_all(subject, value, seed, directions, coordinates)
    method = _METHOD.format(
        rows=min(rows, len(x)), place=place, directions=directions, coordinates=coordinates
    )
    return {
        "parameters": {
            name: _worst([judge(probe, value) for probe in each]).to_json() for name, each in probes.items()
        },
        "h_sweep": _sweep(probes),
        "method": method,
    }


def _probe_all(
    subject: _Subject, value: float, seed: int, directions: int, coordinates: int
) -> dict[str, list[_Probe]]:
    generator = torch.Generator().manual_seed(seed)
    gradients = subject.gradients()
    if len(gradients) > _MANY_TENSORS:
        directions, coordinates = min(directions, 1), min(coordinates, 1)
    parameters = dict(subject.model.named_parameters())
    found: dict[str, list[_Probe]] = {}
    for name in _spread(list(gradients)):
        found[name] = [
            _Probe(
                float((gradients[name] * direction).sum()),
                *subject.differences(parameters[name].data, direction, value),
            )
            for direction in _directions(gradients[name], generator, directions, coordinates)
        ]
    return found


def _sweep(probes: dict[str, list[_Probe]]) -> list[Json]:
    """One entry per h: median relative errors over all probes, and by parameter (central differences)."""
    everything = [probe for each in probes.values() for probe in each]
    central, forward = _curve(everything, "central"), _curve(everything, "forward")
    named = {name: _curve(each, "central") for name, each in probes.items()}
    return [
        {
            "h": h,
            "central": central[i],
            "forward": forward[i],
            "parameters": {name: curve[i] for name, curve in named.items()},
        }
        for i, h in enumerate(STEPS)
    ]


class _single_stream:
    """Leave torch's random state as it was: a custom module may draw numbers while it is evaluated."""

    def __enter__(self) -> None:
        self.state = torch.get_rng_state()

    def __exit__(self, *error: object) -> None:
        torch.set_rng_state(self.state)
