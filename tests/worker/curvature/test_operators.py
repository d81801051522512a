"""Products with curvature matrices against the matrices themselves, from torch's exact derivatives."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian as exact_hessian
from torch.autograd.functional import jacobian as exact_jacobian
from torch.nn import functional

from gradkeel.contract import config as contract
from gradkeel_worker.curvature import Problem, gauss_newton, hessian, preconditioned, shifted
from gradkeel_worker.losses import LOSSES

from .small import flat_loss, network, rows, targets, whole

EXACT: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-11}  # float64 sums of some hundred terms of size 1
OUTPUTS = {"bce": 1, "focal": 1, "poisson": 1, "cross_entropy": 3, "quantile": 2}
OPTIONS: dict[str, dict[str, Any]] = {
    "quantile": {"levels": (0.1, 0.9)},
    "huber": {"delta": 0.5},
    "cross_entropy": {"class_weights": "balanced", "label_smoothing": 0.1},
}


def made(
    model: str = "mlp",
    loss: str = "mse",
    outputs: int | None = None,
    weighted: bool = False,
    categories: tuple[tuple[int, int], ...] = ((3, 2),),
) -> Problem:
    count = outputs or OUTPUTS.get(loss, 2)
    block = contract.LOSSES[loss](**OPTIONS.get(loss, {}))
    loss_fn = LOSSES[loss](block, [2, 3, 2]).double()
    x, c = rows(model)
    weight = torch.linspace(0.2, 2, len(x), dtype=torch.float64) if weighted else None
    return Problem(network(model, count, categories), loss_fn, x, c, targets(loss, count), weight)


def full_gauss_newton(problem: Problem, bend: Tensor | None = None) -> Tensor:
    """Jᵀ B J of the whole Jacobian, B the loss's exact Hessian in the outputs unless given."""
    _, outputs, at = flat_loss(problem)
    jacobian = exact_jacobian(outputs, at).flatten(0, -2)
    shape = problem.outputs.shape
    if bend is None:
        bend = exact_hessian(lambda z: problem.loss(z.view(shape)), problem.outputs.detach().flatten())
    return jacobian.T @ bend @ jacobian


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", contract.LOSSES)
def test_of_every_loss(loss: str, weighted: bool) -> None:
    problem = made(loss=loss, weighted=weighted)
    loss_of, _, at = flat_loss(problem)
    torch.testing.assert_close(whole(hessian(problem)), exact_hessian(loss_of, at), **EXACT)
    torch.testing.assert_close(whole(gauss_newton(problem)), full_gauss_newton(problem), **EXACT)


@pytest.mark.parametrize("model", contract.MODELS)
def test_of_every_model(model: str) -> None:
    problem = made(model=model)
    loss_of, _, at = flat_loss(problem)
    torch.testing.assert_close(whole(hessian(problem)), exact_hessian(loss_of, at), **EXACT)
    torch.testing.assert_close(whole(gauss_newton(problem)), full_gauss_newton(problem), **EXACT)


def test_a_fixed_second_derivative_stands_for_the_losses_own() -> None:
    problem = made(loss="mae", outputs=2)
    count = problem.outputs.numel()
    bend = 3.0 / len(problem.x) * torch.eye(count, dtype=torch.float64)
    torch.testing.assert_close(whole(gauss_newton(problem, 3.0)), full_gauss_newton(problem, bend), **EXACT)
    ensemble = made(model="tabm", loss="mae", outputs=1)
    members = ensemble.outputs.numel()  # 7 rows of 2 members
    bend = torch.eye(members, dtype=torch.float64) / members
    torch.testing.assert_close(whole(gauss_newton(ensemble, 1.0)), full_gauss_newton(ensemble, bend), **EXACT)


def test_the_squared_losses_gauss_newton_is_what_a_linear_model_has() -> None:
    problem = made(model="linear", outputs=2, categories=())
    torch.testing.assert_close(whole(gauss_newton(problem)), whole(hessian(problem)), **EXACT)


def test_preconditioned_and_shifted() -> None:
    operator = hessian(made())
    matrix = whole(operator)
    scale = torch.rand(operator.size, dtype=torch.float64) + 0.1
    expected = matrix / (scale.sqrt()[:, None] * scale.sqrt()[None, :])
    torch.testing.assert_close(whole(preconditioned(operator, scale)), expected, **EXACT)
    moved = matrix + 0.3 * torch.eye(operator.size, dtype=torch.float64)
    torch.testing.assert_close(whole(shifted(operator, 0.3)), moved, **EXACT)
    assert shifted(operator, 0.0) is operator


def test_a_recurrent_network_in_float32_too() -> None:
    # float32 recurrent layers take another way through torch than float64 ones
    exact = made(model="lstm")
    network = copy.deepcopy(exact.model).float()
    single = Problem(network, exact.loss_fn, exact.x.float(), exact.c, exact.y.float())
    matrix = whole(hessian(exact))
    torch.testing.assert_close(
        whole(hessian(single)).double(), matrix, rtol=0, atol=1e-5 * float(matrix.abs().max())
    )


def test_what_is_looked_at_stays_as_it_was() -> None:
    model = network("mlp")
    model.train()
    x, c = rows("mlp")
    functional.mse_loss(model(x, c), x[:, :1]).backward()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    slopes = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    generator = torch.get_rng_state()
    problem = Problem(model, functional.mse_loss, x, c, x[:, :1])
    for operator in (hessian(problem), gauss_newton(problem)):
        operator.product(torch.ones(operator.size, dtype=torch.float64))
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    for parameter, slope in zip(model.parameters(), slopes, strict=True):
        assert slope is not None and parameter.grad is not None and torch.equal(parameter.grad, slope)
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(module.training for module in model.modules())


def test_frozen_parameters_are_left_out() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1)).double()
    model[0].requires_grad_(False)
    x = torch.randn(5, 3, dtype=torch.float64)

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x: Tensor, c: Tensor) -> Tensor:
            found: Tensor = self.inner(x)
            return found

    problem = Problem(Plain(), functional.mse_loss, x, x, x[:, :1])
    assert problem.size == 3 and whole(hessian(problem)).shape == (3, 3)
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="no trainable parameter"):
        Problem(Plain(), functional.mse_loss, x, x, x[:, :1])


def test_a_loss_without_curvature_has_products_of_zero() -> None:
    problem = made(model="linear", loss="mae", categories=())
    assert not whole(hessian(problem)).any() and not whole(gauss_newton(problem)).any()
    assert problem.gradient().any()
