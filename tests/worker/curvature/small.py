"""Small networks of every family in float64, and their loss as a plain function of one flat vector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gradkeel.contract import config as contract
from gradkeel_worker.curvature import Operator, Problem
from gradkeel_worker.models import MODELS, Inputs

ROWS, COLUMNS, WINDOW = 7, 3, 4

BLOCKS: dict[str, Any] = {
    "linear": contract.Linear(),
    "mlp": contract.MLP(widths=(4, 3), activation="tanh", norm="batch", dropout=0.3),
    "resnet": contract.ResNet(width=3, blocks=1, dropout=0.2),
    "tabm": contract.TabM(members=2, blocks=1, width=3, activation="silu", dropout=0.2),
    "sequential": contract.Sequential(layers=(contract.LinearLayer(units=4), contract.GELU())),
    "gru": contract.GRU(width=2, layers=1),
    "lstm": contract.LSTM(width=2, layers=1),
    "tcn": contract.TCN(width=2, layers=1, kernel=2),
}


def network(kind: str, outputs: int = 1, categories: tuple[tuple[int, int], ...] = ((3, 2),)) -> nn.Module:
    """In float64 and in training mode, as a run leaves it; batch norm has seen some rows."""
    torch.manual_seed(1)
    made = MODELS[kind](BLOCKS[kind], Inputs(COLUMNS, categories), outputs).double()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean = torch.randn_like(module.running_mean)
            module.running_var = torch.rand_like(module.running_var) + 0.5
    return made


def rows(kind: str, seed: int = 0) -> tuple[Tensor, Tensor]:
    """x and c."""
    generator = torch.Generator().manual_seed(seed)
    windowed = isinstance(BLOCKS[kind], contract.Windowed)
    shape = (ROWS, WINDOW) if windowed else (ROWS,)
    x = torch.randn(*shape, COLUMNS, generator=generator, dtype=torch.float64)
    return x, torch.randint(0, 3, (*shape, 1), generator=generator)


def targets(kind: str, outputs: int) -> Tensor:
    """Of a loss: numbers [n, outputs], one column for quantiles, counts, classes as floats or as int64."""
    generator = torch.Generator().manual_seed(3)
    numbers = torch.randn(ROWS, outputs, generator=generator, dtype=torch.float64)
    if kind == "cross_entropy" or (kind == "focal" and outputs > 1):
        return torch.arange(ROWS) % outputs
    if kind in ("bce", "focal"):
        return (numbers > 0).double()
    if kind == "poisson":
        return numbers.abs()
    return numbers[:, :1] if kind == "quantile" else numbers


def flat_loss(problem: Problem) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor], Tensor]:
    """(loss, outputs, the weights as they are): functions of one vector [size]."""
    named = {name: p for name, p in problem.model.named_parameters() if p.requires_grad}
    at = torch.cat([p.detach().flatten() for p in named.values()])

    def outputs(vector: Tensor) -> Tensor:
        pieces = vector.split([p.numel() for p in named.values()])
        held = {name: piece.view_as(p) for (name, p), piece in zip(named.items(), pieces, strict=True)}
        found: Tensor = functional_call(problem.model, held, (problem.x, problem.c))
        return found

    return lambda vector: problem.loss(outputs(vector)), outputs, at


def whole(operator: Operator) -> Tensor:
    """The matrix of an operator, by its products with unit vectors, [size, size]."""
    return torch.stack([operator.product(one) for one in torch.eye(operator.size, dtype=operator.dtype)], 1)


def diagonal(values: Tensor) -> Operator:
    """The operator of a diagonal matrix."""
    return Operator(len(values), lambda vector: values * vector, values.dtype, values.device)
