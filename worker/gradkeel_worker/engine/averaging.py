"""A moving average of the weights, which is validated and returned in place of the weights themselves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from gradkeel_worker.optimizers import Optimizer


class Averaged:
    """An optimizer that also keeps average ← average + share · (values − average) after each step.

    Of the first 1 / ``share`` steps all count the same, the start among them.
    """

    def __init__(self, inner: Optimizer, values: Tensor, share: float) -> None:
        self._inner, self._values, self._share = inner, values, share
        self._average, self._steps = values.clone(), 0

    def step(self, lr: float) -> None:
        self._inner.step(lr)
        self._steps += 1
        self._average.lerp_(self._values, max(self._share, 1 / (self._steps + 1)))

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Within it the model's weights are the average."""
        kept = self._values.clone()
        self._values.copy_(self._average)
        try:
            yield
        finally:
            self._values.copy_(kept)

    def divisor(self) -> Tensor | None:
        return self._inner.divisor()

    def state(self) -> dict[str, Any]:
        return {"inner": self._inner.state(), "average": self._average, "steps": self._steps}

    def load(self, state: dict[str, Any]) -> None:
        self._inner.load(state["inner"])
        self._average.copy_(torch.as_tensor(state["average"]))
        self._steps = state["steps"]
