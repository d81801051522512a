"""Embeddings of numbers: each of the first columns of x becomes a vector of its own (arXiv:2203.05556)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.tree import DecisionTreeRegressor
from torch import Tensor, nn

from gradkeel.contract import config as contract

Singles = NDArray[np.float32]

_LEAF_ROWS = 32
"""Training rows of a tree's leaf at least."""


class NumericEmbedding(nn.Module):
    """x float [n, columns] → [n, columns · width], the vectors of one column side by side.

    ``weight`` [columns, features, width] and ``bias`` [columns, 1, width] turn each column's features into
    its vector, relu included.
    """

    def __init__(self, columns: int, features: int, width: int) -> None:
        super().__init__()
        self.columns = columns
        bound = 1 / math.sqrt(features)
        self.weight = nn.Parameter(torch.empty(columns, features, width).uniform_(-bound, bound))
        # Not zero: the features of a column's smallest value are, and its vector would start on relu's edge.
        self.bias = nn.Parameter(torch.empty(columns, 1, width).uniform_(-bound, bound))

    @property
    def outputs(self) -> int:
        """Columns of the result."""
        return self.columns * self.weight.shape[2]

    def features(self, x: Tensor) -> Tensor:
        """x [n, columns] → [columns, n, features]."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        vectors = torch.relu(torch.baddbmm(self.bias, self.features(x), self.weight))
        return vectors.transpose(0, 1).reshape(len(x), self.outputs)


class PiecewiseLinearEmbedding(NumericEmbedding):
    """How far x has come through each bin of its column: 0 before it, 1 behind it, a straight line between
    and beyond the outermost edges.

    ``edges``: ascending, two at least, for each column.
    """

    left: Tensor
    rate: Tensor
    lower: Tensor
    upper: Tensor
    inner: Tensor
    last: Tensor

    def __init__(self, edges: list[Singles], width: int) -> None:
        bins = max(len(each) - 1 for each in edges)
        super().__init__(len(edges), bins, width)
        left, rate, lower, upper = (np.zeros((len(edges), 1, bins), np.float32) for _ in range(4))
        upper[:] = 1
        for column, each in enumerate(edges):
            count = len(each) - 1
            left[column, 0, :count] = each[:-1]
            rate[column, 0, :count] = 1 / np.diff(each.astype(np.float64))
            lower[column, 0, 0], upper[column, 0, count - 1] = -np.inf, np.inf
        for name, array in (("left", left), ("rate", rate), ("lower", lower), ("upper", upper)):
            self.register_buffer(name, torch.from_numpy(array))
        for name in ("inner", "last"):
            self.register_buffer(name, None, persistent=False)
        self._find_bins()
        self.register_load_state_dict_post_hook(_find_loaded_bins)  # type: ignore[no-untyped-call]

    def _find_bins(self) -> None:
        """``inner`` [columns, bins - 1], the edges between a column's bins, and ``last`` [columns, 1], its
        last bin: out of what the state dict holds, so that edges that were loaded are looked up too."""
        self.last = torch.isinf(self.upper[:, 0]).int().argmax(dim=1, keepdim=True)
        behind = torch.arange(1, self.left.shape[2], device=self.left.device) > self.last
        self.inner = self.left[:, 0, 1:].masked_fill(behind, torch.inf)

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda:  # where sums by index are in no fixed order
            return super().forward(x)
        return torch.relu(self._looked_up(x)).view(len(x), self.outputs)

    def _looked_up(self, x: Tensor) -> Tensor:
        """features(x) · weight + bias as [n · columns, width]. Of a row's features all are 1 before its bin
        and 0 behind it: two rows of tables stand for the whole product."""
        columns, bins, width = self.weight.shape
        values = x.t().contiguous()
        found = torch.minimum(torch.searchsorted(self.inner, values, right=True), self.last)
        passed = (values - self.left[:, 0].gather(1, found)) * self.rate[:, 0].gather(1, found)
        rows = (found + torch.arange(0, columns * bins, bins).unsqueeze(1)).t().reshape(-1)
        whole = torch.cumsum(self.weight, 1) - self.weight + self.bias
        here = self.weight.reshape(-1, width).index_select(0, rows)
        return torch.addcmul(whole.view(-1, width).index_select(0, rows), here, passed.t().reshape(-1, 1))

    def features(self, x: Tensor) -> Tensor:
        passed = (x.t().unsqueeze(2) - self.left).mul_(self.rate)
        return torch.clamp(passed, self.lower, self.upper)


def _find_loaded_bins(embedding: nn.Module, keys: object) -> None:
    assert isinstance(embedding, PiecewiseLinearEmbedding)
    embedding._find_bins()


class PeriodicEmbedding(NumericEmbedding):
    """Cosines and sines of 2π · frequency · x, the frequencies learned."""

    def __init__(self, columns: int, frequencies: int, sigma: float, width: int) -> None:
        super().__init__(columns, 2 * frequencies, width)
        # Within three standard deviations, as the authors draw them.
        start = nn.init.trunc_normal_(torch.empty(columns, 1, frequencies), 0.0, sigma, -3 * sigma, 3 * sigma)
        self.frequency = nn.Parameter(start)

    def features(self, x: Tensor) -> Tensor:
        phase = 2 * math.pi * self.frequency * x.t().unsqueeze(2)
        return torch.cat([torch.cos(phase), torch.sin(phase)], dim=2)


def _none(config: contract.NoNumericEmbedding, x: Singles, y: NDArray[Any]) -> None:
    return None


def _piecewise_linear(config: contract.PiecewiseLinear, x: Singles, y: NDArray[Any]) -> NumericEmbedding:
    edges = [
        EDGES[config.by](column[np.isfinite(column)], y[np.isfinite(column)], config.bins) for column in x.T
    ]
    return PiecewiseLinearEmbedding(edges, config.width)


def _periodic(config: contract.Periodic, x: Singles, y: NDArray[Any]) -> NumericEmbedding:
    return PeriodicEmbedding(x.shape[1], config.frequencies, config.sigma, config.width)


NUMERIC_EMBEDDINGS: dict[str, Callable[[Any, Singles, NDArray[Any]], NumericEmbedding | None]] = {
    "none": _none,
    "piecewise_linear": _piecewise_linear,
    "periodic": _periodic,
}
"""Kind → function(config block, x [n, columns], y [n]): both of the training part."""


def _quantiles(values: Singles, y: NDArray[Any], bins: int) -> Singles:
    return _ascending(np.quantile(values, np.linspace(0, 1, bins + 1)).astype(np.float32))


def _tree(values: Singles, y: NDArray[Any], bins: int) -> Singles:
    tree = DecisionTreeRegressor(max_leaf_nodes=bins, min_samples_leaf=min(_LEAF_ROWS, len(values)))
    tree.fit(values[:, None], y)
    inner = tree.tree_.threshold[tree.tree_.feature >= 0]
    return _ascending(np.concatenate([[values.min()], inner, [values.max()]]).astype(np.float32))


def _ascending(edges: Singles) -> Singles:
    """Distinct edges, two at least."""
    distinct = np.unique(edges)
    return distinct if len(distinct) > 1 else np.array([distinct[0], distinct[0] + 1], np.float32)


EDGES: dict[str, Callable[[Singles, NDArray[Any], int], Singles]] = {"quantiles": _quantiles, "tree": _tree}
"""How the edges of bins are found: function(values [n], y [n], bins) → edges, ascending."""
