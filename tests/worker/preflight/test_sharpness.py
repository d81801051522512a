"""Gradient, curvature and limits against float64 by hand, on models whose Hessian is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gradkeel.contract.presets import Shape
from gradkeel_worker.data import Table
from gradkeel_worker.engine.build import build
from gradkeel_worker.preflight.arms import Arm, arms_of
from gradkeel_worker.preflight.sharpness import PRECONDITIONERS, Sharpness, mean_square, measure

Json = dict[str, Any]
ROUGH = 0.03  # Lanczos stops at an error of 2 %; float32 products add less than 1e-5
ROWS, PRODUCTS = 512, 24


def arm(loss: Json, optimizer: Json, scale: float = 1.0) -> Arm:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(60, 3)) * [1.0, 3.0, 0.2]
    data = Table.from_arrays({f"x{i}": x[:, i] for i in range(3)} | {"y": scale * (x @ [1.0, -2.0, 0.5] + 4)})
    submitted: Json = {
        "target": "y",
        "preset": "custom",
        "model": {"kind": "linear", "init": {"kind": "constant", "value": 0.1}},
        "prepare": {"numeric": {"kind": "none"}, "target": {"kind": "none"}},
        "loss": loss,
        "optimizer": optimizer,
        "budget": {"batch_size": 8},
    }
    return arms_of(data, submitted, Shape(rows=60, numeric=3, categorical=0))[0]


def measured(one: Arm) -> list[Sharpness]:
    return measure(one, build(one.prepared, one.config, probes=()), ROWS, PRODUCTS)


def by_hand(one: Arm) -> tuple[Any, Any]:
    """Design matrix with the column of the bias, [n, 4], and residuals at the first weights, [n]."""
    x = one.prepared.train.x.astype(np.float64)
    whole = np.hstack([x, np.ones((len(x), 1))])
    return whole, x @ np.full(3, 0.1) - one.prepared.train.y


@pytest.mark.parametrize(("momentum", "room"), [(0.0, 2.0), (0.9, 3.8)])
def test_a_linear_model_under_the_squared_error(momentum: float, room: float) -> None:
    one = arm({"kind": "mse"}, {"kind": "sgd", "momentum": momentum})
    [found] = measured(one)
    x, residual = by_hand(one)
    largest = np.linalg.eigvalsh(2 / len(x) * x.T @ x)[-1]
    assert found.gradient_norm == pytest.approx(np.linalg.norm(2 / len(x) * x.T @ residual), rel=1e-4)
    assert found.lambda_max == pytest.approx(largest, rel=ROUGH) and found.converged
    assert found.gauss_newton_lambda_max == pytest.approx(largest, rel=ROUGH)
    assert found.limit == pytest.approx(room / largest, rel=ROUGH)
    assert found.preconditioned_lambda_max is None and found.rows == len(x)


def test_beyond_delta_only_the_squared_error_bounds_the_rate() -> None:
    one = arm({"kind": "huber", "delta": 0.5}, {"kind": "sgd"}, scale=1000.0)
    huber, squared = measured(one)
    x, residual = by_hand(one)
    near = np.abs(residual) < 0.5
    own = np.linalg.eigvalsh(x[near].T @ x[near] / len(x))[-1] if near.any() else 0.0
    largest = np.linalg.eigvalsh(2 / len(x) * x.T @ x)[-1]
    # of a matrix that is nearly zero only the order is found
    assert huber.lambda_max == pytest.approx(own, rel=ROUGH, abs=1e-3 * largest)
    assert huber.gauss_newton_lambda_max == pytest.approx(largest, rel=ROUGH)
    assert huber.limit == pytest.approx(2 / largest, rel=ROUGH)
    assert (huber.loss, squared.loss) == ("huber", "mse")
    assert squared.lambda_max == pytest.approx(largest, rel=ROUGH)


def gradients(one: Arm) -> Any:
    """Gradients of the first eight batches at the first weights, [8, 4], weights before the bias."""
    run = build(one.prepared, one.config, probes=())
    found = []
    for _, batch in zip(range(8), run.batches.epoch(0), strict=False):
        x = np.hstack([batch.x.double().numpy(), np.ones((len(batch.x), 1))])
        residual = x[:, :3] @ np.full(3, 0.1) - batch.y[:, 0].double().numpy()
        found.append(2 / len(x) * x.T @ residual)
    return np.array(found)


def test_adam_is_bounded_by_the_preconditioned_curvature() -> None:
    one = arm({"kind": "mse"}, {"kind": "adam"})
    square = np.mean(gradients(one) ** 2, axis=0)
    made, batches = mean_square(build(one.prepared, one.config, probes=()))
    assert batches == 6  # 42 training rows in batches of eight
    assert made.double().numpy() == pytest.approx(square, rel=1e-4)  # float32 gradients
    root = 1 / np.sqrt(np.sqrt(square) + 1e-8)
    x, _ = by_hand(one)
    steep = np.linalg.eigvalsh(root[:, None] * (2 / len(x) * x.T @ x) * root)[-1]
    [found] = measured(one)
    assert found.preconditioned_lambda_max == pytest.approx(steep, rel=ROUGH)
    assert found.local_stability_limit == pytest.approx(38 / steep, rel=ROUGH)


def test_what_each_optimizer_divides_by() -> None:
    square = torch.tensor([4.0, 9.0])
    assert PRECONDITIONERS["rmsprop"](square, 5, 1e-3).tolist() == pytest.approx([2.001, 3.001])
    assert PRECONDITIONERS["adagrad"](square, 4, 1e-3).tolist() == pytest.approx([4.001, 6.001])
    assert "sgd" not in PRECONDITIONERS


def test_measuring_draws_nothing_from_torchs_generator_but_what_a_build_does() -> None:
    one = arm({"kind": "huber"}, {"kind": "adamw"})
    first, again = measured(one), measured(one)
    assert first == again
