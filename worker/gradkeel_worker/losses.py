"""Losses. Each gives one number per row (``each``) and their weighted mean (calling it).

Shapes: prediction [n, outputs]; target float [n, outputs] for regression and binary tasks (0 or 1, prediction
a logit), int64 [n] class indexes for multiclass ones; weight float [n] or None.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gradkeel.contract import config as contract


class Loss(nn.Module):
    """The mean over rows of an elementwise function, or its mean under row weights: Σ wᵢ·lᵢ / Σ wᵢ."""

    def __init__(self, function: Callable[..., Tensor], **parameters: Any) -> None:
        super().__init__()
        self.function, self.parameters_of_function = function, parameters

    def each(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Loss of each row, [n]."""
        losses = self.function(prediction, target, reduction="none", **self.parameters_of_function)
        return losses.flatten(1).mean(1) if losses.ndim > 1 else losses

    def share(self, target: Tensor) -> Tensor | None:
        """Weight of each row in the mean that comes from its class, [n]; None where all count alike."""
        return None

    def forward(self, prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """The scalar loss of a batch."""
        if weight is None:
            loss: Tensor = self.function(prediction, target, **self.parameters_of_function)
            return loss
        share = self.share(target)
        total = (weight if share is None else weight * share).sum()
        # A batch whose weights are all 0 has nothing to learn from: loss 0, gradient 0.
        return (self.each(prediction, target) * weight).sum() / total.clamp_min(1e-30)


class CrossEntropyLoss(Loss):
    """Cross-entropy over classes; class weights also divide the mean, as in torch."""

    def __init__(self, class_weights: Tensor | None, label_smoothing: float) -> None:
        super().__init__(functional.cross_entropy, label_smoothing=label_smoothing)
        self.register_buffer("class_weights", class_weights)
        self.parameters_of_function["weight"] = class_weights

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> CrossEntropyLoss:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.parameters_of_function["weight"] = self.class_weights
        return self

    def share(self, target: Tensor) -> Tensor | None:
        weights = self.class_weights
        return weights[target] if isinstance(weights, Tensor) else None


def huber(config: contract.Huber, class_counts: Sequence[int]) -> Loss:
    return Loss(functional.huber_loss, delta=config.delta)


def smooth_l1(config: contract.SmoothL1, class_counts: Sequence[int]) -> Loss:
    return Loss(functional.smooth_l1_loss, beta=config.beta)


def mse(config: contract.MSE, class_counts: Sequence[int]) -> Loss:
    return Loss(functional.mse_loss)


def mae(config: contract.MAE, class_counts: Sequence[int]) -> Loss:
    return Loss(functional.l1_loss)


def bce(config: contract.BCE, class_counts: Sequence[int]) -> Loss:
    """Binary cross-entropy on a logit; ``pos_weight`` multiplies the positive class's term."""
    positive = None if config.pos_weight is None else torch.tensor(float(config.pos_weight))
    return Loss(functional.binary_cross_entropy_with_logits, pos_weight=positive)


def cross_entropy(config: contract.CrossEntropy, class_counts: Sequence[int]) -> Loss:
    """``class_counts``: training rows of each class, for ``class_weights: balanced``."""
    weights = None
    if config.class_weights == "balanced":
        counts = torch.tensor(class_counts, dtype=torch.float32)
        # A class without training rows weighs nothing rather than infinitely much.
        weights = torch.where(counts > 0, counts.sum() / (len(counts) * counts.clamp_min(1)), 0.0)
    return CrossEntropyLoss(weights, config.label_smoothing)


LOSSES: dict[str, Callable[[Any, Sequence[int]], Loss]] = {
    "huber": huber,
    "smooth_l1": smooth_l1,
    "mse": mse,
    "mae": mae,
    "bce": bce,
    "cross_entropy": cross_entropy,
}
