"""What all charts share: figure, axes, grid, legend, spoken summary, numbers as a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gradkeel_store.page.markup import Child, Html, details, tag
from gradkeel_store.page.scales import Scale
from gradkeel_store.page.source import Numbers

FIELD = 1000  # the stretched field's own units, both ways


@dataclass(frozen=True)
class Key:
    """A line of a legend: its mark (a key of `swatch`), CSS class, words and resting value."""

    mark: str
    cls: str
    words: Child
    value: str = ""
    series: int | None = None  # which hover series fills its value


def figure_block(identity: str, title: str, *parts: Child, note: Child = None) -> Html:
    """A chart with its title, legend and notes."""
    heading = tag("figcaption", tag("h3", title, id=f"{identity}-title"))
    closing = tag("p", note, cls="note") if note else None
    return tag("figure", heading, *parts, closing, cls="chart", id=identity)


def legend(keys: Iterable[Key]) -> Html:
    """What the marks mean; its values follow the pointer where the page may run its script."""
    return tag("ul", [_legend_line(key) for key in keys], cls="legend")


def _legend_line(key: Key) -> Html:
    value = tag("span", key.value, cls="value", data_series=key.series) if key.series is not None else None
    return tag("li", swatch(key.mark, key.cls), tag("span", key.words), value)


def swatch(mark: str, cls: str) -> Html:
    """A small picture of a mark."""
    shapes = {
        "line": tag("path", d="M1 7h20", cls=f"line {cls}"),
        "dash": tag("path", d="M1 7h20", cls=f"line dash {cls}"),
        "dot": tag("circle", cx=11, cy=7, r=4, cls=f"fill {cls}"),
        "band": tag("rect", x=1, y=2, width=20, height=10, rx=2, cls=f"fill {cls}"),
        "tick": tag("path", d="M11 2v10", cls=f"line {cls}"),
        "cross": tag("path", d="M7 3l8 8m0-8l-8 8", cls=f"line {cls}"),
        "rhomb": tag("path", d="M11 2l5 5-5 5-5-5z", cls=f"fill {cls}"),
    }
    return tag(
        "svg", shapes[mark], width=22, height=14, viewBox="0 0 22 14", aria_hidden="true", cls="swatch"
    )


@dataclass(frozen=True)
class Axes:
    """The two scales of a plot, its height in pixels and the words of its axes."""

    x: Scale
    y: Scale
    height: int = 220
    x_title: str = ""
    y_title: str = ""


def plot(axes: Axes, marks: Child, *, summary: str, over: Child = None, hover: str | None = None) -> Html:
    """A plot: value axis, grid, marks in a stretched field, and `over` in unstretched percent coordinates.

    `summary` is what a screen reader says for the picture; `hover` names the readings a pointer reads.
    """
    stretched = tag(
        "svg", marks, viewBox=f"0 0 {FIELD} {FIELD}", preserveAspectRatio="none",
        x=0, y=0, width="100%", height=axes.height, cls="marks",
    )  # fmt: skip
    field = tag("svg", grid(axes), stretched, over, x_labels(axes), height=axes.height + 22, cls="field")
    picture = tag("div", y_labels(axes), tag("div", field, cls="stage", data_hover=hover), cls="plot-row")
    return titled(picture, axes.y_title, axes.x_title, summary)


def titled(picture: Html, y_title: str, x_title: str, summary: str) -> Html:
    """A picture between the names of its axes, with the words that stand for it."""
    above = tag("p", y_title, cls="axis-title", aria_hidden="true")
    below = tag("p", x_title, cls="axis-title right", aria_hidden="true")
    return tag("div", above, tag("div", picture, role="img", aria_label=summary, cls="plot"), below)


def grid(axes: Axes) -> list[Html]:
    """One hair line for each tick of the value axis."""
    rows = [round((1 - axes.y.at(value)) * axes.height, 1) for value, _ in axes.y.ticks()]
    return [tag("line", x1=0, x2="100%", y1=y, y2=y, cls="grid") for y in rows]


def y_labels(axes: Axes) -> Html:
    """The value axis's labels, right-aligned beside the field."""
    texts = [
        tag("text", label, x=52, y=round((1 - axes.y.at(value)) * axes.height + 4, 1), text_anchor="end")
        for value, label in axes.y.ticks()
    ]
    return tag("svg", texts, width=58, height=axes.height + 22, cls="axis", aria_hidden="true")


def x_labels(axes: Axes) -> list[Html]:
    """The labels below the field."""
    placed = [(axes.x.at(value), label) for value, label in axes.x.ticks(5)]
    return [
        tag(
            "text",
            label,
            x=f"{place * 100:.2f}%",
            y=axes.height + 17,
            text_anchor=_anchor(place),
            cls="tick-x",
        )
        for place, label in placed
    ]


def _anchor(place: float) -> str:
    return "start" if place < 0.03 else "end" if place > 0.95 else "middle"


def line(
    xs: Sequence[float], values: Numbers, axes: Axes, cls: str, *, sampled: Sequence[int] | None = None
) -> Html:
    """A line through the values, broken where one is missing; a lone point becomes a dot."""
    indices = sampled if sampled is not None else range(len(xs))
    return tag("path", d=path([(xs[i], values[i]) for i in indices], axes), cls=f"line {cls}")


def path(points: Iterable[tuple[float, float | None]], axes: Axes) -> str:
    """Path data of a broken line in field units."""
    pieces: list[str] = []
    pen_down = False
    for x, value in points:
        if value is None:
            pen_down = False
            continue
        pieces.append(f"{'L' if pen_down else 'M'}{spot(x, value, axes)}{'' if pen_down else 'h0'}")
        pen_down = True
    return "".join(pieces)


def spot(x: float, value: float, axes: Axes) -> str:
    """A place in field units."""
    return f"{axes.x.at(x) * FIELD:.5g} {(1 - axes.y.at(value)) * FIELD:.5g}"


def dots(points: Iterable[tuple[float, float | None]], axes: Axes, cls: str) -> Html:
    """Round dots: strokes of no length, so that stretching leaves them round."""
    data = "".join(f"M{spot(x, value, axes)}h0" for x, value in points if value is not None)
    return tag("path", d=data, cls=f"dots {cls}")


def level(value: float, axes: Axes, cls: str) -> Html:
    """A horizontal line across the plot."""
    y = (1 - axes.y.at(value)) * FIELD
    return tag("path", d=f"M0 {y:.5g}H{FIELD}", cls=f"line {cls}")


def upright(
    xs: Iterable[float], axes: Axes, cls: str, *, top: float = 0, bottom: float = FIELD
) -> Html | None:
    """Vertical strokes at the given places."""
    places = sorted({round(axes.x.at(x) * FIELD, 1) for x in xs})
    data = "".join(f"M{x:g} {top:g}V{bottom:g}" for x in places)
    return tag("path", d=data, cls=f"line {cls}") if data else None


def as_table(content: Html) -> Html:
    """The same numbers without a picture."""
    return details("Show the numbers", content, cls="more numbers")
