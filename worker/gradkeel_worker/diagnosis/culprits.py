"""Which layer's backward, or the loss's, is not the derivative of its forward.

A wrong backward spoils the gradient of everything before it, so that parameters which fail do not name it.
Here each module is checked by itself, on what it was fed in a forward pass of the model: the derivative of a
random weighting of its outputs, with respect to its inputs and its own parameters, beside finite differences.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from gradkeel_worker.diagnosis.differences import Outcome, Probe, differences, directions_through, judge

Json = dict[str, Any]
Batch = tuple[Tensor, Tensor, Tensor]

LOSS = "loss"
_MODEL = "the model"
_SAME = 1e-3
"""Factors of two probes that differ by no more are one factor."""
_DIRECTIONS, _ENTRIES = 2, 1


@dataclass(frozen=True)
class Culprit:
    """``what``: layer or loss. ``kind``: its class or function. ``with_respect_to``: "input" and names of
    its own parameters. ``factor``: autograd's derivative over the measured one where all share one.
    """

    what: str
    name: str
    kind: str
    with_respect_to: tuple[str, ...]
    relative_error: float
    factor: float | None

    def to_json(self) -> Json:
        return asdict(self) | {"with_respect_to": list(self.with_respect_to)}


@dataclass(frozen=True)
class _Call:
    """One call of a module or of the loss: ``function(*arguments, **options)``; ``kind`` names its class."""

    kind: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    options: dict[str, Any]

    @property
    def inputs(self) -> list[Tensor]:
        return [t for t in tree_leaves((self.arguments, self.options)) if _is_float(t)]

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Its own parameters; those of its parts too where it has no float input to check them by."""
        if not isinstance(self.function, nn.Module):
            return {}
        named = self.function.named_parameters(recurse=not self.inputs)
        return {name: parameter for name, parameter in named if parameter.requires_grad}


def find_culprits(model: nn.Module, loss_fn: Callable[..., Tensor], batch: Batch, seed: int) -> list[Culprit]:
    """The innermost modules of ``model`` whose backward is wrong, and the loss, in the order of the model.

    ``model`` and ``batch`` (x, c, y as the loss takes it) are in float64; the weights come back unchanged.
    """
    generator = torch.Generator().manual_seed(seed)
    calls, prediction = _calls(model, batch)
    found: list[Culprit] = []
    for name in sorted(calls, key=lambda one: -one.count(".") if one else 1):
        inside = f"{name}." if name else ""
        if not any(one.name.startswith(inside) for one in found):
            found += _judged("layer", name or _MODEL, calls[name], generator)
    found += _judged(LOSS, LOSS, _call_of_loss(loss_fn, prediction, batch[2]), generator)
    order = [*calls, _MODEL, LOSS]
    return sorted(found, key=lambda one: order.index(one.name))


def _call_of_loss(loss_fn: Callable[..., Tensor], prediction: Tensor, target: Tensor) -> _Call:
    """Of the prediction alone: nothing asks for the derivative in the target."""
    kind = type(loss_fn).__name__ if isinstance(loss_fn, nn.Module) else getattr(loss_fn, "__name__", LOSS)
    return _Call(kind, lambda one: loss_fn(one, target), (prediction,), {})


def _calls(model: nn.Module, batch: Batch) -> tuple[dict[str, _Call], Tensor]:
    """The first call of every module by its name, "" for the model, and the model's prediction."""
    seen: dict[str, _Call] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: Any, options: Any) -> None:
            kind = type(module).__name__
            seen.setdefault(name, _Call(kind, module, _detached(arguments), _detached(options)))

        return hook

    handles = [
        module.register_forward_pre_hook(note(name), with_kwargs=True)
        for name, module in model.named_modules()
    ]
    try:
        with torch.no_grad():
            prediction = model(*batch[:2])
    finally:
        for handle in handles:
            handle.remove()
    return seen, _detached(prediction)


def _detached(value: Any) -> Any:
    return tree_map(lambda one: one.detach().clone() if isinstance(one, Tensor) else one, value)


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _judged(what: str, name: str, call: _Call, generator: torch.Generator) -> list[Culprit]:
    """The culprit that a call is, or nothing; nothing either where it cannot be called by itself."""
    try:
        wrong = _wrong(call, generator)
    except (RuntimeError, TypeError, ValueError):
        return []
    if not wrong:
        return []
    factors = [factor for _, _, factor in wrong]
    same = max(factors) - min(factors) <= _SAME * max(abs(factor) for factor in factors)
    return [
        Culprit(
            what=what,
            name=name,
            kind=call.kind,
            with_respect_to=tuple(dict.fromkeys(of for of, _, _ in wrong)),
            relative_error=max(outcome.relative_error for _, outcome, _ in wrong),
            factor=sum(factors) / len(factors) if same else None,
        )
    ]


def _wrong(call: _Call, generator: torch.Generator) -> list[tuple[str, Outcome, float]]:
    """What fails: with respect to what, how, and autograd's derivative over the measured one."""
    points = [("input", one) for one in call.inputs] + list(call.parameters.items())
    for _, point in points:
        point.requires_grad_()
    outputs = _outputs(call)
    weights = [torch.randn(o.shape, generator=generator, dtype=torch.float64) for o in outputs]
    weighted = [(o * w).sum() for o, w in zip(outputs, weights, strict=True)]
    if not points or not any(one.requires_grad for one in weighted):
        return []
    size = sum(float((o * w).detach().abs().sum()) for o, w in zip(outputs, weights, strict=True))
    tensors = [point for _, point in points]
    gradients = torch.autograd.grad(torch.stack(weighted).sum(), tensors, allow_unused=True)

    def value() -> float:
        return sum(float((o * w).sum()) for o, w in zip(_outputs(call), weights, strict=True))

    found = []
    for (name, point), given in zip(points, gradients, strict=True):
        gradient = torch.zeros_like(point) if given is None else given
        for direction in directions_through(gradient, generator, _DIRECTIONS, _ENTRIES):
            probe = Probe(float((gradient * direction).sum()), *differences(value, point.data, direction))
            outcome = judge(probe, size)
            if outcome.status == "fail":
                found.append((name, outcome, probe.factor))
    return found


def _outputs(call: _Call) -> list[Tensor]:
    return [one for one in tree_leaves(call.function(*call.arguments, **call.options)) if _is_float(one)]
