"""The look-up of neighbours as a graph: the same sums as data/neighbors.py, in the same order and in float32.

The distances of a batch of N rows to m reference rows are N · m numbers, several times over.
"""

import numpy as np
from onnx import TensorProto

from gradkeel_worker.data.neighbors import FARTHEST, Neighbors, Space
from gradkeel_worker.export.graph import Graph

_CELLS = 1 << 18
"""Distances of a batch at most: what a processor's cache holds."""


def batch_rows(neighbors: Neighbors | None) -> int | None:
    """Rows to predict at a time; None where their number does not matter."""
    return None if neighbors is None else max(1, _CELLS // len(neighbors.targets))


def add_neighbors(graph: Graph, neighbors: Neighbors, x: str | None, codes: dict[str, str]) -> str:
    """The inputs [N, width], float, from the prepared values x [N, values] and the codes [N, 1]."""
    return graph.concat(
        [
            _means(graph, neighbors, _nearest(graph, space, neighbors.k[-1], x, codes))
            for space in neighbors.spaces
        ]
    )


def _nearest(graph: Graph, space: Space, k: int, x: str | None, codes: dict[str, str]) -> str:
    """Positions of the nearest reference rows, [N, k]."""
    steps = [_square(graph, space, x, j) for j in range(len(space.values))]
    for j, name in enumerate(space.encodings):
        same = graph.add("Equal", codes[name], graph.constant([space.codes[:, j]], np.int64))
        zero, added = (graph.constant(value, np.float32) for value in (0.0, space.differing[j]))
        steps.append(graph.add("Where", same, zero, added))
    total = steps[0]
    for step in steps[1:]:
        total = graph.add("Add", total, step)
    return graph.smallest(total, k)


def _square(graph: Graph, space: Space, x: str | None, j: int) -> str:
    """Squared differences in one value, [N, m]."""
    assert x is not None
    value = graph.add("Gather", x, graph.constant([space.values[j]], np.int64), axis=1)
    weighted = graph.add("Mul", value, graph.constant(space.weights[j], np.float32))
    limits = (graph.constant(limit, np.float32) for limit in (-FARTHEST, FARTHEST))
    step = graph.add(
        "Sub", graph.add("Clip", weighted, *limits), graph.constant([space.points[:, j]], np.float32)
    )
    return graph.add("Mul", step, step)


def _means(graph: Graph, neighbors: Neighbors, found: str) -> str:
    """Weighted means of the targets found, [N, c · number of k]."""
    targets, weights = neighbors.weighted_targets()
    among = graph.constant(neighbors.averaging())
    near = graph.add("Transpose", graph.add("Gather", graph.constant(targets), found), perm=[0, 2, 1])
    sums = graph.add("MatMul", near, among)
    share = graph.add("MatMul", graph.add("Gather", graph.constant(weights), found), among)
    means = graph.add("Div", sums, graph.add("Unsqueeze", share, graph.constant([1], np.int64)))
    wide = len(neighbors.names) * len(neighbors.k)
    return graph.cast(graph.add("Reshape", means, graph.constant([-1, wide], np.int64)), TensorProto.FLOAT)
