"""Where a rollback leads: the weights and the optimizer's state after the best epoch so far."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from gradkeel_worker.engine.parameters import Parameters
from gradkeel_worker.optimizers import Optimizer


class LastGood:
    """Copies of weights, buffers and optimizer state; at first those at the beginning."""

    def __init__(self, model: nn.Module, parameters: Parameters, optimizer: Optimizer) -> None:
        self._model, self._parameters, self._optimizer = model, parameters, optimizer
        self._loss = math.inf
        self._keep()

    def offer(self, loss: float) -> None:
        """After an epoch: keep what is now, if its ``loss`` is the lowest so far."""
        if loss < self._loss and bool(torch.isfinite(self._parameters.values).all()):
            self._loss = loss
            self._keep()

    def _keep(self) -> None:
        self._values: Tensor = self._parameters.values.clone()
        self._buffers = [buffer.clone() for buffer in self._model.buffers()]
        self._inner: dict[str, Any] = copy.deepcopy(self._optimizer.state())

    def restore(self) -> None:
        """Put it back in place of what is now."""
        self._parameters.values.copy_(self._values)
        with torch.no_grad():
            for buffer, kept in zip(self._model.buffers(), self._buffers, strict=True):
                buffer.copy_(kept)
        self._optimizer.load(self._inner)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "loss": self._loss,
            "values": self._values,
            "buffers": self._buffers,
            "optimizer": self._inner,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a ``state``."""
        device = self._values.device
        self._loss = state["loss"]
        self._values = torch.tensor(state["values"], device=device)
        self._buffers = [torch.tensor(buffer, device=device) for buffer in state["buffers"]]
        self._inner = copy.deepcopy(state["optimizer"])
