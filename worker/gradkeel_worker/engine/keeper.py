"""The weights that are returned: the best so far."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gradkeel_worker.engine.parameters import Parameters


@dataclass(frozen=True)
class Best:
    """Copies of the trainable values and the model's buffers after an epoch, and the loss there."""

    epoch: int
    step: int
    loss: float
    values: Tensor
    buffers: tuple[Tensor, ...]


class Keeper:
    """Keeps the best weights: of the lowest validation loss, or without validation the last finite ones."""

    def __init__(self, model: nn.Module, parameters: Parameters, *, validated: bool) -> None:
        self._model, self._parameters, self._validated = model, parameters, validated
        self.best: Best | None = None
        self.epochs_since_best = 0

    def offer(self, epoch: int, step: int, loss: float) -> bool:
        """Keep the present weights if they are the best so far; says whether they are."""
        if not self._better(loss):
            self.epochs_since_best += 1
            return False
        values, buffers = self._parameters.values.clone(), tuple(b.clone() for b in self._model.buffers())
        self.best = Best(epoch, step, loss, values, buffers)
        self.epochs_since_best = 0
        return True

    def _better(self, loss: float) -> bool:
        if not math.isfinite(loss):
            return False
        if self.best is None or not self._validated:
            return bool(torch.isfinite(self._parameters.values).all())
        return loss < self.best.loss

    def restore(self) -> Best | None:
        """Put the best weights back into the model; None where there are none."""
        if self.best is not None:
            self._parameters.values.copy_(self.best.values)
            with torch.no_grad():
                for buffer, value in zip(self._model.buffers(), self.best.buffers, strict=True):
                    buffer.copy_(value)
        return self.best

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps. The tensors of ``best`` never change."""
        best = None if self.best is None else {**vars(self.best), "buffers": list(self.best.buffers)}
        return {"best": best, "epochs_since_best": self.epochs_since_best}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a ``state``."""
        self.epochs_since_best = state["epochs_since_best"]
        best, device = state["best"], self._parameters.values.device
        if best is not None:
            kept = [torch.tensor(each, device=device) for each in (best["values"], *best["buffers"])]
            self.best = Best(best["epoch"], best["step"], best["loss"], kept[0], tuple(kept[1:]))
