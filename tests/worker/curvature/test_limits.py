"""Each limit against the engine's own optimizers on a quadratic: 3 % below it they settle, above it they do
not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradkeel.contract import config as contract
from gradkeel_worker.curvature.limits import local_stability_limit
from gradkeel_worker.optimizers import OPTIMIZERS, Optimizer

STEPS, SIZE = 900, 4
SWEEP = settings(max_examples=12, deadline=None, derandomize=True)

DECAY = 1 - 1e-9
"""Of second moments: they stay as they are while a run is watched."""
LONG_AGO = 10**12
"""Steps taken before: every correction for a young average is over."""

STATES: dict[str, Any] = {
    "adam": lambda v: {"moments": [torch.zeros(SIZE), v], "steps": torch.tensor(float(LONG_AGO))},
    "adamw": lambda v: {"moments": [torch.zeros(SIZE), v], "steps": torch.tensor(float(LONG_AGO))},
    "nadam": lambda v: {"moments": [torch.zeros(SIZE), v], "steps": LONG_AGO, "product": 0.0},
    "radam": lambda v: {"moments": [torch.zeros(SIZE), v], "steps": LONG_AGO},
    "rmsprop": lambda v: {"averages": [v, torch.zeros(SIZE)]},
    "adagrad": lambda v: {"sum": v},
}
"""Second moments v that are there already."""

betas = st.sampled_from([0.0, 0.3, 0.9, 0.95])
eigenvalues = st.sampled_from([1e-2, 1.0, 7.0, 1e4])


def quadratic(eigenvalue: float) -> torch.Tensor:
    """A symmetric matrix [4, 4] with this largest eigenvalue, the others below it, one of them negative but
    small."""
    generator = torch.Generator().manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(SIZE, SIZE, generator=generator, dtype=torch.float64))
    return (basis * torch.tensor([0.02, 0.3, 0.5, 1.0]) * eigenvalue) @ basis.T


def growth(config: Any, matrix: torch.Tensor, lr: float, moments: torch.Tensor | None = None) -> float:
    """‖w‖ after STEPS steps on ½ wᵀ matrix w along the steepest direction, over ‖w‖ at the start."""
    values = torch.full((SIZE,), 1e-9)
    start, gradient = float(values.norm()), torch.zeros(SIZE)
    optimizer = OPTIMIZERS[config.kind](config, values, gradient)
    if moments is not None:
        optimizer.load(STATES[config.kind](moments.clone()))
    single = matrix.float()
    for _ in range(STEPS):
        torch.mv(single, values, out=gradient)
        optimizer.step(lr)
        if not math.isfinite(size := float(values.norm())) or size > 1e3 * start:
            return math.inf
    return size / start


def check(
    config: Any, matrix: torch.Tensor, limit: float | None, moments: torch.Tensor | None = None
) -> None:
    assert limit is not None
    assert growth(config, matrix, 0.97 * limit, moments) < 0.9
    assert growth(config, matrix, 1.03 * limit, moments) > 1e2


@SWEEP
@given(
    momentum=betas,
    dampening=st.sampled_from([0.0, 0.5, 0.8]),
    decay=st.sampled_from([0.0, 0.5]),
    eigenvalue=eigenvalues,
)
def test_sgd_and_heavy_ball(momentum: float, dampening: float, decay: float, eigenvalue: float) -> None:
    config = contract.SGD(momentum=momentum, dampening=dampening, weight_decay=decay * eigenvalue)
    check(config, quadratic(eigenvalue), local_stability_limit(config, eigenvalue))


@SWEEP
@given(momentum=st.sampled_from([0.3, 0.9, 0.95]), decay=st.sampled_from([0.0, 0.5]), eigenvalue=eigenvalues)
def test_nesterov(momentum: float, decay: float, eigenvalue: float) -> None:
    config = contract.SGD(momentum=momentum, nesterov=True, weight_decay=decay * eigenvalue)
    check(config, quadratic(eigenvalue), local_stability_limit(config, eigenvalue))


def divided(config: Any, matrix: torch.Tensor) -> tuple[float, torch.Tensor]:
    """The largest eigenvalue of D^-1/2 matrix D^-1/2, D what the optimizer itself says it divides by, and the
    second moments it has."""
    moments = torch.tensor([0.2, 1.0, 3.0, 30.0])
    optimizer: Optimizer = OPTIMIZERS[config.kind](config, torch.zeros(SIZE), torch.zeros(SIZE))
    optimizer.load(STATES[config.kind](moments.clone()))
    divisor = optimizer.divisor()
    assert divisor is not None
    root = divisor.double().rsqrt()
    return float(np.linalg.eigvalsh((root[:, None] * matrix * root).numpy())[-1]), moments


ADAPTIVE: list[Any] = [
    *[contract.Adam(betas=(beta, DECAY)) for beta in (0.0, 0.5, 0.9)],
    *[contract.AdamW(betas=(beta, DECAY), weight_decay=0.0) for beta in (0.0, 0.9)],
    *[contract.NAdam(betas=(beta, DECAY)) for beta in (0.0, 0.5, 0.9)],
    *[contract.RAdam(betas=(beta, DECAY)) for beta in (0.0, 0.9)],
    *[contract.RMSprop(alpha=DECAY, momentum=momentum) for momentum in (0.1, 0.9)],
    contract.Adagrad(),
    contract.Adam(betas=(0.9, DECAY), eps=1.0),
]


@pytest.mark.parametrize("eigenvalue", [0.5, 200.0])
@pytest.mark.parametrize("config", ADAPTIVE, ids=lambda config: config.kind)
def test_optimizers_that_divide(config: Any, eigenvalue: float) -> None:
    matrix = quadratic(eigenvalue)
    steepness, moments = divided(config, matrix)
    # Averages of squares go on growing by the gradients met: those are tiny beside what is there.
    check(config, matrix, local_stability_limit(config, steepness), moments)


@pytest.mark.parametrize("decay", [1.0, 30.0])
@pytest.mark.parametrize("beta", [0.0, 0.9])
def test_decay_beside_the_step(beta: float, decay: float) -> None:
    config = contract.AdamW(betas=(beta, DECAY), weight_decay=decay)
    matrix = quadratic(5.0)
    steepness, moments = divided(config, matrix)
    check(config, matrix, local_stability_limit(config, steepness), moments)


def test_the_limits_in_numbers() -> None:
    assert local_stability_limit(contract.SGD(), 4.0) == 0.5
    assert local_stability_limit(contract.SGD(momentum=0.9), 2.0) == pytest.approx(1.9)
    assert local_stability_limit(contract.SGD(momentum=0.9, nesterov=True), 2.0) == pytest.approx(1.9 / 2.8)
    assert local_stability_limit(contract.SGD(momentum=0.9, dampening=0.5), 2.0) == pytest.approx(3.8)
    assert local_stability_limit(contract.SGD(dampening=0.5), 2.0) == 1.0
    assert local_stability_limit(contract.SGD(weight_decay=1.0), 3.0) == 0.5
    assert local_stability_limit(contract.Adam(), 1.0) == pytest.approx(38)


@pytest.mark.parametrize("kind", contract.OPTIMIZERS)
def test_nothing_bounds_a_step_where_nothing_bends_upwards(kind: str) -> None:
    config = contract.OPTIMIZERS[kind](**({"weight_decay": 0.0} if kind == "adamw" else {}))
    assert local_stability_limit(config, -1.3) is None and local_stability_limit(config, 0.0) is None
