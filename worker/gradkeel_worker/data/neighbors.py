"""Looking up the training rows that are nearest to a row, and the means of their targets as inputs.

A distance is a sum in float32, one column after the other, so that the exported graph gets the same bits: of
rows at one distance the first of the reference rows counts as nearer. These stand in an order drawn with the
seed.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from gradkeel_worker.data.table import Array, Floats, Integers

Singles = npt.NDArray[np.float32]

Search = Callable[[Singles, Integers, int], tuple[Integers, Floats]]
"""function(points, codes, count) → candidates [n, count], and what the others are farther than [n]."""

FARTHEST = 1e6
"""Where a weighted value is cut off: squares of differences stay within float32."""
NOBODY = -1
"""The owner of a row that is no training row."""
_CELLS = 1 << 20
"""Distances in memory at a time."""
_ROWS = 1 << 15
"""Rows looked up at a time."""
_SPARE = 16
"""Candidates beyond the nearest that are asked for, so that rows at one distance are told apart."""
_TREE_COLUMNS = 8
"""Columns up to which a k-d tree finds candidates faster than all distances do."""
_BLUR = 1e-5
"""Relative error, generously, of a distance that was computed another way."""


@dataclass(frozen=True, eq=False)
class Space:
    """Where distances are measured.

    ``columns``: their names in the table. ``values`` [d]: positions among the preparation's values;
    ``weights`` [d]: factors on those. ``encodings`` [e]: names of categories; ``differing`` [e]: what another
    level adds to the squared distance. ``points`` [m, d], ``codes`` [m, e]: the reference rows, weighted.
    """

    columns: tuple[str, ...]
    values: tuple[int, ...]
    weights: Singles
    encodings: tuple[str, ...]
    differing: Singles
    points: Singles
    codes: Integers

    def __len__(self) -> int:
        return len(self.points)

    def distances(self, points: Singles, codes: Integers, rows: Integers | None = None) -> Singles:
        """Squared distances [n, m], or of the i-th point to the reference rows ``rows[i]`` [n, k]."""
        chosen = slice(None) if rows is None else rows
        total = np.zeros((len(points), len(self) if rows is None else rows.shape[1]), dtype=np.float32)
        for j in range(points.shape[1]):
            step = points[:, j, None] - self.points[chosen, j]
            step *= step
            total += step
        for j, added in enumerate(self.differing):
            same = codes[:, j, None] == self.codes[chosen, j]
            total += np.where(same, np.float32(0), added)
        return total


def place(x: Singles, values: tuple[int, ...], weights: Singles) -> Singles:
    """Rows of prepared values [n, values] as points [n, d] of a space."""
    with np.errstate(over="ignore"):
        weighted = x[:, list(values)] * weights
    return np.asarray(np.clip(weighted, np.float32(-FARTHEST), np.float32(FARTHEST)))


def levels(codes: Mapping[str, Integers], encodings: tuple[str, ...], rows: slice) -> Integers:
    """The levels [n, e] of some rows in the categories of a space."""
    columns = [codes[name][rows] for name in encodings]
    none = np.empty((rows.stop - rows.start, 0), dtype=np.int64)
    return np.stack(columns, axis=1) if columns else none


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The fitted look-up.

    ``k``: how many neighbours each mean is of, rising. ``targets`` [m, c] float32: of the reference rows, in
    the model's units, or 1 at the class. ``weights`` [m]: of the rows, or None. ``owners`` [m]: whom each
    reference row belongs to; rows of one owner do not see one another. ``names`` [c]: the target's, or of its
    classes; ``target``: its column.
    """

    k: tuple[int, ...]
    spaces: tuple[Space, ...]
    targets: Singles
    weights: Singles | None
    owners: Integers
    names: tuple[str, ...]
    target: str

    @property
    def width(self) -> int:
        """Inputs that the look-up makes."""
        return len(self.spaces) * len(self.names) * len(self.k)

    def inputs(self) -> Iterator[tuple[str, str]]:
        """Name and source of the inputs in order: by space, by column of the targets, by k."""
        for space in self.spaces:
            for name in self.names:
                for k in self.k:
                    yield f"{name}, mean of {k} nearest by {_listed(space.columns)}", self.target

    def look_up(
        self, x: Singles, codes: Mapping[str, Integers], owners: Integers | None, means: Singles
    ) -> None:
        """Write the inputs into ``means`` [n, width], for rows of prepared values [n, values] and level codes
        [n] by category. ``owners`` [n]: of training rows; None for others."""
        width = len(self.names) * len(self.k)
        for i, space in enumerate(self.spaces):
            search = _search(space)
            for rows in _blocks(len(x), _ROWS):
                points = place(x[rows], space.values, space.weights)
                coded = levels(codes, space.encodings, rows)
                own = np.full(len(points), NOBODY) if owners is None else owners[rows]
                found = nearest(space, points, coded, self.k[-1], own, self.owners, search)
                means[rows, i * width : (i + 1) * width] = self._means(found)

    def averaging(self) -> Floats:
        """1 where a neighbour is among the first k, [largest k, number of k]."""
        return (np.arange(self.k[-1])[:, None] < np.array(self.k)).astype(np.float64)

    def weighted_targets(self) -> tuple[Floats, Floats]:
        """Targets times their rows' weights [m, c], and the weights [m]."""
        weights = np.ones(len(self.targets)) if self.weights is None else self.weights.astype(np.float64)
        return self.targets * weights[:, None], weights

    def _means(self, found: Integers) -> Singles:
        """Weighted means of the targets of rows ``found`` [n, largest k], [n, c · number of k]."""
        targets, weights = self.weighted_targets()
        among = self.averaging()
        sums = np.swapaxes(targets[found], 1, 2) @ among
        means = sums / (weights[found] @ among)[:, None, :]
        return means.reshape(len(found), len(self.names) * len(self.k)).astype(np.float32)

    def arrays(self) -> dict[str, Array]:
        """What was fitted, by name."""
        held: dict[str, Array] = {"targets": self.targets}
        if self.weights is not None:
            held["weights"] = self.weights
        for i, space in enumerate(self.spaces):
            for name in ("points", "codes", "weights", "differing"):
                held[f"{i}.{name}"] = getattr(space, name)
        return held

    def to_manifest(self) -> dict[str, Any]:
        """The layout as JSON; the arrays are in the weights file under prepare.neighbors."""
        spaces = [
            {"columns": list(s.columns), "values": list(s.values), "categories": list(s.encodings)}
            for s in self.spaces
        ]
        return {"k": list(self.k), "rows": len(self.targets), "targets": list(self.names), "spaces": spaces}


