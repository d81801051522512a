"""A bar inside a table cell: the table is the chart, and the chart is the table."""

from __future__ import annotations

from gradkeel_store.page.markup import Html, tag
from gradkeel_store.page.scales import Scale
from gradkeel_store.page.source import Number

HEAD = tag("span", "Bar", cls="unseen")  # what heads a column of bars


def bar_cell(value: Number, scale: Scale, cls: str = "s1", *, origin: float | None = None) -> Html:
    """A table cell with a bar to the value from `origin` (marked), by default from zero (unmarked)."""
    bar = _bar(value, scale, cls, origin or 0.0, y=2, height=10)
    return _cell([bar, _mark(origin, scale)])


def two_bars_cell(value: Number, other: Number, scale: Scale, cls: str, *, origin: float = 1.0) -> Html:
    """A bar and, below it, a pale one to compare with; both from `origin`."""
    upper = _bar(value, scale, cls, origin, y=1, height=6)
    lower = _bar(other, scale, "quiet", origin, y=8, height=5)
    return _cell([upper, lower, _mark(origin, scale)])


def _cell(shapes: list[Html | None]) -> Html:
    return tag("td", tag("svg", shapes, width="100%", height=14, aria_hidden="true"), cls="bar")


def _bar(value: Number, scale: Scale, cls: str, origin: float, *, y: int, height: int) -> Html | None:
    if value is None:
        return None
    start, end = scale.at(origin), scale.at(value)
    left, width = f"{min(start, end) * 100:.2f}%", f"{max(abs(end - start), 0.004) * 100:.2f}%"
    return tag("rect", x=left, y=y, width=width, height=height, rx=1.5, cls=f"fill {cls}")


def _mark(origin: float | None, scale: Scale) -> Html | None:
    if origin is None:
        return None
    place = f"{scale.at(origin) * 100:.2f}%"
    return tag("line", x1=place, x2=place, y1=0, y2=14, cls="line rule")
