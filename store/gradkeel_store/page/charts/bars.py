"""A bar inside a table cell: the table is the chart, and the chart is the table."""

from __future__ import annotations

from gradkeel_store.page.markup import Html, tag
from gradkeel_store.page.scales import Scale
from gradkeel_store.page.source import Number


def bar_cell(value: Number, scale: Scale, cls: str = "s1", *, origin: float | None = None) -> Html:
    """A table cell with a bar to the value from `origin`, by default zero (logarithmic: the low end)."""
    if value is None:
        return tag("td", "", cls="bar")
    zero = scale.at(origin if origin is not None else 0.0)
    end = scale.at(value)
    left, width = min(zero, end), max(abs(end - zero), 0.004)
    shapes = [
        tag(
            "rect",
            x=f"{left * 100:.2f}%",
            y=2,
            width=f"{width * 100:.2f}%",
            height=10,
            rx=1.5,
            cls=f"fill {cls}",
        )
    ]
    if origin is not None:
        place = f"{zero * 100:.2f}%"
        shapes.append(tag("line", x1=place, x2=place, y1=0, y2=14, cls="line rule"))
    return tag("td", tag("svg", shapes, width="100%", height=14, aria_hidden="true"), cls="bar")