def nearest(
    space: Space,
    points: Singles,
    codes: Integers,
    k: int,
    owners: Integers,
    reference_owners: Integers,
    search: Search | None = None,
) -> Integers:
    """The k nearest reference rows of each point that are not its owner's, nearest first, [n, k].

    ``reference_owners`` [m]; there must be k such rows for each.
    """
    found = np.empty((len(points), k), dtype=np.int64)
    count = min(len(space), k + 1 + _SPARE)
    search = search or _search(space)
    for rows in _blocks(len(points), max(1, _CELLS // len(space))):
        candidates, beyond = search(points[rows], codes[rows], count)
        distances = space.distances(points[rows], codes[rows], candidates)
        distances[owners[rows, None] == reference_owners[candidates]] = np.inf
        order = np.lexsort((candidates, distances))[:, :k]
        found[rows] = np.take_along_axis(candidates, order, axis=1)
        last = np.take_along_axis(distances, order[:, -1:], axis=1)[:, 0]
        unsure = np.flatnonzero(~(last < beyond)) + rows.start
        if len(unsure):
            found[unsure] = _among_all(space, points, codes, unsure, k, owners, reference_owners)
    return found


def _among_all(
    space: Space,
    points: Singles,
    codes: Integers,
    rows: Integers,
    k: int,
    owners: Integers,
    reference_owners: Integers,
) -> Integers:
    """The same for a few points, from the distances to every reference row."""
    distances = space.distances(points[rows], codes[rows])
    distances[owners[rows, None] == reference_owners] = np.inf
    limits = np.partition(distances, k - 1, axis=1)[:, k - 1]
    found = np.empty((len(rows), k), dtype=np.int64)
    for i, limit in enumerate(limits):
        within = np.flatnonzero(distances[i] <= limit)
        found[i] = within[np.argsort(distances[i, within], kind="stable")[:k]]
    return found


def _blocks(n: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def _search(space: Space) -> Search:
    if space.encodings or space.points.shape[1] > _TREE_COLUMNS:
        return _by_products(space)
    return _by_tree(space)


def _by_tree(space: Space) -> Search:
    tree = cKDTree(space.points.astype(np.float64))

    def search(points: Singles, codes: Integers, count: int) -> tuple[Integers, Floats]:
        distances, rows = tree.query(points.astype(np.float64), k=np.arange(1, count + 1))
        return rows, _surely(distances[:, -1] ** 2, np.zeros(len(points)), count == len(space))

    return search


def _by_products(space: Space) -> Search:
    points64 = space.points.astype(np.float64)
    sizes = (points64**2).sum(axis=1)

    def search(points: Singles, codes: Integers, count: int) -> tuple[Integers, Floats]:
        own = (points.astype(np.float64) ** 2).sum(axis=1)
        distances = own[:, None] + sizes - 2 * (points.astype(np.float64) @ points64.T)
        for j, added in enumerate(space.differing):
            distances += np.where(codes[:, j, None] == space.codes[:, j], 0.0, float(added))
        if count == len(space):
            return np.tile(np.arange(count), (len(points), 1)), np.full(len(points), np.inf)
        near = distances.astype(np.float32)
        rows = np.argpartition(near, count, axis=1)
        limit = np.take_along_axis(near, rows[:, count : count + 1], axis=1)[:, 0]
        return rows[:, :count], _surely(limit, own + sizes.max(), False)

    return search


def _surely(limits: Array, sizes: Floats, everything: bool) -> Floats:
    """Distances that no other row comes within, rounding allowed for; infinite where there is no other."""
    if everything:
        return np.full(len(limits), np.inf)
    return np.asarray(limits * (1 - _BLUR) - 1e-12 * sizes)


def _listed(columns: tuple[str, ...]) -> str:
    shown = ", ".join(columns[:4])
    return shown if len(columns) <= 4 else f"{shown} and {len(columns) - 4} more"
