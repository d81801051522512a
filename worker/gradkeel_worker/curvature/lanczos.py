"""Lanczos' method with full re-orthogonalisation: extreme eigenvalues from products with vectors.

After Parlett 1998, *The Symmetric Eigenvalue Problem*, chapter 13. Without the re-orthogonalisation, rounding
makes copies of eigenvalues that were found already.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradkeel_worker.curvature.operators import Operator

Doubles = NDArray[np.float64]

TOLERANCE = 1e-3
"""Error bar over eigenvalue below which an eigenvalue counts as found. The eigenvalue itself is then far
nearer: its error goes with the square of the residual that is the bar."""
_FLOOR = 1e-3
"""Of the largest eigenvalue in size: what one near zero is measured against, as that cannot be found to a
share of itself."""


@dataclass(frozen=True)
class Eigenvalue:
    """The largest algebraic eigenvalue found, with its sign; an eigenvalue lies within ``error`` of it.

    ``products``: how many products were made. Not finite, and not converged, where a product was not.
    """

    value: float
    error: float
    converged: bool
    products: int


@dataclass(frozen=True)
class Tridiagonal:
    """What some steps leave: the diagonal [k] and what stands beside it [k]; the last of that is the
    remainder, 0 where the steps have come to an end of their own."""

    diagonal: Doubles
    beside: Doubles

    def spectrum(self) -> tuple[Doubles, Doubles]:
        """Eigenvalues, ascending, and eigenvectors in columns."""
        whole = np.diag(self.diagonal) + np.diag(self.beside[:-1], 1) + np.diag(self.beside[:-1], -1)
        values, vectors = np.linalg.eigh(whole)
        return values, vectors


class Lanczos:
    """Steps from a starting vector, which is normalised; ``basis`` [steps, size] is what they made."""

    def __init__(self, operator: Operator, start: Tensor, most: int) -> None:
        self._operator, self._most = operator, min(most, operator.size)
        self._basis = torch.empty(self._most, operator.size, dtype=operator.dtype, device=operator.device)
        self._next = start.to(operator.dtype).to(operator.device)
        self._next = self._next / torch.linalg.vector_norm(self._next)
        self._diagonal: list[float] = []
        self._beside: list[float] = []

    def step(self) -> bool:
        """One product. False where no further step can be made: the matrix is known on all that the starting
        vector reaches, the steps are used up, or a number was not finite."""
        count = len(self._diagonal)
        self._basis[count] = self._next
        known = self._basis[: count + 1]
        image = self._operator.product(self._next)
        self._diagonal.append(float(self._next @ image))
        size = float(torch.linalg.vector_norm(image))
        for _ in range(2):  # twice is enough (Parlett 1998, section 6.9)
            image = image - known.T @ (known @ image)
        rest = float(torch.linalg.vector_norm(image))
        if not math.isfinite(rest):
            self._beside.append(rest)
            return False
        # A remainder of the size of rounding is none.
        ended = rest <= 10 * torch.finfo(self._operator.dtype).eps * max(size, self._largest())
        self._beside.append(0.0 if ended else rest)
        if ended or count + 1 == self._most:
            return False
        self._next = image / rest
        return True

    def _largest(self) -> float:
        return max(map(abs, (*self._diagonal, *self._beside)))

    @property
    def matrix(self) -> Tridiagonal:
        return Tridiagonal(np.array(self._diagonal), np.array(self._beside))

    @property
    def finite(self) -> bool:
        return math.isfinite(sum(self._diagonal) + sum(self._beside))


def starting_vector(operator: Operator, generator: torch.Generator) -> Tensor:
    """A normal vector [size] from a generator of its own: it leans a little towards every eigenvector."""
    return torch.randn(operator.size, generator=generator, dtype=torch.float64)


def largest_eigenvalue(
    operator: Operator, seed: int, most: int = 40, tolerance: float = TOLERANCE
) -> Eigenvalue:
    """The largest algebraic eigenvalue, by at most ``most`` products; negative where all of them are.

    The error bar is the residual ‖A·v − value·v‖ of the unit vector v found. Converged: it is below
    ``tolerance`` of the value; of one near zero, of a thousandth of the largest eigenvalue in size.
    """
    steps = Lanczos(operator, starting_vector(operator, torch.Generator().manual_seed(seed)), most)
    going = True
    while going:
        going = steps.step()
        if not steps.finite:
            return Eigenvalue(math.nan, math.inf, False, len(steps.matrix.diagonal))
        found = _largest(steps.matrix, operator.dtype, tolerance)
        if found.converged:
            break
    return found


def _largest(matrix: Tridiagonal, dtype: torch.dtype, tolerance: float) -> Eigenvalue:
    values, vectors = matrix.spectrum()
    value, size = float(values[-1]), float(np.abs(values).max())
    rounding = float(torch.finfo(dtype).eps) * size
    error = float(matrix.beside[-1] * abs(vectors[-1, -1])) + rounding
    # One step alone has seen one direction; where it ends there, that was the whole matrix.
    told = len(values) > 1 or matrix.beside[-1] == 0
    converged = told and error <= tolerance * max(abs(value), _FLOOR * size) + 2 * rounding
    return Eigenvalue(value, error, converged, len(values))
