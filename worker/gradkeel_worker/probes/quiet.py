"""Run a model beside its training without leaving a trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from gradkeel_worker.models.ensemble import Ensemble


@contextmanager
def quiet(model: nn.Module, *, evaluate: bool = True) -> Iterator[None]:
    """Within: no dropout, running statistics as they stand (``evaluate``), or the model's own modes.

    Afterwards every module's mode, every buffer and torch's random state (the CPU's and, for a model there,
    the accelerator's) are what they were.
    """
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    devices = {parameter.device for parameter in model.parameters() if parameter.device.type != "cpu"}
    with torch.random.fork_rng(devices=sorted(devices, key=str), enabled=True):
        try:
            if evaluate:
                model.eval()
            yield
        finally:
            for module, training in modes:
                module.training = training
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)


@contextmanager
def still(model: nn.Module) -> Iterator[None]:
    """``quiet``, for backward passes: an ensemble's members each have a loss of their own, as in training,
    and recurrent layers do without cuDNN, which takes no backward pass in eval mode."""
    apart = model.apart if isinstance(model, Ensemble) else None
    with quiet(model), torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
        try:
            if isinstance(model, Ensemble):
                model.apart = True
            yield
        finally:
            if isinstance(model, Ensemble) and apart is not None:
                model.apart = apart
