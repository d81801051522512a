"""Finite-difference gradient check in float64: does autograd return the derivative of what the job minimises?

It runs on a copy of the model and, where it is a module, of the loss, so that a custom backward is what gets
checked. Agreement says nothing about float32 or about the data.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gradkeel_worker.diagnosis.culprits import find_culprits
from gradkeel_worker.diagnosis.differences import (
    STEPS,
    Outcome,
    Probe,
    differences,
    directions_through,
    judge,
)

Json = dict[str, Any]
Loss = Callable[[Tensor, Tensor], Tensor]

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
        first, second = self.value(), self.value()
        return first == second or (first != first and second != second)  # NaN is no chance

    @property
    def batch(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.x, self.c, self.y

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


_ORDER = ("fail", "kink", "pass", "dead")


def _worst(outcomes: list[Outcome]) -> Outcome:
    """A tensor fails with any of its probes; it is dead only where all of them are."""
    return min(outcomes, key=lambda one: (_ORDER.index(one.status), -one.relative_error))


def _spread(names: list[str]) -> list[str]:
    """At most _MAX_TENSORS of the names, evenly spread, first and last included."""
    if len(names) <= _MAX_TENSORS:
        return names
    return [names[i] for i in np.linspace(0, len(names) - 1, _MAX_TENSORS).round().astype(int)]


def _curve(probes: list[Probe], which: str) -> list[float | None]:
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
    "culprits": [{what, name, kind, with_respect_to, relative_error, factor}] (empty where nothing fails),
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
        probes = _probe_all(subject, seed, directions, coordinates)
        outcomes = {name: _worst([judge(probe, value) for probe in each]) for name, each in probes.items()}
        wrong = any(outcome.status == "fail" for outcome in outcomes.values())
        culprits = find_culprits(subject.model, subject.loss_fn, subject.batch, seed) if wrong else []
    method = _METHOD.format(
        rows=min(rows, len(x)), place=place, directions=directions, coordinates=coordinates
    )
    return {
        "parameters": {name: outcome.to_json() for name, outcome in outcomes.items()},
        "culprits": [culprit.to_json() for culprit in culprits],
        "h_sweep": _sweep(probes),
        "method": method,
    }


def _probe_all(subject: _Subject, seed: int, directions: int, coordinates: int) -> dict[str, list[Probe]]:
    generator = torch.Generator().manual_seed(seed)
    gradients = subject.gradients()
    if len(gradients) > _MANY_TENSORS:
        directions, coordinates = min(directions, 1), min(coordinates, 1)
    parameters = dict(subject.model.named_parameters())
    found: dict[str, list[Probe]] = {}
    for name in _spread(list(gradients)):
        found[name] = [
            Probe(
                float((gradients[name] * direction).sum()),
                *differences(subject.value, parameters[name].data, direction),
            )
            for direction in directions_through(gradients[name], generator, directions, coordinates)
        ]
    return found


def _sweep(probes: dict[str, list[Probe]]) -> list[Json]:
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
