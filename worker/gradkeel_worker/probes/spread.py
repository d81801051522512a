"""Full tier: how the sizes of gradient entries and weights are spread, by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gradkeel_worker.probes.activity import Series
from gradkeel_worker.probes.work import Due, Work

if TYPE_CHECKING:
    from gradkeel_worker.engine.view import StepView

_FIRST, _LAST = -12, 4
BINS: tuple[str, ...] = (
    "zero",
    f"<1e{_FIRST}",
    *(f"1e{power}" for power in range(_FIRST, _LAST)),
    f">=1e{_LAST}",
    "nonfinite",
)
"""Bins of a histogram of sizes: exactly 0, below the first decade, decades by where they begin, above the
last one, and NaN or infinite. The same for every layer, step and run."""

GRADIENT, WEIGHT = "gradient_histogram/", "weight_histogram/"
_SHARE, _PASSES = 0.01, 40


def due(work: Work) -> Due | None:
    """A search among the bins for every entry."""
    return work.affords(_PASSES * work.entries, _SHARE)


def gradient_histogram(view: StepView) -> Series:
    """Number of gradient entries of each layer in each bin, before clips."""
    return _histograms(view, view.parameters.gradient, GRADIENT)


def weight_histogram(view: StepView) -> Series:
    """Number of trainable weights and biases of each layer in each bin, before the step."""
    return _histograms(view, view.parameters.values, WEIGHT)


def _histograms(view: StepView, flat: Tensor, prefix: str) -> Series:
    bins = _bins(flat)
    return {
        prefix + each.name: (BINS, _counts(bins[each.start : each.stop])) for each in view.parameters.layers
    }


def _bins(values: Tensor) -> Tensor:
    """The bin of each value, [n]."""
    sizes = values.abs()
    edges = torch.tensor([10.0**power for power in range(_FIRST, _LAST + 1)], device=values.device)
    found = torch.bucketize(sizes, edges, right=True) + 1
    found.masked_fill_(sizes == 0, 0)
    return found.masked_fill_(~torch.isfinite(values), len(BINS) - 1)


def _counts(bins: Tensor) -> Tensor:
    """torch.bincount would wait for a device to tell how many bins it needs."""
    counts = torch.zeros(len(BINS), dtype=torch.int64, device=bins.device)
    return counts.scatter_add_(0, bins, torch.ones_like(bins)).double()
