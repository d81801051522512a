"""Optimizers over one flat parameter buffer: one fused call a step.

Each is checked against torch.optim's optimizer of the same name. ``values`` and ``gradient`` are float
tensors [n] that the model's parameters and their gradients are views of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from gradkeel.contract import config as contract


class Optimizer(Protocol):
    """Changes ``values`` in place from ``gradient``; state that does not exist yet starts at zero."""

    def step(self, lr: float) -> None: ...

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: the tensors themselves, not copies, and plain values."""
        ...

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a ``state``."""
        ...

    def divisor(self) -> Tensor | None:
        """What a step divides each entry of the gradient by, beside 1 / lr, float [n], from the moments as
        they are; None where it divides by nothing, and before there are any."""
        ...


class SGD:
    """torch.optim.SGD."""

    def __init__(self, config: contract.SGD, values: Tensor, gradient: Tensor) -> None:
        self._values, self._gradient = [values], [gradient]
        self._momentum = [torch.zeros_like(values)] if config.momentum else []
        self._first = True
        self._constants: dict[str, Any] = {
            "weight_decay": config.weight_decay,
            "momentum": config.momentum,
            "dampening": config.dampening,
            "nesterov": config.nesterov,
        }

    def step(self, lr: float) -> None:
        torch._fused_sgd_(
            self._values,
            self._gradient,
            self._momentum,
            lr=lr,
            maximize=False,
            is_first_step=self._first,
            **self._constants,
        )
        self._first = False

    def state(self) -> dict[str, Any]:
        return {"momentum": list(self._momentum), "first": self._first}

    def load(self, state: dict[str, Any]) -> None:
        _fill(self._momentum, state["momentum"])
        self._first = state["first"]

    def divisor(self) -> Tensor | None:
        return None


class Adam:
    """torch.optim.Adam, and torch.optim.AdamW through ``decoupled``."""

    def __init__(
        self,
        config: contract.Adam | contract.AdamW,
        values: Tensor,
        gradient: Tensor,
        *,
        decoupled: bool = False,
    ) -> None:
        self._fused = torch._fused_adamw_ if decoupled else torch._fused_adam_
        self._steps = torch.zeros((), device=values.device)
        self._moments = [torch.zeros_like(values), torch.zeros_like(values)]
        first, second = self._moments
        self._state: tuple[list[Tensor], ...] = ([values], [gradient], [first], [second], [], [self._steps])
        self._constants: dict[str, Any] = {
            "beta1": config.betas[0],
            "beta2": config.betas[1],
            "weight_decay": config.weight_decay,
            "eps": config.eps,
            "amsgrad": False,
            "maximize": False,
        }

    def step(self, lr: float) -> None:
        self._steps += 1
        self._fused(*self._state, lr=lr, **self._constants)

    def state(self) -> dict[str, Any]:
        return {"moments": self._moments, "steps": self._steps}

    def load(self, state: dict[str, Any]) -> None:
        _fill([*self._moments, self._steps], [*state["moments"], state["steps"]])

    def divisor(self) -> Tensor | None:
        steps = float(self._steps)
        if not steps:
            return None
        whole = 1 - self._constants["beta2"] ** steps
        return self._moments[1].div(whole).sqrt_().add_(self._constants["eps"])


class AdamW(Adam):
    """torch.optim.AdamW."""

    def __init__(self, config: contract.AdamW, values: Tensor, gradient: Tensor) -> None:
        super().__init__(config, values, gradient, decoupled=True)


class NAdam:
    """torch.optim.NAdam. torch has no fused kernel for it."""

    def __init__(self, config: contract.NAdam, values: Tensor, gradient: Tensor) -> None:
        self._config, self._values, self._gradient = config, values, gradient
        self._moments = [torch.zeros_like(values), torch.zeros_like(values)]
        self._steps, self._product = 0, 1.0

    def step(self, lr: float) -> None:
        config, (first, second), gradient = self._config, self._moments, self._gradient
        if config.weight_decay:
            gradient = gradient.add(self._values, alpha=config.weight_decay)
        self._steps += 1
        momentum, following = self._momentum(self._steps), self._momentum(self._steps + 1)
        self._product *= momentum
        _blend(first, second, gradient, config.betas)
        scale = second.div(1 - config.betas[1] ** self._steps).sqrt_().add_(config.eps)
        self._values.addcdiv_(gradient, scale, value=-lr * (1 - momentum) / (1 - self._product))
        self._values.addcdiv_(first, scale, value=-lr * following / (1 - self._product * following))

    def _momentum(self, step: int) -> float:
        return float(self._config.betas[0] * (1 - 0.5 * 0.96 ** (step * self._config.momentum_decay)))

    def state(self) -> dict[str, Any]:
        return {"moments": self._moments, "steps": self._steps, "product": self._product}

    def load(self, state: dict[str, Any]) -> None:
        _fill(self._moments, state["moments"])
        self._steps, self._product = state["steps"], state["product"]

    def divisor(self) -> Tensor | None:
        if not self._steps:
            return None
        return self._moments[1].div(1 - self._config.betas[1] ** self._steps).sqrt_().add_(self._config.eps)


class RAdam:
    """torch.optim.RAdam. torch has no fused kernel for it."""

    def __init__(self, config: contract.RAdam, values: Tensor, gradient: Tensor) -> None:
        self._config, self._values, self._gradient = config, values, gradient
        self._moments = [torch.zeros_like(values), torch.zeros_like(values)]
        self._steps = 0

    def step(self, lr: float) -> None:
        config, (first, second), gradient = self._config, self._moments, self._gradient
        if config.weight_decay:
            gradient = gradient.add(self._values, alpha=config.weight_decay)
        self._steps += 1
        _blend(first, second, gradient, config.betas)
        lr = lr / (1 - config.betas[0] ** self._steps)
        factor = rectification(config.betas[1], self._steps)
        if factor is None:
            self._values.add_(first, alpha=-lr)
            return
        whole = math.sqrt(1 - config.betas[1] ** self._steps)
        self._values.addcdiv_(first, second.sqrt().add_(config.eps), value=-lr * factor * whole)

    def state(self) -> dict[str, Any]:
        return {"moments": self._moments, "steps": self._steps}

    def load(self, state: dict[str, Any]) -> None:
        _fill(self._moments, state["moments"])
        self._steps = state["steps"]

    def divisor(self) -> Tensor | None:
        factor = rectification(self._config.betas[1], self._steps) if self._steps else None
        if factor is None:
            return None
        whole = math.sqrt(1 - self._config.betas[1] ** self._steps)
        return self._moments[1].sqrt().add_(self._config.eps).div_(factor * whole)


def rectification(beta: float, step: int) -> float | None:
    """Factor r of a step, 1-based, at a decay ``beta`` of the second moment; None where the variance of the
    step size cannot be told yet (Liu et al. 2020, algorithm 2).
    """
    longest = 2 / (1 - beta) - 1
    length = longest - 2 * step * beta**step / (1 - beta**step)
    if length <= 5:  # as torch has it; the paper says 4
        return None
    rising = (length - 4) * (length - 2) * longest
    return math.sqrt(rising / ((longest - 4) * (longest - 2) * length))


def _blend(first: Tensor, second: Tensor, gradient: Tensor, betas: Sequence[float]) -> None:
    """The two moments of Adam, in place."""
    first.lerp_(gradient, 1 - betas[0])
    second.mul_(betas[1]).addcmul_(gradient, gradient, value=1 - betas[1])


class RMSprop:
    """torch.optim.RMSprop (not centred). torch has no fused kernel for it."""

    def __init__(self, config: contract.RMSprop, values: Tensor, gradient: Tensor) -> None:
        self._config, self._values, self._gradient = config, values, gradient
        self._square = torch.zeros_like(values)
        self._momentum = torch.zeros_like(values) if config.momentum else None

    def step(self, lr: float) -> None:
        config, gradient = self._config, self._gradient
        if config.weight_decay:
            gradient = gradient.add(self._values, alpha=config.weight_decay)
        self._square.mul_(config.alpha).addcmul_(gradient, gradient, value=1 - config.alpha)
        scale = self._square.sqrt().add_(config.eps)
        if self._momentum is None:
            self._values.addcdiv_(gradient, scale, value=-lr)
        else:
            self._momentum.mul_(config.momentum).addcdiv_(gradient, scale)
            self._values.add_(self._momentum, alpha=-lr)

    def state(self) -> dict[str, Any]:
        return {"averages": [self._square] if self._momentum is None else [self._square, self._momentum]}

    def load(self, state: dict[str, Any]) -> None:
        _fill(self.state()["averages"], state["averages"])

    def divisor(self) -> Tensor | None:
        return self._square.sqrt().add_(self._config.eps) if self._square.any() else None


class Adagrad:
    """torch.optim.Adagrad without learning-rate decay."""

    def __init__(self, config: contract.Adagrad, values: Tensor, gradient: Tensor) -> None:
        self._config, self._values, self._gradient = config, values, gradient
        self._sum = torch.zeros_like(values)

    def step(self, lr: float) -> None:
        gradient = self._gradient
        if self._config.weight_decay:
            gradient = gradient.add(self._values, alpha=self._config.weight_decay)
        self._sum.addcmul_(gradient, gradient)
        self._values.addcdiv_(gradient, self._sum.sqrt().add_(self._config.eps), value=-lr)

    def state(self) -> dict[str, Any]:
        return {"sum": self._sum}

    def load(self, state: dict[str, Any]) -> None:
        _fill([self._sum], [state["sum"]])

    def divisor(self) -> Tensor | None:
        return self._sum.sqrt().add_(self._config.eps) if self._sum.any() else None


def _fill(tensors: Sequence[Tensor], kept: Sequence[Any]) -> None:
    for tensor, values in zip(tensors, kept, strict=True):
        tensor.copy_(torch.as_tensor(values))


OPTIMIZERS: dict[str, Callable[[Any, Tensor, Tensor], Optimizer]] = {
    "sgd": SGD,
    "adam": Adam,
    "adamw": AdamW,
    "nadam": NAdam,
    "radam": RAdam,
    "rmsprop": RMSprop,
    "adagrad": Adagrad,
}
