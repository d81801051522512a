"""Losses against torch's own and against sums written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gradkeel.contract import config as contract
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
