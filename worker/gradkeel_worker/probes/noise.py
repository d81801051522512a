"""Full tier: how much the gradient of a batch differs from that of all rows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gradkeel_worker.probes.activity import Series
from gradkeel_worker.probes.quiet import still
from gradkeel_worker.probes.work import Due, Work

if TYPE_CHECKING:
    from gradkeel_worker.engine.batches import Batch
    from gradkeel_worker.engine.view import StepView

PARTS = 8
"""Parts that a batch is cut into."""
LATEST = 20
"""Measurements that a noise scale is made of."""
_SHARE = 0.03


def due(work: Work) -> Due | None:
    """A forward and a backward pass over the batch, in parts."""
    return work.affords(work.backward(work.batch, PARTS) + 4 * PARTS * work.entries, _SHARE, least=5)


def gradient_noise(view: StepView) -> Series:
    """|G|² and tr Σ, estimated without bias from the gradients of the batch's parts (B_small rows each) and
    of the parts together (B_big rows), in eval mode (McCandlish et al. 2018, arXiv:1812.06162, appendix A.1):

        |G|² = (B_big |G_big|² − B_small |G_small|²) / (B_big − B_small)
        tr Σ = (|G_small|² − |G_big|²) / (1 / B_small − 1 / B_big)

    Both are noisy and |G|² can come out negative. The noise scale tr Σ / |G|², the batch size at which noise
    and signal of a step are alike, is the ratio of their means over the latest 20 measurements; NaN where the
    mean of |G|² is not positive. Parts whose gradient is not finite are left out, and so are measurements of
    fewer than two others.
    """
    batch = view.batch
    if batch is None or view.objective is None or len(batch.y) < 2:
        return {}
    parts = min(PARTS, len(batch.y))
    size = len(batch.y) // parts
    total, squares = torch.zeros_like(view.parameters.values), []
    with still(view.model):
        for part in _cut(batch, parts, size):
            gradient = _gradient(view, part)
            square = _square(gradient)
            total += torch.where(torch.isfinite(square), gradient, 0)
            squares.append(square)
    each = torch.stack(squares)
    sound = torch.isfinite(each)
    count = sound.sum()
    small, together = torch.where(sound, each, 0).sum() / count, _square(total) / count**2
    squared_norm = (count * together - small) / (count - 1)
    trace = (small - together) * size * count / (count - 1)
    found = torch.stack([squared_norm, trace])
    scale = _scale(_latest(view, found))
    return {"gradient_noise": (("squared_norm", "trace"), found), "noise_scale": (("noise_scale",), scale)}


def _latest(view: StepView, found: Tensor) -> Tensor:
    """The latest measurements [LATEST, 2], this one among them; NaN where there are fewer."""
    empty = torch.full((LATEST, 2), math.nan, dtype=torch.float64, device=found.device)
    memory = view.memory.setdefault("gradient_noise", {"latest": empty})
    memory["latest"] = torch.cat([memory["latest"][1:], found.unsqueeze(0)])
    latest: Tensor = memory["latest"]
    return latest


def _scale(latest: Tensor) -> Tensor:
    """[1]"""
    squared_norm, trace = latest.nanmean(0)
    return torch.where(squared_norm > 0, trace / squared_norm, math.nan).reshape(1)


def _cut(batch: Batch, parts: int, size: int) -> list[Batch]:
    """``parts`` parts of ``size`` rows; what is left over is not used."""
    pieces = [slice(start, start + size) for start in range(0, parts * size, size)]
    return [
        batch._replace(
            x=batch.x[rows],
            c=batch.c[rows],
            y=batch.y[rows],
            weight=None if batch.weight is None else batch.weight[rows],
        )
        for rows in pieces
    ]


def _gradient(view: StepView, batch: Batch) -> Tensor:
    """The gradient of a batch's loss as one vector; the parameters' own stays as it is."""
    assert view.objective is not None
    tensors = view.parameters.tensors
    found = torch.autograd.grad(view.objective(batch), tensors, allow_unused=True)
    pieces = zip(found, tensors, strict=True)
    return torch.cat([(torch.zeros_like(t) if g is None else g).flatten() for g, t in pieces])


def _square(vector: Tensor) -> Tensor:
    """Its squared length, summed in float64."""
    length: Tensor = torch.linalg.vector_norm(vector, dtype=torch.float64)
    return length.square()
