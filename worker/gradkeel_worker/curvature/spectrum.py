"""All eigenvalues at once, as far as a few random vectors tell: their sum and how they lie."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gradkeel_worker.curvature.lanczos import Doubles, Lanczos, starting_vector
from gradkeel_worker.curvature.operators import Operator


def trace(operator: Operator, seed: int, draws: int) -> tuple[float, float]:
    """The sum of the eigenvalues and one standard error of it, by ``draws`` products (Hutchinson 1990).

    The mean of vᵀAv over vectors of random signs; the error is NaN of a single draw.
    """
    generator = torch.Generator().manual_seed(seed)
    found = np.zeros(draws)
    for i in range(draws):
        bits = torch.randint(0, 2, (operator.size,), generator=generator)
        signs = (2 * bits - 1).to(operator.dtype).to(operator.device)
        found[i] = float(signs @ operator.product(signs))
    error = float(found.std(ddof=1)) / math.sqrt(draws) if draws > 1 else math.nan
    return float(found.mean()), error


@dataclass(frozen=True)
class Density:
    """How eigenvalues lie: ``weights`` at ``values``, both [draws, steps], each draw's weights with sum 1.

    A draw's moments Σ w·λ^p are those of its vector exactly, up to p = 2·steps − 1.
    """

    values: Doubles
    weights: Doubles

    def moment(self, power: int) -> tuple[float, float]:
        """Mean of λ^power over the eigenvalues, and one standard error of it over the draws."""
        each = (self.weights * self.values**power).sum(axis=1)
        error = float(each.std(ddof=1)) / math.sqrt(len(each)) if len(each) > 1 else math.nan
        return float(each.mean()), error

    def share(self, low: float, high: float) -> float:
        """The share of the eigenvalues within [low, high]."""
        within = (self.values >= low) & (self.values <= high)
        return float((self.weights * within).sum(axis=1).mean())

    def binned(self, edges: NDArray[np.float64]) -> Doubles:
        """The share of the eigenvalues within each bin of ``edges`` [k + 1], ascending, [k]."""
        counts, _ = np.histogram(self.values, bins=edges, weights=self.weights)
        return np.asarray(counts / len(self.values), np.float64)


def density(operator: Operator, seed: int, draws: int = 6, steps: int = 24) -> Density:
    """Stochastic Lanczos quadrature by at most ``draws`` × ``steps`` products (Ubaru, Chen & Saad 2017;
    Ghorbani et al. 2019, arXiv:1901.10159).

    Raises ValueError where a product is not finite.
    """
    generator = torch.Generator().manual_seed(seed)
    steps = min(steps, operator.size)
    values, weights = np.zeros((draws, steps)), np.zeros((draws, steps))
    for i in range(draws):
        found, shares = _draw(operator, generator, steps)
        # A draw that came to its end early has fewer values; the rest weigh nothing.
        values[i, : len(found)], weights[i, : len(found)] = found, shares
        values[i, len(found) :] = found[0]
    return Density(values, weights)


def _draw(operator: Operator, generator: torch.Generator, steps: int) -> tuple[Doubles, Doubles]:
    lanczos = Lanczos(operator, starting_vector(operator, generator), steps)
    while lanczos.step():
        pass
    if not lanczos.finite:
        raise ValueError("a product of the curvature with a vector is not finite")
    values, vectors = lanczos.matrix.spectrum()
    return values, np.asarray(vectors[0] ** 2)
