"""Full tier: which columns of the file move the loss."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gradkeel_worker.probes.activity import Series
from gradkeel_worker.probes.quiet import still
from gradkeel_worker.probes.work import Due, Work

if TYPE_CHECKING:
    from gradkeel_worker.engine.view import StepView

_SHARE = 0.01


def due(work: Work) -> Due | None:
    """A forward and a backward pass over the side batch."""
    return work.affords(work.backward(work.side), _SHARE)


def input_gradient(view: StepView) -> Series:
    """By column of the file, the mean over rows of |∂(a row's loss)/∂input| times the input's standard
    deviation over the rows, summed over the inputs that the column became, a category's embedding and the
    rows of a window: what a row's loss changes by, to first order, where the column moves by one deviation.

    On the side batch, in eval mode. Rows whose gradient is not finite are left out, input by input.
    """
    side = view.side
    if side is None or view.objective is None or not view.columns:
        return {}
    x = side.x.clone().requires_grad_(True)
    with still(view.model), entered_vectors(view.model) as vectors:
        loss = view.objective(side._replace(x=x)) * len(side.y)
        entered = [x, *vectors] if len(vectors) == side.c.shape[-1] else [x]
        found = torch.autograd.grad(loss, entered, allow_unused=True)
    moved = [
        _moves(torch.zeros_like(value) if gradient is None else gradient, value.detach(), len(x))
        for gradient, value in zip(found, entered, strict=True)
    ]
    names = tuple(name for name, (_, c) in view.columns.items() if not c or len(moved) > 1)
    return {"input_gradient": (names, torch.stack([_of(view.columns[name], moved) for name in names]))}


@contextmanager
def entered_vectors(model: nn.Module) -> Iterator[list[Tensor]]:
    """The vectors of embedded categories, as the model makes them within."""
    vectors: list[Tensor] = []
    tables = getattr(model, "embeddings", ())

    def watch(_: nn.Module, __: object, made: Tensor) -> None:
        vectors.append(made if made.requires_grad else made.requires_grad_(True))  # of a frozen table

    hooks = [table.register_forward_hook(watch) for table in tables]
    try:
        yield vectors
    finally:
        for hook in hooks:
            hook.remove()


def _moves(gradient: Tensor, values: Tensor, rows: int) -> Tensor:
    """[d] of both [rows, d] or, of windows, [rows, length, d] or [rows · length, d]."""
    sizes = gradient.double().abs().reshape(rows, -1, gradient.shape[-1]).sum(1)
    spread = _finite_mean((values.double() - _finite_mean(values.double())).square()).sqrt()
    return _finite_mean(sizes) * spread


def _finite_mean(values: Tensor) -> Tensor:
    """Mean of the finite values of each column, of all dimensions but the last; NaN where there are none."""
    flat = values.reshape(-1, values.shape[-1])
    sound = torch.isfinite(flat)
    return torch.where(sound, flat, 0).sum(0) / sound.sum(0)


def _of(places: tuple[tuple[int, ...], tuple[int, ...]], moved: list[Tensor]) -> Tensor:
    x, c = places
    pieces = [moved[0][j].reshape(1) for j in x] + [moved[1 + k] for k in c]
    return torch.cat(pieces).sum()
