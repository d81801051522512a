"""Run a model beside its training without leaving a trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


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
