"""Losses. Each gives one number per row (``each``) and their weighted mean (calling it).

Shapes: prediction [n, outputs]; target float [n, outputs] for regression and binary tasks (0 or 1, prediction
a logit), float [n, 1] for quantiles, int64 [n] class indexes for multiclass ones; weight float [n] or None.
"""

from __future__ import annotations

import math
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
        """The scalar loss of a batch; of a prediction [n, members, outputs], the mean over the members."""
        if prediction.ndim == 3:
            prediction, target, weight = of_members(prediction, target, weight)
        if weight is None:
            loss: Tensor = self.function(prediction, target, **self.parameters_of_function)
            return loss
        share = self.share(target)
        total = (weight if share is None else weight * share).sum()
        # A batch whose weights are all 0 has nothing to learn from: loss 0, gradient 0.
        return (self.each(prediction, target) * weight).sum() / total.clamp_min(1e-30)


def of_members(
    prediction: Tensor, target: Tensor, weight: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """A prediction [n, members, outputs] as n · members rows, each with its row's target and weight."""
    members = prediction.shape[1]
    weights = None if weight is None else weight.repeat_interleave(members, 0)
    return prediction.flatten(0, 1), target.repeat_interleave(members, 0), weights


class OwnLossOfMembers:
    """A caller's own loss, given each member's prediction as a row of its own."""

    def __init__(self, loss: Callable[..., Tensor]) -> None:
        self.loss = loss

    def __call__(self, prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        if prediction.ndim == 3:
            prediction, target, weight = of_members(prediction, target, weight)
        return (
            self.loss(prediction, target) if weight is None else self.loss(prediction, target, weight=weight)
        )


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


class PinballLoss(Loss):
    """The mean over levels of τ·r⁺ + (1 − τ)·r⁻, r = target − prediction; prediction [n, levels], target
    [n, 1]."""

    levels: Tensor

    def __init__(self, levels: Sequence[float]) -> None:
        super().__init__(self._pinball)
        self.register_buffer("levels", torch.tensor(levels, dtype=torch.float32))

    def _pinball(self, prediction: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
        residual = target - prediction
        losses = torch.maximum(self.levels * residual, (self.levels - 1) * residual)
        return losses if reduction == "none" else losses.mean()


def huber(config: contract.Huber, class_counts: Sequence[int]) -> Loss:
    """Raises ValueError for delta "auto", which engine/pilot.py turns into a number."""
    return Loss(functional.huber_loss, delta=float(config.delta))


def smooth_l1(config: contract.SmoothL1, class_counts: Sequence[int]) -> Loss:
    return Loss(functional.smooth_l1_loss, beta=config.beta)


def mse(config: contract.MSE, class_counts: Sequence[int]) -> Loss:
    return Loss(functional.mse_loss)


def mae(config: contract.MAE, class_counts: Sequence[int]) -> Loss:
    return Loss(functional.l1_loss)


def log_cosh_each(prediction: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """log(cosh(r)) as r + log(1 + exp(−2r)) − log 2, which does not overflow and bends at 0 as it should."""
    residual = prediction - target
    losses = residual + functional.softplus(-2 * residual) - math.log(2)
    return losses if reduction == "none" else losses.mean()


def focal_each(prediction: Tensor, target: Tensor, gamma: float, reduction: str = "mean") -> Tensor:
    """(1 − p)^gamma · (−log p) of the row's class, by the logarithms of p and of 1 − p."""
    row = _focal_classes if prediction.shape[1] > 1 else _focal_binary
    losses = row(prediction, target, gamma)
    return losses if reduction == "none" else losses.mean()


def _focal_binary(logit: Tensor, target: Tensor, gamma: float) -> Tensor:
    entropy = functional.binary_cross_entropy_with_logits(logit, target, reduction="none")
    other = functional.binary_cross_entropy_with_logits(logit, 1 - target, reduction="none")
    return torch.exp(-gamma * other) * entropy


def _focal_classes(logits: Tensor, target: Tensor, gamma: float) -> Tensor:
    entropy = functional.cross_entropy(logits, target, reduction="none")
    others = logits.masked_fill(functional.one_hot(target, logits.shape[1]).bool(), -math.inf)
    return torch.exp(gamma * (others.logsumexp(1) - logits.logsumexp(1))) * entropy


def log_cosh(config: contract.LogCosh, class_counts: Sequence[int]) -> Loss:
    return Loss(log_cosh_each)


def quantile(config: contract.QuantileLoss, class_counts: Sequence[int]) -> Loss:
    return PinballLoss(config.levels)


def poisson(config: contract.Poisson, class_counts: Sequence[int]) -> Loss:
    """exp(z) − y·z of a logarithm z, without the part of the likelihood that holds y alone."""
    return Loss(functional.poisson_nll_loss, log_input=True)


def focal(config: contract.Focal, class_counts: Sequence[int]) -> Loss:
    return Loss(focal_each, gamma=config.gamma)


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
    "log_cosh": log_cosh,
    "quantile": quantile,
    "poisson": poisson,
    "bce": bce,
    "cross_entropy": cross_entropy,
    "focal": focal,
}
