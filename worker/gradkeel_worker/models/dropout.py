"""Dropout with masks from random bits: on the CPU torch draws them one by one, which takes far longer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_BITS = {torch.int8: 8, torch.int16: 16}
_CLOSE = 0.02
"""A share that 8 bits miss by less than this part of it needs no more of them."""


class Dropout(nn.Dropout):
    """nn.Dropout, on the CPU with ``p`` rounded to a multiple of 2⁻⁸ (0.1 → 0.1016), of 2⁻¹⁶ where that is
    too coarse. Masks come from torch's generator."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or x.is_cuda:
            return functional.dropout(x, self.p, self.training)
        word = torch.int8 if abs(round(256 * self.p) / 256 - self.p) <= _CLOSE * self.p else torch.int16
        levels = 1 << _BITS[word]
        dropped = min(round(self.p * levels), levels - 1)
        kept = _words(x.numel(), word).view(x.shape) >= dropped - levels // 2
        return x * (kept * (levels / (levels - dropped)))


def _words(count: int, word: torch.dtype) -> Tensor:
    """Uniform numbers of a type, [count], several from each draw of the generator."""
    draws = torch.empty(-(-count * _BITS[word] // 64), dtype=torch.int64).random_(-(1 << 63), None)
    return draws.view(word)[:count]
