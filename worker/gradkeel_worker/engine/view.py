"""StepView: what a probe or a guard may see of a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from gradkeel_worker.engine.batches import Batch
    from gradkeel_worker.engine.parameters import Parameters, Values

_NUMBERS = ("step", "epoch", "loss", "lr", "global_norm", "clipped_norm", "skipped")


class StepView:
    """One step, seen from beside it. The same object is filled anew for every step; probes only read.

    ``global_norm`` is the gradient's norm before clips, ``clipped_norm`` after them (the same where the step
    was skipped).
    """

    __slots__ = (
        "batch",
        "clipped_norm",
        "epoch",
        "global_norm",
        "loss",
        "lr",
        "model",
        "parameters",
        "side",
        "skipped",
        "step",
        "updates",
        "weight_norms",
    )

    def __init__(self, model: nn.Module, parameters: Parameters, side: SideBatch | None = None) -> None:
        self.model, self.parameters, self.side = model, parameters, side
        self.step = self.epoch = 0
        self.loss = self.lr = self.global_norm = self.clipped_norm = 0.0
        self.skipped = False
        self.batch: Batch | None = None
        self.weight_norms: Values = ()
        self.updates: Callable[[], Values] | None = None

    def state(self) -> dict[str, Any]:
        """The numbers of the last step."""
        return {name: getattr(self, name) for name in _NUMBERS}

    def load(self, state: dict[str, Any]) -> None:
        """Stand where a ``state`` stood."""
        for name in _NUMBERS:
            setattr(self, name, state[name])

    def begin(self, step: int, epoch: int, batch: Batch, lr: float) -> None:
        self.step, self.epoch, self.batch, self.lr, self.skipped = step, epoch, batch, lr, False

    def measure(self, loss: Tensor) -> None:
        """Read loss and gradient norm: the step's one device → host copy."""
        self.loss = self.parameters.measure(loss)
        self.global_norm = self.clipped_norm = self.parameters.norm()

    def measure_again(self) -> None:
        """After the clips."""
        self.clipped_norm = self.parameters.norm()


class SideBatch:
    """A fixed batch of training rows for probes that need a forward pass of their own."""

    __slots__ = ("c", "x")

    def __init__(self, x: Tensor, c: Tensor) -> None:
        self.x, self.c = x, c
