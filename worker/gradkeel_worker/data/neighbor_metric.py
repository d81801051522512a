"""Weights of columns that make near rows alike in their target, found on training rows."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gradkeel_worker.data.table import Floats, Integers

Singles = npt.NDArray[np.float32]

_QUERIES, _REFERENCES = 256, 2048
"""Rows predicted and rows predicted from in one step."""
_STEPS = 150
_LR, _DECAY, _SQUARES = 0.4, 0.9, 0.99
_STARTS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Mean squared distances that a start may have; the best on the first rows is taken."""
_LARGEST = 1e4


@dataclass(frozen=True)
class Sample:
    """Training rows to learn from. ``values`` [n, d]: numbers of unit spread. ``codes`` [n, e]: levels of
    categories. ``targets`` [n, c]."""

    values: Singles
    codes: Integers
    targets: Singles

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: Integers) -> "Sample":
        """Some of the rows."""
        return Sample(self.values[rows], self.codes[rows], self.targets[rows])


def learned(sample: Sample, seed: int) -> tuple[Floats, Floats]:
    """What a unit of each value, and another level of each category, adds to the squared distance: [d], [e].

    Gradient descent on the squared error of the targets' mean over other rows, weighted by exp(−distance²)
    (metric learning for kernel regression, Weinberger & Tesauro 2007, with one weight a column). The scale
    means something: a column that adds far less than 1 has no say.
    """
    draws = np.random.default_rng((seed, _STEPS))
    columns = sample.values.shape[1] + sample.codes.shape[1]
    logs = _start(sample, draws) * np.ones(columns)
    mean, square = np.zeros(columns), np.zeros(columns)
    for step in range(1, _STEPS + 1):
        _, gradient = _error(_drawn(sample, draws), np.exp(logs))
        gradient = gradient * np.exp(logs)
        mean = _DECAY * mean + (1 - _DECAY) * gradient
        square = _SQUARES * square + (1 - _SQUARES) * gradient**2
        size = np.sqrt(square / (1 - _SQUARES**step)) + 1e-12
        rate = _LR * (1 - step / (_STEPS + 1))
        logs = np.clip(logs - rate * mean / (1 - _DECAY**step) / size, -np.log(_LARGEST), np.log(_LARGEST))
    squares = np.exp(logs)
    return squares[: sample.values.shape[1]], squares[sample.values.shape[1] :]


def _start(sample: Sample, draws: np.random.Generator) -> float:
    """Logarithm of the weight that all columns start with."""
    columns = sample.values.shape[1] + sample.codes.shape[1]
    rows = _drawn(sample, draws)
    errors = [_error(rows, np.full(columns, size / columns))[0] for size in _STARTS]
    return float(np.log(_STARTS[int(np.argmin(errors))] / columns))


def _drawn(sample: Sample, draws: np.random.Generator) -> Sample:
    return sample.take(draws.permutation(len(sample))[:_REFERENCES])


def _error(rows: Sample, squares: Floats) -> tuple[float, Floats]:
    """Mean squared error of the first rows, and its gradient by each column's squared weight, [d + e]."""
    count = min(_QUERIES, len(rows) // 2 + 1)
    x, targets = rows.values, rows.targets
    d = x.shape[1]
    scaled = x * np.sqrt(squares[:d]).astype(np.float32)
    size = (scaled**2).sum(axis=1)
    distance = size[:count, None] + size - 2 * (scaled[:count] @ scaled.T)
    differ = [rows.codes[:count, j, None] != rows.codes[:, j] for j in range(rows.codes.shape[1])]
    for weight, other in zip(squares[d:].astype(np.float32), differ, strict=True):
        distance += weight * other
    np.fill_diagonal(distance, np.inf)
    share = np.exp(distance.min(axis=1, keepdims=True) - distance)
    share /= share.sum(axis=1, keepdims=True)
    predicted = share @ targets
    wrong = predicted - targets[:count]
    pull = wrong @ targets.T - (wrong * predicted).sum(axis=1, keepdims=True)
    force = share * pull * np.float32(-2 / count)
    by_query, by_reference = force.sum(axis=1), force.sum(axis=0)
    numbers = by_query @ x[:count] ** 2 + by_reference @ x**2 - 2 * (x[:count] * (force @ x)).sum(axis=0)
    levels = [float(force[other].sum()) for other in differ]
    return float((wrong**2).sum() / count), np.concatenate([numbers, levels]).astype(np.float64)
