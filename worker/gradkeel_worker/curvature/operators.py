"""Products of curvature matrices with vectors, without the matrices.

After Pearlmutter 1994 (Hessian) and Schraudolph 2002 (Gauss–Newton); both by two backward passes, which every
layer here has, recurrent ones included.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from gradkeel_worker.models.ensemble import members_apart


@dataclass(frozen=True)
class Operator:
    """A symmetric matrix [size, size] by its products: ``product(vector [size]) -> [size]``."""

    size: int
    product: Callable[[Tensor], Tensor]
    dtype: torch.dtype
    device: torch.device


class Problem:
    """The mean loss of fixed rows as a function of a model's trainable parameters, in ``parameters()`` order.

    It works on a copy in eval mode (dropout off, batch norm by its running moments), in the dtype the model
    has: the model, its gradients and torch's generators stay as they are. Of an ensemble it is the mean of
    the members' own losses, as in training.

    x, c, y, weight: as the training loss takes them. Raises ValueError without a trainable parameter.
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: Callable[..., Tensor],
        x: Tensor,
        c: Tensor,
        y: Tensor,
        weight: Tensor | None = None,
    ) -> None:
        self.model = members_apart(copy.deepcopy(model).eval())
        self.loss_fn, self.x, self.c, self.y, self.weight = loss_fn, x, c, y, weight
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.size = sum(p.numel() for p in self.parameters)
        if not self.size:
            raise ValueError("the model has no trainable parameter")

    @cached_property
    def outputs(self) -> Tensor:
        """The model's outputs with their graph, [n, outputs] or [n, members, outputs]."""
        # cuDNN's recurrent layers cannot be differentiated twice, torch's own can.
        own_layers = torch.backends.cudnn.flags(enabled=False) if self.x.is_cuda else contextlib.nullcontext()
        with torch.enable_grad(), own_layers:
            outputs: Tensor = self.model(self.x, self.c)
        return outputs

    def loss(self, outputs: Tensor) -> Tensor:
        """The scalar loss of outputs."""
        if self.weight is None:
            return self.loss_fn(outputs, self.y)
        return self.loss_fn(outputs, self.y, weight=self.weight)

    @cached_property
    def slopes(self) -> tuple[Tensor | None, ...]:
        """The loss's gradient by parameter, with its graph; None where the loss does not depend on one."""
        with torch.enable_grad():
            loss = self.loss(self.outputs)
            return torch.autograd.grad(
                loss, self.parameters, create_graph=True, retain_graph=True, allow_unused=True
            )

    def gradient(self) -> Tensor:
        """The loss's gradient, [size]."""
        return self.flat(self.slopes).detach()

    def flat(self, pieces: Sequence[Tensor | None]) -> Tensor:
        """One piece per parameter as a vector [size]; zeros for None."""
        pairs = zip(pieces, self.parameters, strict=True)
        return torch.cat([(torch.zeros_like(p) if one is None else one).flatten() for one, p in pairs])

    def pieces(self, vector: Tensor) -> list[Tensor]:
        """A vector [size] as one piece per parameter."""
        parts = torch.split(vector, [p.numel() for p in self.parameters])
        return [part.view_as(p) for part, p in zip(parts, self.parameters, strict=True)]

    def back(self, roots: Sequence[Tensor | None], along: Sequence[Tensor]) -> Tensor:
        """Σ over roots of (∂root/∂parameters)ᵀ · along, [size]; roots without a graph add nothing."""
        with torch.enable_grad():
            product = dot(roots, along)
        if product is None:
            return torch.zeros(self.size, dtype=self.parameters[0].dtype, device=self.parameters[0].device)
        return self.flat(
            torch.autograd.grad(product, self.parameters, retain_graph=True, allow_unused=True)
        ).detach()

    def operator(self, product: Callable[[Tensor], Tensor]) -> Operator:
        first = self.parameters[0]
        return Operator(self.size, product, first.dtype, first.device)


