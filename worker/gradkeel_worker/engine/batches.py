"""Mini-batches without a DataLoader: one permutation an epoch, blocks gathered at once, batches as slices."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_BLOCK_BYTES = 64 * 2**20
SHUFFLED_BYTES = 4 * 2**30
"""A training part up to this size is shuffled as a whole. Rows of a larger one, drawn one by one from a file
that memory may not hold, would each cost a read of the disk."""
_WINDOW_BYTES, _PIECE_BYTES = 2**30, 2**18
"""What is shuffled at once of a larger part, and the runs of rows that it is put together from."""


class WindowsOf:
    """Windows of ``length`` rows of ``flat`` [N, d] that end at the rows ``ends`` [n]: indexed like a tensor
    [n, length, d], which is never made as a whole."""

    def __init__(self, flat: Tensor, ends: Tensor, length: int) -> None:
        self.flat, self.ends = flat, ends
        self.shape = (len(ends), length, flat.shape[1])
        self.device = flat.device
        self._back = torch.arange(1 - length, 1, device=flat.device)

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        ends = self.ends[rows]
        places = (ends.unsqueeze(1) + self._back).flatten()
        return self.flat.index_select(0, places).view(len(ends), *self.shape[1:])


Fed = Tensor | WindowsOf
"""Inputs of a model: rows [n, …], or windows of rows [n, length, …]."""


class Batch(NamedTuple):
    """x [b, d], c [b, k] (of windows [b, length, …]), y [b, targets] or classes [b], weight [b] or None;
    ``first``: place in the epoch."""

    x: Tensor
    c: Tensor
    y: Tensor
    weight: Tensor | None
    first: int


class Arrays(Protocol):
    """The arrays of a part of the data, as ``gradkeel_worker.data.Part`` holds them."""

    @property
    def x(self) -> Any: ...
    @property
    def c(self) -> Any: ...
    @property
    def y(self) -> Any: ...
    @property
    def weight(self) -> Any: ...
    @property
    def windows(self) -> Any: ...


class Taken(NamedTuple):
    """Some rows of a part, as tensors."""

    x: Tensor
    c: Tensor
    y: Tensor
    weight: Tensor | None


class Tensors(NamedTuple):
    """A part's tensors, on the training device. y is float [n, 1] or [n, targets], or int64 [n]
    for classes."""

    x: Fed
    c: Fed
    y: Tensor
    weight: Tensor | None

    @classmethod
    def of(cls, part: Arrays, device: torch.device) -> Tensors:
        y = torch.from_numpy(np.ascontiguousarray(part.y))
        weight = (
            None if part.weight is None else torch.from_numpy(np.asarray(part.weight, np.float32)).to(device)
        )
        x, c = (_fed(part, name, device) for name in ("x", "c"))
        return cls(x, c, (y.unsqueeze(1) if y.is_floating_point() and y.ndim == 1 else y).to(device), weight)

    def take(self, rows: Tensor) -> Taken:
        """Copies of some rows."""
        weight = None if self.weight is None else self.weight[rows]
        return Taken(self.x[rows], self.c[rows], self.y[rows], weight)


def _fed(part: Arrays, name: str, device: torch.device) -> Fed:
    if part.windows is None:
        return torch.from_numpy(np.ascontiguousarray(getattr(part, name))).to(device)
    flat = torch.from_numpy(getattr(part.windows, name)).to(device)
    return WindowsOf(flat, torch.from_numpy(part.windows.ends).to(device), part.windows.length)


class Batches:
    """Every row once an epoch, in an order that (seed, epoch) decides; the last batch may be shorter.

    ``smallest``: a last batch with fewer rows joins the one before it (batch norm cannot take one row).
    """

    def __init__(self, data: Tensors, batch_size: int, seed: int, smallest: int = 1) -> None:
        self._data, self._seed = data, seed
        self.rows = len(data.y)
        if self.rows < max(1, smallest):
            raise ValueError(
                f"the training part has {self.rows} rows; at least {max(1, smallest)} are needed"
            )
        self.sizes = _sizes(self.rows, batch_size, smallest)
        self._row_bytes = 4 * data.x.shape[-1] + 8 * data.c.shape[-1] + 8
        fed_bytes = 4 * math.prod(data.x.shape[1:]) + 8 * math.prod(data.c.shape[1:]) + 8
        self._batches_a_block = max(1, _BLOCK_BYTES // (fed_bytes * self.sizes[0]))

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self.sizes)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """The permutation of the training rows in an epoch, [n]."""
        generator = np.random.default_rng((self._seed, epoch))
        if self.rows * self._row_bytes <= SHUFFLED_BYTES:
            return generator.permutation(self.rows)
        return piecewise_order(generator, self.rows, self._row_bytes)

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, without the first ``skip`` of them.

        Blocks begin where they always do: a batch then lies at the same place in memory, on which the last
        bit of a matrix product may depend.
        """
        order = torch.from_numpy(self.order(epoch)).to(self._data.x.device)
        for start in range(skip - skip % self._batches_a_block, len(self.sizes), self._batches_a_block):
            first = sum(self.sizes[:start])
            sizes = self.sizes[start : start + self._batches_a_block]
            block = self._data.take(order[first : first + sum(sizes)])
            yield from itertools.islice(_slices(block, sizes, first), max(0, skip - start), None)


def piecewise_order(
    generator: np.random.Generator, rows: int, row_bytes: int, window: int = _WINDOW_BYTES
) -> NDArray[np.int64]:
    """A permutation [rows] that stays within some runs of rows, drawn at random, before it goes on to others.

    The runs are of 256 KiB; the rows of as many as fill the window are shuffled among one another.
    """
    run = max(1, _PIECE_BYTES // row_bytes)
    firsts = generator.permutation(-(-rows // run)) * run
    found = np.empty(rows, np.int64)
    done, together = 0, max(1, window // (run * row_bytes))
    for start in range(0, len(firsts), together):
        mixed = (firsts[start : start + together, None] + np.arange(run)).ravel()
        mixed = generator.permutation(mixed[mixed < rows])
        found[done : done + len(mixed)] = mixed
        done += len(mixed)
    return found


def _sizes(rows: int, batch_size: int, smallest: int) -> list[int]:
    full, rest = divmod(rows, batch_size)
    sizes = [batch_size] * full
    if rest >= smallest or not full:
        return sizes + ([rest] if rest else [])
    return [*sizes[:-1], batch_size + rest]


def _slices(block: Taken, sizes: list[int], first: int) -> Iterator[Batch]:
    weights = [None] * len(sizes) if block.weight is None else torch.split(block.weight, sizes)
    for x, c, y, weight in zip(
        torch.split(block.x, sizes),
        torch.split(block.c, sizes),
        torch.split(block.y, sizes),
        weights,
        strict=True,
    ):
        yield Batch(x, c, y, weight, first)
        first += len(y)
