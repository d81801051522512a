"""A map of layers (down) by steps (across), coloured by the logarithm of a positive quantity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from gradkeel_store.page.charts.frame import Axes, titled, x_labels
from gradkeel_store.page.markup import Child, Html, shorten, tag
from gradkeel_store.page.sampling import buckets, largest
from gradkeel_store.page.scales import Scale, logarithmic
from gradkeel_store.page.source import Numbers
from gradkeel_store.page.wording import figure

LEVELS = 16
COLUMNS = 120
_ZERO, _MISSING = "zero", "missing"


@dataclass(frozen=True)
class HeatMap:
    """`cells[row][column]` is the largest value of that stretch of steps, None where none was finite."""

    names: list[str]
    starts: list[float]  # the first step of each column
    cells: list[Numbers]
    scale: Scale

    @property
    def row_height(self) -> int:
        return max(3, min(26, 480 // max(1, len(self.names))))

    @property
    def height(self) -> int:
        return self.row_height * len(self.names)


def heat_map(names: list[str], steps: Sequence[float], values: list[Numbers]) -> HeatMap:
    """Gather the values of each layer into at most `COLUMNS` stretches of steps."""
    parts = buckets(len(steps), COLUMNS)
    cells = [[largest(row, part) for part in parts] for row in values]
    scale = logarithmic((cell for row in cells for cell in row), pad=0)
    return HeatMap(names, [steps[part[0]] for part in parts], cells, scale)


def draw(chart: HeatMap, x: Scale, *, summary: str, hover: str) -> Html:
    """The map with layer names to its left and steps below."""
    field = tag(
        "svg", colour_runs(chart), viewBox=f"0 0 {max(1, len(chart.starts))} {max(1, len(chart.names))}",
        preserveAspectRatio="none", width="100%", height=chart.height, x=0, y=0, cls="heat",
        shape_rendering="crispEdges",
    )  # fmt: skip
    axes = Axes(x=x, y=chart.scale, height=chart.height)
    stage = tag("svg", field, x_labels(axes), height=chart.height + 22, cls="field")
    row = tag("div", _names(chart), tag("div", stage, cls="stage", data_hover=hover), cls="plot-row named")
    return titled(row, "layer", "step", summary)


def _names(chart: HeatMap) -> Html:
    stride = math.ceil(14 / chart.row_height)
    texts = [
        tag("text", shorten(name, 15), x=104, y=round((i + 0.5) * chart.row_height + 4, 1), text_anchor="end")
        for i, name in enumerate(chart.names)
        if i % stride == 0
    ]
    return tag("svg", texts, width=110, height=chart.height + 22, cls="axis", aria_hidden="true")


def colour_runs(chart: HeatMap) -> list[Html]:
    """One path for each colour, made of horizontal runs: small even for hundreds of layers."""
    runs: dict[str, list[str]] = {}
    for i, row in enumerate(chart.cells):
        start = 0
        for colour, cells in groupby(_colour(cell, chart.scale) for cell in row):
            width = len(list(cells))
            runs.setdefault(colour, []).append(f"M{start} {i}.5h{width}")
            start += width
    return [tag("path", d="".join(pieces), cls=colour) for colour, pieces in sorted(runs.items())]


def _colour(value: float | None, scale: Scale) -> str:
    if value is None:
        return _MISSING
    if value <= 0:
        return _ZERO
    return f"q{min(LEVELS - 1, int(scale.at(value) * LEVELS))}"


def ramp(chart: HeatMap, extra: Child = None) -> Html:
    """The legend: colours from the smallest to the largest value."""
    share = 100 / LEVELS
    boxes = [
        tag("rect", x=f"{i * share:g}%", y=0, width=f"{share + 0.1:g}%", height=12, cls=f"box q{i}")
        for i in range(LEVELS)
    ]
    bar = tag("svg", boxes, width="100%", height=12, aria_hidden="true", cls="ramp-bar")
    ends = [
        tag("span", figure(chart.scale.low, 2)),
        tag("span", "colour: logarithm of the norm"),
        tag("span", figure(chart.scale.high, 2)),
    ]
    return tag("div", bar, tag("div", ends, cls="ramp-ends"), extra, cls="ramp")
