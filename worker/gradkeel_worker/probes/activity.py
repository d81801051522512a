"""Standard tier, every n steps: how alive gradients and units are.

Gradients are those of the step. Activations come from a side forward pass over a fixed batch of training rows
in eval mode. Numbers that are not finite are left out of means and deviations. Nothing here waits for a
device: what was measured stays there until the readings are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gradkeel_worker.probes.quiet import quiet

if TYPE_CHECKING:
    from gradkeel_worker.engine.view import StepView

Series = dict[str, tuple[tuple[str, ...], Tensor]]
"""Series name → (names of what was measured, such as layers; one number for each of them, float64)."""

_ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.ELU, nn.SELU, nn.Tanh, nn.Sigmoid)
_SATURATED = 0.97
"""Tanh beyond ±this passes less than 6 % of a gradient; a sigmoid is judged as the tanh it is made of."""


def zero_fraction(view: StepView) -> Series:
    """Share of each layer's gradient entries that are exactly 0, before clips."""
    layers, gradient = view.parameters.layers, view.parameters.gradient
    shares = [
        1 - torch.count_nonzero(gradient[layer.start : layer.stop]).double() / layer.size for layer in layers
    ]
    return {"zero_fraction": (tuple(layer.name for layer in layers), torch.stack(shares))}


def activation(view: StepView) -> Series:
    """Mean and standard deviation of each layer's outputs, dead and saturated units.

    dead_fraction: share of a relu layer's units that are 0 on every row. saturated_fraction: share of a tanh
    or sigmoid layer's outputs at their ends.
    """
    if view.side is None:
        return {}
    taps = dict(_taps(view.model))
    with quiet(view.model), torch.no_grad(), _recorded(taps) as outputs:
        view.model(view.side.x, view.side.c)
    dead = {name: _dead(outputs[name]) for name in outputs if isinstance(taps[name], nn.ReLU)}
    ends = {
        name: _saturated(outputs[name], taps[name])
        for name in outputs
        if isinstance(taps[name], nn.Tanh | nn.Sigmoid)
    }
    moments = {name: _moments(output) for name, output in outputs.items()}
    return {
        "activation_mean": _series({name: mean for name, (mean, _) in moments.items()}),
        "activation_std": _series({name: std for name, (_, std) in moments.items()}),
        "dead_fraction": _series(dead),
        "saturated_fraction": _series(ends),
    }


def _series(values: dict[str, Tensor]) -> tuple[tuple[str, ...], Tensor]:
    return tuple(values), torch.stack([*values.values()]) if values else torch.zeros(0)


def _taps(model: nn.Module) -> Iterable[tuple[str, nn.Module]]:
    """Where to listen: a network says so itself; of other modules, the activations and linear layers."""
    if callable(taps := getattr(model, "taps", None)):
        return taps()  # type: ignore[no-any-return]
    return [
        (name, part) for name, part in model.named_modules() if isinstance(part, (*_ACTIVATIONS, nn.Linear))
    ]


@contextmanager
def _recorded(taps: dict[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Outputs of modules by name, while a forward pass runs within."""
    outputs: dict[str, Tensor] = {}

    def keeper(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda module, given, output: outputs.__setitem__(name, output)

    handles = [module.register_forward_hook(keeper(name)) for name, module in taps.items()]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _dead(output: Tensor) -> Tensor:
    return (output.flatten(0, -2).amax(dim=0) <= 0).double().mean()


def _saturated(output: Tensor, module: nn.Module) -> Tensor:
    centred = 2 * output - 1 if isinstance(module, nn.Sigmoid) else output  # σ(z) = (1 + tanh(z/2)) / 2
    return (centred.abs() > _SATURATED).double().mean()


def _moments(output: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the finite numbers, in two passes; NaN where there are none."""
    count = (output - output + 1).nansum(dtype=torch.float64)  # what is not finite, less itself, is NaN
    mean = _without(output).sum(dtype=torch.float64) / count
    return mean, torch.linalg.vector_norm(_without(output - mean), dtype=torch.float64) / count.sqrt()


def _without(values: Tensor) -> Tensor:
    """The values with 0 in place of what is not finite; far faster than torch.where."""
    return torch.nan_to_num(values, 0, 0, 0)
