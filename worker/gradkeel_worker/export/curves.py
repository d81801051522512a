"""The fitted curves of the preparation as graphs, in double: the same sums as data/curves.py."""

from collections.abc import Callable
from typing import Any

import numpy as np

from gradkeel_worker.data.curves import END_SHARE, Curve, QuantileTable, YeoJohnson
from gradkeel_worker.data.table import Array
from gradkeel_worker.export.graph import Graph

# Wichura (1988), algorithm AS 241: relative error about 1e-16. The third pair of polynomials is for shares
# below 1e-11, which END_SHARE keeps out.
_CENTRAL = (
    (3.3871328727963666080e0, 1.0),
    (1.3314166789178437745e2, 4.2313330701600911252e1),
    (1.9715909503065514427e3, 6.8718700749205790830e2),
    (1.3731693765509461125e4, 5.3941960214247511077e3),
    (4.5921953931549871457e4, 2.1213794301586595867e4),
    (6.7265770927008700853e4, 3.9307895800092710610e4),
    (3.3430575583588128105e4, 2.8729085735721942674e4),
    (2.5090809287301226727e3, 5.2264952788528545610e3),
)
_TAIL = (
    (1.42343711074968357734e0, 1.0),
    (4.63033784615654529590e0, 2.05319162663775882187e0),
    (5.76949722146069140550e0, 1.67638483018380384940e0),
    (3.64784832476320460504e0, 6.89767334985100004550e-1),
    (1.27045825245236838258e0, 1.48103976427480074590e-1),
    (2.41780725177450611770e-1, 1.51986665636164571966e-2),
    (2.27238449892691845833e-2, 5.47593808499534494600e-4),
    (7.74545014278341407640e-4, 1.05075007164441684324e-9),
)
_CENTRAL_HALF_WIDTH = 0.425


def bent(graph: Graph, curves: tuple[Curve | None, ...], value: str) -> str:
    """``value`` [N, m] with the columns that have a curve replaced by its results."""
    for kind, add in CURVES.items():
        chosen = [i for i, curve in enumerate(curves) if isinstance(curve, kind)]
        if not chosen:
            continue
        picked = graph.add("Gather", value, graph.constant(chosen, np.int64), axis=1)
        results = add(graph, [curves[i] for i in chosen], picked)
        place = {i: len(curves) + k for k, i in enumerate(chosen)}
        order = graph.constant([place.get(i, i) for i in range(len(curves))], np.int64)
        value = graph.add("Gather", graph.concat([value, results]), order, axis=1)
    return value


# ------------------------------------------------------------------------------------------------ Yeo-Johnson


def _yeo_johnson(graph: Graph, curves: list[YeoJohnson], x: str) -> str:
    powers = np.array([curve.power for curve in curves])
    above = _power_of(graph, _positive(graph, x), powers)
    below = _power_of(graph, _positive(graph, graph.add("Neg", x)), 2 - powers)
    return graph.add("Sub", above, below)


def _power_of(graph: Graph, size: str, powers: Array) -> str:
    """((1 + size)^power − 1) / power, or log(1 + size) where the power is 0."""
    grown = graph.add("Add", size, graph.constant([[1.0]]))
    safe = np.where(powers == 0, 1.0, powers)
    raised = graph.add("Sub", graph.add("Pow", grown, graph.constant([safe])), graph.constant([[1.0]]))
    return _where_zero(
        graph, powers, graph.add("Log", grown), graph.add("Div", raised, graph.constant([safe]))
    )


def straight(graph: Graph, curve: YeoJohnson, z: str) -> str:
    """The inverse of one curve, of any shape."""
    above = _root_of(graph, _positive(graph, z), curve.power)
    below = _root_of(graph, _positive(graph, graph.add("Neg", z)), 2 - curve.power)
    return graph.add("Sub", above, below)


def _root_of(graph: Graph, size: str, power: float) -> str:
    if power == 0:
        return graph.add("Sub", graph.add("Exp", size), graph.constant(1.0))
    grown = graph.add("Add", graph.add("Mul", size, graph.constant(power)), graph.constant(1.0))
    return graph.add("Sub", graph.add("Pow", grown, graph.constant(1 / power)), graph.constant(1.0))


def _positive(graph: Graph, x: str) -> str:
    """max(x, 0); NaN stays."""
    zero = graph.constant(0.0)
    return graph.add("Where", graph.add("Less", x, zero), zero, x)


def _where_zero(graph: Graph, powers: Array, yes: str, no: str) -> str:
    mask = powers == 0
    return graph.add("Where", graph.constant([mask], np.bool_), yes, no) if mask.any() else no


# ------------------------------------------------------------------------------------------------- quantiles


