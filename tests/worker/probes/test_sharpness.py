"""Curvature as the full tier's probes measure it, against whole matrices in float64."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gradkeel_worker.engine.build import build
from gradkeel_worker.engine.run import Run
from gradkeel_worker.engine.trainer import fit
from gradkeel_worker.models.ensemble import Ensemble
from gradkeel_worker.probes import sharpness
from gradkeel_worker.probes.work import Work

from ..engine.cases import breast_cancer, diabetes, prepared, series

Json = dict[str, Any]

TINY: Json = {"kind": "mlp", "widths": [4], "activation": "tanh", "dropout": 0.3}
TRIED: dict[str, tuple[Any, Json]] = {
    "mlp": (diabetes, {"model": TINY}),
    "classes": (breast_cancer, {"model": TINY, "loss": {"kind": "bce"}}),
    "batch norm, squared": (diabetes, {"model": TINY | {"norm": "batch"}, "loss": {"kind": "mse"}}),
    "ensemble": (diabetes, {"model": {"kind": "tabm", "members": 2, "blocks": 1, "width": 3}}),
    "gru": (
        series,
        {"model": {"kind": "gru", "width": 3, "window": 3}, "columns": {"order": "t", "group": "g"}},
    ),
}


class BiasFirst(nn.Module):
    """Its parameters stand in another order than in the flat buffer, where matrices come first."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(4))
        self.weight = nn.Parameter(torch.randn(4, 10, generator=torch.Generator().manual_seed(0)) / 3)
        self.out = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.out(torch.tanh(x @ self.weight.T + self.bias))
        return result


def _run(name: str = "mlp", model: nn.Module | None = None, epochs: int = 1, **changes: Any) -> Run:
    table, block = TRIED[name]
    budget = {"epochs": epochs, "batch_size": 64, "patience": 0}
    data = prepared(
        table(), **{"budget": budget, "optimizer": {"kind": "adamw", "lr": 0.01}} | block | changes
    )
    return build(data, data.config, model=model)


def _matrices(run: Run, kept: slice | list[int] = slice(None)) -> tuple[np.ndarray[Any, Any], ...]:
    """Hessian and Gauss–Newton matrix of the side batch's loss, row by row, in ``parameters()`` order."""
    side, twin = run.view.side, copy.deepcopy(run.model).double().eval()
    assert side is not None
    if isinstance(twin, Ensemble):
        twin.apart = True
    parameters = [p for p in twin.parameters() if p.requires_grad]
    y = side.y[kept].double() if side.y.is_floating_point() else side.y[kept]

    def rows(vector: Tensor) -> Tensor:
        found = [
            torch.autograd.grad(one, parameters, retain_graph=True, allow_unused=True)
            for one in vector.flatten()
        ]
        zeros = [torch.zeros_like(p) for p in parameters]
        flat = [
            torch.cat([(z if g is None else g).flatten() for g, z in zip(f, zeros, strict=True)])
            for f in found
        ]
        return torch.stack(flat)

    outputs = twin(side.x[kept].double(), side.c[kept])
    slopes = torch.autograd.grad(run.objective.loss(outputs, y), parameters, create_graph=True)
    hessian = rows(torch.cat([slope.flatten() for slope in slopes]))
    jacobian, given = rows(outputs), outputs.detach().requires_grad_()
    (slope,) = torch.autograd.grad(run.objective.loss(given, y), given, create_graph=True)
    bend = [torch.autograd.grad(one, given, retain_graph=True)[0].flatten() for one in slope.flatten()]
    return hessian.numpy(), (jacobian.T @ torch.stack(bend) @ jacobian).numpy()


def _told(found: Json, key: str) -> dict[str, float]:
    names, values = found[key]
    return dict(zip(names, values.tolist(), strict=True))


def _check(told: dict[str, float], matrix: np.ndarray[Any, Any]) -> None:
    values = np.linalg.eigvalsh(matrix)
    # An eigenvalue lies within the bar; where it converged, the largest one does. float32 adds 1e-5 of it.
    room = told["error"] + 1e-5 * np.abs(values).max()
    assert np.abs(values - told["value"]).min() <= room
    assert told["converged"] == 1
    assert abs(values[-1] - told["value"]) <= room