def hessian(problem: Problem) -> Operator:
    """H = ∂²loss/∂parameters², by a backward pass through the gradient."""
    return problem.operator(lambda vector: problem.back(problem.slopes, problem.pieces(vector)))


def gauss_newton(problem: Problem, second_derivative: float | None = None) -> Operator:
    """Jᵀ B J, J the Jacobian of the outputs and B the loss's own Hessian in them: what is left of H where
    the outputs are linear in the parameters, never below zero for a loss that is convex in its outputs.

    ``second_derivative`` s: (s/m)·I in the place of B, m the number of rows, times members.
    """
    bend = _bend_of(problem) if second_derivative is None else _fixed_bend(problem, second_derivative)
    forward = _forward(problem)
    return problem.operator(lambda vector: problem.back([problem.outputs], [bend(forward(vector))]))


def preconditioned(operator: Operator, scale: Tensor) -> Operator:
    """D^-1/2 A D^-1/2 of an operator A; ``scale`` [size] > 0 is the diagonal of D."""
    root = scale.to(operator.dtype).to(operator.device).rsqrt()
    return Operator(
        operator.size, lambda vector: root * operator.product(root * vector), operator.dtype, operator.device
    )


def shifted(operator: Operator, by: float) -> Operator:
    """A + by·I of an operator A, as weight decay in the gradient adds it."""
    if not by:
        return operator
    return Operator(
        operator.size,
        lambda vector: operator.product(vector) + by * vector,
        operator.dtype,
        operator.device,
    )


def dot(roots: Sequence[Tensor | None], along: Sequence[Tensor]) -> Tensor | None:
    """Σ root · along over the roots with a graph; None where none has one.

    torch.autograd.grad could be given ``along``, but then imports 40 MB of symbolic algebra first.
    """
    pairs = zip(roots, along, strict=True)
    products = [(root * one).sum() for root, one in pairs if root is not None and root.requires_grad]
    return torch.stack(products).sum() if products else None


def _forward(problem: Problem) -> Callable[[Tensor], Tensor]:
    """J · vector by two backward passes: the derivative of Jᵀu in u, applied to the vector."""
    with torch.enable_grad():
        along = torch.zeros_like(problem.outputs, requires_grad=True)
        product = (problem.outputs * along).sum()
        pulled = torch.autograd.grad(product, problem.parameters, create_graph=True, allow_unused=True)

    def forward(vector: Tensor) -> Tensor:
        with torch.enable_grad():
            pushed = dot(pulled, problem.pieces(vector))
        return _slope(pushed, along)

    return forward


def _bend_of(problem: Problem) -> Callable[[Tensor], Tensor]:
    """B · vector, B the loss's Hessian in the outputs."""
    with torch.enable_grad():
        outputs = problem.outputs.detach().requires_grad_()
        (slope,) = torch.autograd.grad(problem.loss(outputs), outputs, create_graph=True)

    def bend(vector: Tensor) -> Tensor:
        with torch.enable_grad():
            pushed = dot([slope], [vector])
        return _slope(pushed, outputs)

    return bend


def _slope(value: Tensor | None, of: Tensor) -> Tensor:
    """∂value/∂of; zeros where there is none, as of the absolute error's slope, which is a sign."""
    if value is None:
        return torch.zeros_like(of)
    (found,) = torch.autograd.grad(value, of, retain_graph=True, allow_unused=True)
    # A sign's derivative comes as torch's stand-in for zeros, which calls for its compiler when used.
    empty = found is None or found._is_zerotensor()
    return torch.zeros_like(of) if empty else found.detach()


def _fixed_bend(problem: Problem, second_derivative: float) -> Callable[[Tensor], Tensor]:
    shape: Any = problem.outputs.shape
    losses = shape[0] * (shape[1] if len(shape) == 3 else 1)
    return lambda vector: second_derivative / losses * vector