def _quantiles(graph: Graph, curves: list[QuantileTable], x: str) -> str:
    """The shares by binary search in the tables, laid end to end, and the normal numbers of those."""
    size = 1 << max(len(curve.at) for curve in curves).bit_length()
    lower, upper = (graph.constant([[curve.at[i] for curve in curves]]) for i in (0, -1))
    missing = graph.add("IsNaN", x)
    known = graph.add("Where", missing, lower, x)
    first = graph.constant([np.arange(len(curves)) * size], np.int64)
    found = _search(graph, graph.constant(_laid(curves, "at", size, np.inf)), known, first, size)
    share = _share(graph, curves, size, known, found)
    share = graph.add("Where", graph.add("LessOrEqual", known, lower), graph.constant(0.0), share)
    share = graph.add("Where", graph.add("GreaterOrEqual", known, upper), graph.constant(1.0), share)
    normal = np.array([curve.normal for curve in curves])
    if normal.any():
        share = graph.add("Where", graph.constant([normal], np.bool_), _normal_number(graph, share), share)
    return graph.add("Where", missing, graph.constant(np.nan), share)


def _laid(curves: list[QuantileTable], name: str, size: int, filler: float) -> Array:
    table = np.full((len(curves), size), filler)
    for row, curve in zip(table, curves, strict=True):
        row[: len(curve.at)] = getattr(curve, name)
    return table.ravel()


def _search(graph: Graph, at: str, x: str, first: str, size: int) -> str:
    """Position of the last entry that is not above x, or of the first one, [N, m]."""
    found, step = first, size // 2
    while step:
        tried = graph.add("Add", found, graph.constant(step, np.int64))
        reached = graph.add("GreaterOrEqual", x, graph.add("Gather", at, tried))
        found = graph.add("Where", reached, tried, found)
        step //= 2
    return found


def _share(graph: Graph, curves: list[QuantileTable], size: int, x: str, found: str) -> str:
    """above + (x − at) / (next at − at) · (next below − above); at an entry the mean of below and above."""
    laid = {name: _laid(curves, name, size, 1.0).reshape(-1, size) for name in ("at", "below", "above")}
    width, rise = np.ones_like(laid["at"]), np.zeros_like(laid["at"])
    for i, curve in enumerate(curves):
        last = len(curve.at) - 1
        width[i, :last] = np.diff(curve.at)
        rise[i, :last] = curve.below[1:] - curve.above[:-1]
    middle = (laid["below"] + laid["above"]) / 2
    tables = (laid["at"], width, rise, laid["above"], middle)
    at, widths, rises, above, middles = (
        graph.add("Gather", graph.constant(table.ravel()), found) for table in tables
    )
    passed = graph.add("Div", graph.add("Sub", x, at), widths)
    between = graph.add("Add", above, graph.add("Mul", passed, rises))
    return graph.add("Where", graph.add("Equal", x, at), middles, between)


def _normal_number(graph: Graph, share: str) -> str:
    """The inverse of the normal distribution function at a share, limited by END_SHARE."""
    low, high = graph.constant(END_SHARE), graph.constant(1 - END_SHARE)
    share = graph.add("Where", graph.add("Less", share, low), low, share)
    share = graph.add("Where", graph.add("Greater", share, high), high, share)
    beside = graph.add("Sub", share, graph.constant(0.5))
    square = graph.add("Mul", beside, beside)
    inner = _ratio(graph, _CENTRAL, graph.add("Sub", graph.constant(_CENTRAL_HALF_WIDTH**2), square))
    central = graph.add("Mul", beside, inner)
    smaller = graph.add("Min", share, graph.add("Sub", graph.constant(1.0), share))
    depth = graph.add("Sqrt", graph.add("Neg", graph.add("Log", smaller)))
    outer = _ratio(graph, _TAIL, graph.add("Sub", depth, graph.constant(1.6)))
    tail = graph.add("Mul", graph.add("Sign", beside), outer)
    near = graph.add("LessOrEqual", graph.add("Abs", beside), graph.constant(_CENTRAL_HALF_WIDTH))
    return graph.add("Where", near, central, tail)


def _ratio(graph: Graph, pairs: tuple[tuple[float, float], ...], r: str) -> str:
    """Two polynomials of r, by Horner's scheme side by side, divided."""
    wide = graph.add("Unsqueeze", r, graph.constant([2], np.int64))
    total = graph.constant(pairs[-1])
    for pair in reversed(pairs[:-1]):
        total = graph.add("Add", graph.add("Mul", total, wide), graph.constant(pair))
    top, bottom = (graph.add("Gather", total, graph.constant(i, np.int64), axis=2) for i in (0, 1))
    return graph.add("Div", top, bottom)


CURVES: dict[type[Any], Callable[[Graph, Any, str], str]] = {
    YeoJohnson: _yeo_johnson,
    QuantileTable: _quantiles,
}
"""Kind of curve → function(graph, curves [m], values [N, m]) → their results."""