@pytest.mark.parametrize("name", TRIED)
def test_largest_eigenvalues_against_whole_matrices(name: str) -> None:
    run = _run(name)
    hessian, gauss_newton = _matrices(run)
    _check(_told(sharpness.lambda_max(run.view), "lambda_max"), hessian)
    _check(_told(sharpness.gauss_newton_lambda_max(run.view), "gauss_newton_lambda_max"), gauss_newton)


@pytest.mark.parametrize("model", [None, BiasFirst()])
def test_the_preconditioned_one_divides_by_what_the_optimizer_divides_by(model: nn.Module | None) -> None:
    run = _run(model=model, epochs=2)
    assert sharpness.preconditioned_lambda_max(run.view) == {}  # no moments yet
    fit(run)
    state = run.optimizer.state()
    second = state["moments"][1].double() / (1 - 0.999 ** float(state["steps"]))
    scale, of, start = second.sqrt() + 1e-8, {}, 0
    for tensor in run.parameters.tensors:
        of[id(tensor)] = scale[start : start + tensor.numel()]
        start += tensor.numel()
    root = torch.cat([of[id(p)] for p in run.model.parameters()]).rsqrt().numpy()
    if model is not None:
        assert [id(p) for p in run.model.parameters()] != [id(t) for t in run.parameters.tensors]
    hessian, _ = _matrices(run)
    found = _told(sharpness.preconditioned_lambda_max(run.view), "preconditioned_lambda_max")
    _check(found, root[:, None] * hessian * root)


def test_sgd_divides_by_nothing() -> None:
    run = _run(optimizer={"kind": "sgd", "lr": 0.01})
    fit(run)
    assert sharpness.preconditioned_lambda_max(run.view) == {}


def test_the_trace_lies_within_its_error_bar() -> None:
    run = _run()
    hessian, _ = _matrices(run)
    told = _told(sharpness.hessian_trace(run.view), "hessian_trace")
    assert abs(told["value"] - np.trace(hessian)) < 4 * told["error"]
    assert told["error"] < abs(np.trace(hessian))


def test_the_density_counts_eigenvalues_by_fixed_bins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharpness, "DENSITY_DRAWS", 20)
    monkeypatch.setattr(sharpness, "DENSITY_PRODUCTS", 60)
    run = _run()
    hessian, _ = _matrices(run)
    names, shares = sharpness.hessian_density(run.view)["hessian_density"]
    counts, _ = np.histogram(np.linalg.eigvalsh(hessian), bins=np.array(sharpness.EDGES))
    exact = counts / len(hessian)
    assert float(shares.sum()) == pytest.approx(1, abs=1e-6)
    # 20 draws: a share of one half over some 50 directions is told to about 0.5 / sqrt(20 · 50 / 2)
    np.testing.assert_allclose(shares, exact, atol=0.07)
    assert len(names) == len(sharpness.EDGES) - 1
    for name, low, high in zip(names, sharpness.EDGES[:-1], sharpness.EDGES[1:], strict=True):
        edge = low if low > 0 else high if high < 0 else 0.0
        far = float(name.lstrip("<>="))
        assert far in (low, high) if edge else far == 0


def test_rows_that_are_not_finite_are_left_out() -> None:
    run = _run()
    assert run.view.side is not None
    run.view.side.x[3, 1] = math.nan
    kept = [i for i in range(len(run.view.side.y)) if i != 3]
    hessian, _ = _matrices(run, kept)
    _check(_told(sharpness.lambda_max(run.view), "lambda_max"), hessian)
    run.view.side.x[:] = math.nan
    assert sharpness.lambda_max(run.view) == {}


def test_weights_that_are_not_finite_are_told_as_such() -> None:
    run = _run()
    with torch.no_grad():
        run.parameters.values[0] = math.nan
    told = _told(sharpness.lambda_max(run.view), "lambda_max")
    assert math.isnan(told["value"])
    assert told["converged"] == 0
    assert math.isnan(float(sharpness.hessian_density(run.view)["hessian_density"][1][0]))


def test_a_huge_model_is_spared() -> None:
    assert sharpness.due_eigenvalue(Work(10_000, 256, 128, 1_900_000, 4)) is not None
    assert sharpness.due_eigenvalue(Work(10_000, 256, 128, 2_100_000, 4)) is None
