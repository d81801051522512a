"""Number formats of training. Weights, gradients and the optimizer's state are float32 in every one of them;
what a format changes is the forward and the backward pass of the model, by torch's autocast.

The loss is computed in float32, models are validated and returned in float32, and gradients are unscaled
before anyone sees them.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from gradkeel_worker.engine.actions import Action, LowerScale
from gradkeel_worker.engine.parameters import Parameters


class Float32:
    """Everything in float32. ``forward``: the context in which the model is called."""

    forward: AbstractContextManager[Any]

    def __init__(self, device: torch.device) -> None:
        self.forward = contextlib.nullcontext()

    def backward(self, loss: Tensor, parameters: Parameters) -> Sequence[Action]:
        """Add the loss's gradient to the parameters', which is 0 before; what was done besides."""
        loss.backward()  # type: ignore[no-untyped-call]
        return ()

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a ``state``."""


class BFloat16(Float32):
    """Products of matrices in bfloat16: float32's range with 8 bits of mantissa; it needs no scale."""

    def __init__(self, device: torch.device) -> None:
        self.forward = torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


class Float16(Float32):
    """Products of matrices in float16, the loss multiplied by a power of 2 for the backward pass, so that
    small gradients do not vanish (Micikevicius et al. 2018, section 3.2).

    A gradient that is not finite where the loss is has overflowed: the backward pass is repeated at half the
    scale, and so on. One that is not finite without any scale is none of the scale's fault, which is then as
    before. The scale doubles after ``_PATIENCE`` steps without an overflow.
    """

    def __init__(self, device: torch.device) -> None:
        self.forward = torch.autocast(device.type, torch.float16, cache_enabled=False)
        self._scale, self._steps = _FIRST_SCALE, 0

    def backward(self, loss: Tensor, parameters: Parameters) -> Sequence[Action]:
        first, finite = self._scale, bool(torch.isfinite(loss))
        while not self._scaled(loss, parameters) and finite and self._scale > 1:
            self._scale /= 2
        if not math.isfinite(parameters.norm()):
            self._scale = first
            return ()
        if self._scale < first:
            self._steps = 0
            return (LowerScale(f"a gradient overflowed in fp16 at the loss scale {first:g}", self._scale),)
        self._steps += 1
        if self._steps == _PATIENCE:
            self._scale, self._steps = min(2 * self._scale, _LARGEST_SCALE), 0
        return ()

    def _scaled(self, loss: Tensor, parameters: Parameters) -> bool:
        """The gradient by the present scale; whether it is finite."""
        parameters.zero_gradient()
        (loss * self._scale).backward(retain_graph=True)  # type: ignore[no-untyped-call]
        parameters.scale(1 / self._scale)
        return math.isfinite(parameters.norm())

    def state(self) -> dict[str, Any]:
        return {"scale": self._scale, "steps": self._steps}

    def load(self, state: dict[str, Any]) -> None:
        self._scale, self._steps = state["scale"], state["steps"]


_FIRST_SCALE, _LARGEST_SCALE = 2.0**16, 2.0**24
_PATIENCE = 2000

PRECISIONS: dict[str, Callable[[torch.device], Float32]] = {
    "float32": Float32,
    "bf16": BFloat16,
    "fp16": Float16,
}


_INSTRUCTIONS = {"bf16": ("avx512_bf16", "amx_bf16", "arm_bf16"), "fp16": ("avx512_fp16", "amx_fp16")}
"""What a CPU needs for a format, as torch names it: one of these."""


def native(precision: str, device: torch.device) -> bool:
    """Whether the device itself computes in this format. What is emulated is slower than float32, in fp16 on
    a CPU by far."""
    if precision == "float32":
        return True
    if device.type == "cuda":
        return precision == "fp16" or torch.cuda.is_bf16_supported(including_emulation=False)
    has = torch.cpu.get_capabilities()
    return any(has.get(name) for name in _INSTRUCTIONS[precision])
