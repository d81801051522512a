"""Eigenvalues, traces and densities against the eigenvalues of the whole matrix."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from gradkeel_worker.curvature import Operator, density, hessian, largest_eigenvalue, trace

from .small import diagonal, whole
from .test_operators import made


def matrix(values: list[float], seed: int = 0) -> Operator:
    """A dense symmetric matrix with these eigenvalues."""
    generator = torch.Generator().manual_seed(seed)
    basis, _ = torch.linalg.qr(
        torch.randn(len(values), len(values), generator=generator, dtype=torch.float64)
    )
    dense = basis @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ basis.T
    return Operator(len(values), lambda vector: dense @ vector, torch.float64, torch.device("cpu"))


@pytest.mark.parametrize("model", ["linear", "mlp", "tabm", "gru"])
@pytest.mark.parametrize("loss", ["mse", "huber"])
def test_the_largest_eigenvalue_of_a_networks_hessian(model: str, loss: str) -> None:
    operator = hessian(made(model=model, loss=loss))
    exact = float(torch.linalg.eigvalsh(whole(operator))[-1])
    found = largest_eigenvalue(operator, 0)
    assert found.converged and abs(found.value - exact) <= found.error <= 2e-3 * abs(exact)
    assert largest_eigenvalue(operator, 0) == found


@pytest.mark.parametrize(
    "values",
    [
        [-5.0, -3.0, -1.25],  # all negative: the largest is the one nearest zero
        [-1000.0, -2.0, 0.5],  # a large negative one does not hide a small positive one
        [-1.3] * 5,
        [0.0] * 4,
        [2.0],
        [3.0, 3.0, 3.0, -7.0],
        [1e-7 * k for k in range(1, 30)],
        [1e9, 1.0, -1e9],
    ],
)
def test_the_sign_is_that_of_the_largest_algebraic_one(values: list[float]) -> None:
    found = largest_eigenvalue(matrix(values), 1)
    size = max(map(abs, values))
    # Rounding of the matrix itself: some ten units in the last place of its largest entry.
    assert found.converged and found.value == pytest.approx(max(values), abs=max(found.error, 1e-14 * size))
    assert found.products <= len(values)


def test_too_few_products_are_told() -> None:
    # A thousand eigenvalues between 0 and 1, hardly apart at the upper end: four products cannot do.
    found = largest_eigenvalue(diagonal(torch.linspace(0, 1, 1000, dtype=torch.float64)), 0, most=4)
    assert not found.converged and found.products == 4 and found.error > 0.01
    assert abs(found.value - 1) > 0.01
    more = largest_eigenvalue(diagonal(torch.linspace(0, 1, 1000, dtype=torch.float64)), 0, most=200)
    assert more.converged and more.value == pytest.approx(1, abs=more.error)


def test_orthogonality_is_kept_where_plain_lanczos_would_lose_it() -> None:
    # One eigenvalue far out is found at once; without re-orthogonalisation its copies would follow.
    values = torch.cat([torch.tensor([1e8]), torch.linspace(0, 1, 99)]).double()
    found = density(diagonal(values), 0, draws=1, steps=60)
    assert int((found.values > 1e7).sum()) == 1


def test_what_is_not_finite_is_no_eigenvalue() -> None:
    broken = Operator(5, lambda vector: vector * math.inf, torch.float64, torch.device("cpu"))
    found = largest_eigenvalue(broken, 0)
    assert math.isnan(found.value) and not found.converged
    with pytest.raises(ValueError, match="not finite"):
        density(broken, 0)


@pytest.mark.parametrize("model", ["linear", "mlp", "lstm"])
def test_the_trace_lies_within_its_error_bar(model: str) -> None:
    operator = hessian(made(model=model))
    exact = float(whole(operator).trace())
    value, error = trace(operator, 0, 64)
    # Four standard errors: one run in 16,000 lies outside, and the seed is fixed.
    assert error > 0 and abs(value - exact) <= 4 * error
    # Random signs: the exact variance of one draw is twice the squares beside the diagonal.
    dense = whole(operator)
    deviation = math.sqrt(2 * float((dense**2).sum() - (dense.diagonal() ** 2).sum()))
    assert error == pytest.approx(deviation / 8, rel=0.5)
    assert trace(operator, 0, 64) == (value, error) != trace(operator, 1, 64)


def test_the_trace_of_a_diagonal_matrix_has_no_error() -> None:
    values = torch.arange(6, dtype=torch.float64)
    assert trace(diagonal(values), 0, 3) == (15.0, 0.0)
    value, error = trace(diagonal(values), 0, 1)
    assert value == 15.0 and math.isnan(error)


def test_the_moments_of_a_density_are_those_of_the_eigenvalues() -> None:
    operator = hessian(made(model="gru"))
    eigenvalues = torch.linalg.eigvalsh(whole(operator)).numpy()
    found = density(operator, 0, draws=40, steps=12)
    for power in range(1, 5):
        value, error = found.moment(power)
        assert abs(value - float(np.mean(eigenvalues**power))) <= 4 * error
    assert found.moment(0)[0] == pytest.approx(1)


def test_a_draws_moments_are_exact_to_twice_the_steps() -> None:
    # Gauss quadrature: k nodes give the moments of the drawn vector up to 2k − 1.
    values = torch.linspace(-1, 2, 50, dtype=torch.float64)
    found = density(diagonal(values), 5, draws=1, steps=4)
    vector = torch.randn(50, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    shares: Tensor = vector**2 / (vector @ vector)
    for power in range(8):
        assert found.moment(power)[0] == pytest.approx(float((shares * values**power).sum()), rel=1e-10)
    assert found.moment(8)[0] != pytest.approx(float((shares * values**8).sum()), rel=1e-6)


def test_a_density_shows_where_the_eigenvalues_lie() -> None:
    values = torch.cat([torch.zeros(180), torch.full((15,), 1.0), torch.full((5,), 40.0)]).double()
    found = density(diagonal(values), 0, draws=30)
    # 30 draws of 200 entries: the share of 5 in 200 is known to a few tenths of itself.
    assert found.share(39, 41) == pytest.approx(0.025, rel=0.4)
    assert found.share(-0.1, 0.1) == pytest.approx(0.9, rel=0.05)
    binned = found.binned(np.array([-1.0, 0.5, 20.0, 41.0]))
    assert binned.sum() == pytest.approx(1) and binned[0] == pytest.approx(found.share(-1, 0.5))
