"""StepView: what a probe or a guard may see of a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from gradkeel_worker.engine.batches import Batch, Taken
    from gradkeel_worker.engine.objective import Objective
    from gradkeel_worker.engine.parameters import Parameters, Values
    from gradkeel_worker.optimizers import Optimizer

Places = tuple[tuple[int, ...], tuple[int, ...]]
"""Columns of x, and of c."""

_NUMBERS = ("step", "epoch", "loss", "lr", "global_norm", "clipped_norm", "skipped")


class StepView:
    """One step, seen from beside it. The same object is filled anew for every step; probes only read.

    ``global_norm`` is the gradient's norm before clips, ``clipped_norm`` after them (the same where the step
    was skipped). ``side``: a fixed batch of training rows, for probes that need passes of their own, and
    ``objective`` the loss they are judged by, in float32. ``columns``: by column of the file, which columns
    of x and of c it became. ``memory``: what probes keep from step to step, by probe; checkpoints keep it.
    """

    __slots__ = (
        "batch",
        "clipped_norm",
        "columns",
        "epoch",
        "global_norm",
        "loss",
        "lr",
        "memory",
        "model",
        "objective",
        "optimizer",
        "parameters",
        "seed",
        "side",
        "skipped",
        "step",
        "updates",
        "weight_norms",
    )

    def __init__(
        self,
        model: nn.Module,
        parameters: Parameters,
        side: Taken | None = None,
        *,
        objective: Objective | None = None,
        columns: dict[str, Places] | None = None,
        optimizer: Optimizer | None = None,
        seed: int = 0,
    ) -> None:
        self.model, self.parameters, self.side = model, parameters, side
        self.objective, self.columns, self.optimizer, self.seed = objective, columns or {}, optimizer, seed
        self.memory: dict[str, dict[str, Any]] = {}
        self.step = self.epoch = 0
        self.loss = self.lr = self.global_norm = self.clipped_norm = 0.0
        self.skipped = False
        self.batch: Batch | None = None
        self.weight_norms: Values = ()
        self.updates: Callable[[], Values] | None = None

    def state(self) -> dict[str, Any]:
        """The numbers of the last step, and the probes' memory."""
        return {name: getattr(self, name) for name in _NUMBERS} | {"memory": self.memory}

    def load(self, state: dict[str, Any]) -> None:
        """Stand where a ``state`` stood."""
        for name in _NUMBERS:
            setattr(self, name, state[name])
        device = self.parameters.values.device
        self.memory = {
            probe: {
                name: torch.tensor(value, device=device) if isinstance(value, np.ndarray) else value
                for name, value in kept.items()
            }
            for probe, kept in state["memory"].items()
        }

    def begin(self, step: int, epoch: int, batch: Batch, lr: float) -> None:
        self.step, self.epoch, self.batch, self.lr, self.skipped = step, epoch, batch, lr, False

    def measure(self, loss: Tensor) -> None:
        """Read loss and gradient norm: the step's one device → host copy."""
        self.loss = self.parameters.measure(loss)
        self.global_norm = self.clipped_norm = self.parameters.norm()

    def measure_again(self) -> None:
        """After the clips."""
        self.clipped_norm = self.parameters.norm()
