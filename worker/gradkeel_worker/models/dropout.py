"""Dropout with masks from random bits: on the CPU torch draws them one by one, which takes far longer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_LEVELS = 1 << 16


class Dropout(nn.Dropout):
    """nn.Dropout, ``p`` rounded to a multiple of 2⁻¹⁶ on the CPU. Masks come from torch's generator."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or x.is_cuda:
            return functional.dropout(x, self.p, self.training)
        dropped = min(round(self.p * _LEVELS), _LEVELS - 1)
        kept = _words(x.numel(), x.shape) >= dropped - _LEVELS // 2
        return x * (kept * (_LEVELS / (_LEVELS - dropped)))


def _words(count: int, shape: torch.Size) -> Tensor:
    """Uniform int16 numbers, four from each draw of the generator."""
    draws = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(1 << 63), None)
    return draws.view(torch.int16)[:count].view(shape)
