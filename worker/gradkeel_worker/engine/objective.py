"""What is minimised: the loss of a model's outputs, the same for training, evaluation and the gradient
check."""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gradkeel_worker.engine.batches import Batch, Taken, Tensors
from gradkeel_worker.losses import Loss

_CHUNK = 8192
_SINGLE = 4
"""Bytes of a float32."""
_FEWEST = 256


class Objective:
    """``loss`` is one of LOSSES or the caller's own ``loss(prediction, target)`` returning a scalar.

    Both get prediction [n, outputs] and target of the same shape, or class indexes [n]; of a model of several
    members, LOSSES get [n, members, outputs]. Row weights need a
    loss of LOSSES, or a third parameter called ``weight``. ``forward``: what the model is called in for
    training, its precision; the loss is computed in float32.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[..., Tensor],
        forward: AbstractContextManager[Any] | None = None,
    ) -> None:
        self.model, self.loss = model, loss
        self.forward = forward or contextlib.nullcontext()

    def __call__(self, batch: Batch | Taken) -> Tensor:
        """The scalar loss of a batch, with its graph."""
        with self.forward:
            prediction = self.model(batch.x, batch.c)
        if prediction.dtype.itemsize < _SINGLE:
            prediction = prediction.float()
        if batch.weight is None:
            return self.loss(prediction, batch.y)
        return self.loss(prediction, batch.y, weight=batch.weight)

    @torch.no_grad()
    def mean(
        self, data: Tensors | Taken, usable: NDArray[np.bool_] | None = None
    ) -> tuple[float, NDArray[np.float64]]:
        """(mean loss, outputs float64 [n, outputs]) over a whole part, in the model's present mode and in
        float32, as a bundle predicts.

        ``usable`` [n]: rows that count; rows with a NaN among their inputs (missing: propagate) do not.
        The loss is NaN where no row counts.
        """
        outputs, total, mass = [], 0.0, 0.0
        step = chunk_rows(_CHUNK, data.x.shape)
        for start in range(0, len(data.y), step):
            chunk = slice(start, start + step)
            x, c, y = data.x[chunk], data.c[chunk], data.y[chunk]
            weight = None if data.weight is None else data.weight[chunk]
            prediction = self.model(x, c)
            outputs.append(prediction.reshape(len(y), -1).double().cpu().numpy())
            kept = None if usable is None else torch.from_numpy(usable[chunk]).to(y.device)
            loss, counted = self._chunk_loss(prediction, y, weight, kept)
            total, mass = total + loss * counted, mass + counted
        return total / mass if mass else math.nan, np.concatenate(outputs) if outputs else np.zeros((0, 1))

    def _chunk_loss(
        self, prediction: Tensor, y: Tensor, weight: Tensor | None, kept: Tensor | None
    ) -> tuple[float, float]:
        """Mean loss of a chunk's usable rows, and what it weighs among the chunks."""
        if kept is not None:
            prediction, y = prediction[kept], y[kept]
            weight = None if weight is None else weight[kept]
        if not len(y):
            return 0.0, 0.0
        if weight is None:
            share = self.loss.share(y) if isinstance(self.loss, Loss) else None
            mass = float(len(y)) if share is None else float(share.sum())
            return float(self.loss(prediction, y)), mass
        share = self.loss.share(y) if isinstance(self.loss, Loss) else None
        mass = float((weight if share is None else weight * share).sum())
        return float(self.loss(prediction, y, weight=weight)), mass


def chunk_rows(rows: int, shape: tuple[int, ...]) -> int:
    """How many predictions are made at a time: ``rows``, fewer where each reads a window of rows."""
    return rows if len(shape) < 3 else max(_FEWEST, rows // shape[1])


class AlignedLoss:
    """The training loss for callers who hold targets as [n]: they are given the prediction's shape, or
    [n, 1] where a row has several outputs for one target."""

    def __init__(self, loss: Callable[..., Tensor]) -> None:
        self.loss = loss

    def __call__(self, prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        if target.is_floating_point():
            same = prediction.ndim < 3 and target.numel() == prediction.numel()
            target = target.reshape(prediction.shape if same else (len(prediction), -1))
        return (
            self.loss(prediction, target) if weight is None else self.loss(prediction, target, weight=weight)
        )


class NumericOnly(nn.Module):
    """A caller's model that takes x alone, called as the engine calls models."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        output: Tensor = self.inner(x)
        return output


def as_model(model: nn.Module, *, categories: int) -> nn.Module:
    """A caller's module as ``forward(x, c)``. Raises ValueError where it cannot take categories."""
    parameters = inspect.signature(model.forward).parameters.values()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(positional) >= 2 or any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return model
    if categories:
        raise ValueError(
            f"the model takes x alone, but the data has {categories} category columns; "
            "take (x, c) in forward, or prepare categories as onehot"
        )
    return NumericOnly(model)


def takes_weight(loss: Callable[..., Any]) -> bool:
    """Whether a loss can be called with ``weight=``."""
    function = loss.forward if isinstance(loss, nn.Module) else loss
    parameters = inspect.signature(function).parameters.values()
    return any(p.name == "weight" or p.kind is p.VAR_KEYWORD for p in parameters)
