"""Losses against torch's own and against sums written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_pinball_loss
from torch import Tensor, nn
from torch.nn import functional

from gradkeel.contract import config as contract
from gradkeel_worker.diagnosis.best_constant import best_constant_loss
from gradkeel_worker.losses import LOSSES

torch.manual_seed(0)
PREDICTION, TARGET = 2 * torch.randn(50, 1), torch.randn(50, 1)
LOGITS, LABELS = torch.randn(50, 4), torch.randint(0, 4, (50,))
LABELS[LABELS == 3] = 0  # one class without rows
COUNTS = torch.bincount(LABELS, minlength=4).tolist()
BINARY = (torch.rand(50, 1) > 0.5).float()
WEIGHT = torch.rand(50)

CASES: list[tuple[Any, Tensor, Tensor, Any]] = [
    (contract.MSE(), PREDICTION, TARGET, nn.MSELoss()),
    (contract.MAE(), PREDICTION, TARGET, nn.L1Loss()),
    (contract.Huber(delta=0.7), PREDICTION, TARGET, nn.HuberLoss(delta=0.7)),
    (contract.SmoothL1(beta=0.7), PREDICTION, TARGET, nn.SmoothL1Loss(beta=0.7)),
    (contract.BCE(), PREDICTION, BINARY, nn.BCEWithLogitsLoss()),
    (contract.BCE(pos_weight=3.0), PREDICTION, BINARY, nn.BCEWithLogitsLoss(pos_weight=torch.tensor(3.0))),
    (contract.CrossEntropy(), LOGITS, LABELS, nn.CrossEntropyLoss()),
    (contract.Poisson(), PREDICTION, TARGET.abs(), nn.PoissonNLLLoss(log_input=True)),
    (contract.Focal(gamma=0.0), PREDICTION, BINARY, nn.BCEWithLogitsLoss()),
    (contract.Focal(gamma=0.0), LOGITS, LABELS, nn.CrossEntropyLoss()),
    (contract.CrossEntropy(label_smoothing=0.1), LOGITS, LABELS, nn.CrossEntropyLoss(label_smoothing=0.1)),
]


@pytest.mark.parametrize(("config", "prediction", "target", "oracle"), CASES)
def test_as_torch_computes_it(config: Any, prediction: Tensor, target: Tensor, oracle: nn.Module) -> None:
    loss = LOSSES[config.kind](config, COUNTS)
    torch.testing.assert_close(loss(prediction, target), oracle(prediction, target))
    torch.testing.assert_close(loss.each(prediction, target).mean(), oracle(prediction, target))


@pytest.mark.parametrize(("config", "prediction", "target", "oracle"), CASES)
def test_row_weights_make_a_weighted_mean(
    config: Any, prediction: Tensor, target: Tensor, oracle: nn.Module
) -> None:
    loss = LOSSES[config.kind](config, COUNTS)
    each = torch.stack([oracle(prediction[i : i + 1], target[i : i + 1]) for i in range(50)])
    torch.testing.assert_close(loss(prediction, target, weight=WEIGHT), (WEIGHT * each).sum() / WEIGHT.sum())
    torch.testing.assert_close(
        loss(prediction, target, weight=torch.full((50,), 0.3)), loss(prediction, target)
    )


def test_a_batch_that_weighs_nothing_teaches_nothing() -> None:
    prediction = PREDICTION.clone().requires_grad_()
    loss = LOSSES["mse"](contract.MSE(), [])(prediction, TARGET, weight=torch.zeros(50))
    loss.backward()
    assert loss.item() == 0
    assert prediction.grad is not None and not prediction.grad.any()


def test_balanced_classes() -> None:
    loss = LOSSES["cross_entropy"](contract.CrossEntropy(class_weights="balanced"), COUNTS)
    weights = torch.tensor([50 / (4 * count) if count else 0.0 for count in COUNTS])
    oracle = functional.cross_entropy(LOGITS, LABELS, weight=weights)
    torch.testing.assert_close(loss(LOGITS, LABELS), oracle)
    torch.testing.assert_close(loss(LOGITS, LABELS, weight=torch.ones(50)), oracle)
    wide = loss.double()
    assert wide(LOGITS.double(), LABELS).dtype == torch.float64


def test_huber_is_delta_times_smooth_l1() -> None:
    huber = LOSSES["huber"](contract.Huber(delta=2.5), [])
    smooth = LOSSES["smooth_l1"](contract.SmoothL1(beta=2.5), [])
    torch.testing.assert_close(huber(PREDICTION, TARGET), 2.5 * smooth(PREDICTION, TARGET))


# ------------------------------------------------------------------------- closed forms and slopes, float64


def log_cosh(z, y):
    return np.log(np.cosh(z - y))


def poisson(z, y):
    return np.exp(z) - y * z


def focal(z, y):
    p = 1 / (1 + np.exp(-z))
    p = np.where(y == 1, p, 1 - p)
    return -((1 - p) ** 1.7) * np.log(p)


Z = np.linspace(-6, 6, 41)[:, None]
CLOSED = {
    "log_cosh": (contract.LogCosh(), log_cosh, np.full_like(Z, 0.3)),
    "poisson": (contract.Poisson(), poisson, np.linspace(0, 9, 41)[:, None]),
    "focal": (contract.Focal(gamma=1.7), focal, (np.arange(41) % 2.0)[:, None]),
}


@pytest.mark.parametrize("kind", CLOSED)
def test_closed_forms_and_their_slopes_by_finite_differences(kind: str) -> None:
    config, formula, y = CLOSED[kind]
    z = torch.tensor(Z, requires_grad=True)
    each = LOSSES[kind](config, []).each(z, torch.tensor(y))
    np.testing.assert_allclose(each.detach(), formula(Z, y)[:, 0], rtol=1e-12, atol=1e-13)
    each.sum().backward()
    h = 1e-5  # a central difference is wrong by h² and by rounding over h, both about 1e-10 of the size
    slope = (formula(Z + h, y) - formula(Z - h, y)) / (2 * h)
    assert z.grad is not None
    np.testing.assert_allclose(z.grad, slope, rtol=1e-7, atol=1e-8)


def test_focal_over_classes_is_its_formula() -> None:
    logits = LOGITS.double().requires_grad_()
    loss = LOSSES["focal"](contract.Focal(gamma=2.0), COUNTS)
    p = logits.softmax(1)[torch.arange(50), LABELS]
    formula = -((1 - p) ** 2) * p.log()
    torch.testing.assert_close(loss.each(logits, LABELS), formula)
    (slope,) = torch.autograd.grad(loss(logits, LABELS), logits)
    (expected,) = torch.autograd.grad(formula.mean(), logits)
    torch.testing.assert_close(slope, expected)


def test_two_classes_have_the_same_focal_loss_as_one_logit() -> None:
    logit, labels = PREDICTION.double(), BINARY[:, 0].long()
    both = torch.cat([torch.zeros_like(logit), logit], dim=1)
    loss = LOSSES["focal"](contract.Focal(gamma=3.0), [])
    torch.testing.assert_close(loss(both, labels), loss(logit, BINARY.double()))


@pytest.mark.parametrize("size", [1e4, -1e4])
@pytest.mark.parametrize("config", [contract.LogCosh(), contract.Focal(gamma=0.5)])
def test_far_off_outputs_have_finite_losses_and_slopes(config: Any, size: float) -> None:
    z = torch.full((2, 1), size, requires_grad=True)
    loss = LOSSES[config.kind](config, [])(z, torch.tensor([[0.0], [1.0]]))
    loss.backward()
    assert z.grad is not None and torch.isfinite(z.grad).all() and torch.isfinite(loss)


@pytest.mark.parametrize(
    ("config", "y", "classes"),
    [
        (contract.LogCosh(), TARGET.numpy()[:, 0], 2),
        (contract.Poisson(), TARGET.abs().numpy()[:, 0], 2),
        (contract.Focal(gamma=2.0), BINARY.numpy()[:, 0], 2),
        (contract.Focal(gamma=0.0), BINARY.numpy()[:, 0], 2),
    ],
)
def test_the_best_constant_is_the_lowest_of_many(config: Any, y: Any, classes: int) -> None:
    loss = LOSSES[config.kind](config, [])
    target = torch.tensor(y, dtype=torch.float64)[:, None]
    tried = [float(loss(torch.full_like(target, z), target)) for z in np.linspace(-4, 4, 4001)]
    # constants 0.002 apart: the lowest of them is at most curvature · 0.001² / 2 above the best
    assert best_constant_loss(config, y, classes) == pytest.approx(min(tried), abs=2e-6)


def test_the_best_constant_of_focal_over_classes() -> None:
    labels = LABELS.numpy()
    found = best_constant_loss(contract.Focal(gamma=0.0), labels, 4)
    assert found == pytest.approx(best_constant_loss(contract.CrossEntropy(), labels, 4), abs=1e-8)


def test_pinball_is_scikit_learns() -> None:
    """Float64 on both sides; the levels are held in float32, hence 1e-7."""
    levels, weight = (0.05, 0.5, 0.9), WEIGHT.double()
    loss = LOSSES["quantile"](contract.QuantileLoss(levels=levels), []).double()
    outputs = torch.randn(50, 3, dtype=torch.float64)
    y = TARGET.double()

    def oracle(rows: Any = None) -> float:
        each = [
            mean_pinball_loss(y[:, 0], outputs[:, i], alpha=a, sample_weight=rows)
            for i, a in enumerate(levels)
        ]
        return float(np.mean(each))

    assert float(loss(outputs, y)) == pytest.approx(oracle(), rel=1e-7)
    assert float(loss(outputs, y, weight=weight)) == pytest.approx(oracle(weight.numpy()), rel=1e-7)
    assert float(loss.each(outputs, y).mean()) == pytest.approx(oracle(), rel=1e-7)


def test_a_constant_under_the_pinball_loss_settles_at_the_quantiles() -> None:
    y = torch.from_numpy(np.random.default_rng(0).exponential(size=(501, 1)))
    levels = (0.1, 0.5, 0.9)
    config = contract.QuantileLoss(levels=levels)
    loss = LOSSES["quantile"](config, []).double()
    best = torch.from_numpy(np.quantile(y.numpy(), levels)).expand(501, 3)
    lowest = float(loss(best, y))
    for moved in (-0.05, 0.05):
        assert float(loss(best + moved, y)) > lowest
    assert best_constant_loss(config, y.numpy()[:, 0]) == pytest.approx(lowest, rel=1e-7)


@pytest.mark.parametrize("kind", contract.REGRESSION_LOSSES)
def test_of_several_targets_the_loss_is_the_mean_over_them(kind: str) -> None:
    loss = LOSSES[kind](contract.LOSSES[kind](), [])
    prediction, target = torch.randn(50, 3), torch.rand(50, 3)
    each = [loss(prediction[:, [i]], target[:, [i]]) for i in range(3)]
    torch.testing.assert_close(loss(prediction, target), torch.stack(each).mean())
    weighted = [loss(prediction[:, [i]], target[:, [i]], weight=WEIGHT) for i in range(3)]
    torch.testing.assert_close(loss(prediction, target, weight=WEIGHT), torch.stack(weighted).mean())
    constants = [best_constant_loss(contract.LOSSES[kind](), target[:, i].numpy()) for i in range(3)]
    assert best_constant_loss(contract.LOSSES[kind](), target.numpy()) == pytest.approx(np.mean(constants))
