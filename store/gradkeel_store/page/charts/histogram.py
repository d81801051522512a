"""How often values occur."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gradkeel_store.page.charts.frame import FIELD, Axes
from gradkeel_store.page.markup import Html, tag
from gradkeel_store.page.source import median


@dataclass(frozen=True)
class Histogram:
    """`counts[i]` values, or that share of them, lie in [edges[i], edges[i+1]); `below` and `above` lie
    outside."""

    edges: list[float]
    counts: Sequence[float]
    below: int = 0
    above: int = 0


def histogram(
    values: list[float], bins: int | None = None, limits: tuple[float, float] | None = None
) -> Histogram:
    """Equal bins, by default 1.5 √n of them.

    Without limits they reach three interquartile ranges either side of the median; the rest lies outside.
    """
    low, high = limits or _core(values)
    bins = bins or max(9, min(41, int(1.5 * math.sqrt(len(values)))))
    width = (high / 2 - low / 2) * 2 / bins
    if not width or not math.isfinite(width):
        return Histogram([low - 0.5, low + 0.5], [len(values)])
    counts = [0] * bins
    inside = [value for value in values if low <= value <= high]
    for value in inside:
        counts[min(bins - 1, int((value - low) / width))] += 1
    edges = [low + i * width for i in range(bins + 1)]
    return Histogram(edges, counts, sum(v < low for v in values), sum(v > high for v in values))


def _core(values: list[float]) -> tuple[float, float]:
    ordered = sorted(values)
    middle = median(ordered) or 0.0
    quarter = len(ordered) // 4
    reach = 3 * 2 * (ordered[-1 - quarter] / 2 - ordered[quarter] / 2)
    if not reach or not math.isfinite(reach):
        return ordered[0], ordered[-1]
    return max(ordered[0], middle - reach), min(ordered[-1], middle + reach)


def boxes(chart: Histogram, axes: Axes, cls: str) -> Html:
    """The bins as one path."""
    pieces = [_box(chart, i, axes) for i, amount in enumerate(chart.counts) if amount]
    return tag("path", d="".join(pieces), cls=f"fill {cls}")


def _box(chart: Histogram, i: int, axes: Axes) -> str:
    left, right = axes.x.at(chart.edges[i]) * FIELD, axes.x.at(chart.edges[i + 1]) * FIELD
    top = (1 - axes.y.at(chart.counts[i])) * FIELD
    gap = min(2.0, (right - left) * 0.1)
    return f"M{left + gap:.5g} {FIELD}V{top:.5g}H{right - gap:.5g}V{FIELD}z"
