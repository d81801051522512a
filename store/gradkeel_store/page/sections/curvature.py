"""How sharply the loss bends, against the learning rate: limits as a table, eigenvalues as charts."""

from __future__ import annotations

from typing import Any

from gradkeel.contract.curvature import PLACES, PLAINLY
from gradkeel_store.page.charts import frame
from gradkeel_store.page.charts.bars import HEAD, bar_cell
from gradkeel_store.page.charts.frame import Axes, Key
from gradkeel_store.page.charts.histogram import Histogram, boxes
from gradkeel_store.page.markup import Child, Html, shorten, table, tag
from gradkeel_store.page.scales import linear, logarithmic
from gradkeel_store.page.sections.section import Section, absent
from gradkeel_store.page.source import Number, View, mapping, number, numbers, present, text
from gradkeel_store.page.wording import NOTHING, count, exact, figure, percent, prose

_WIDENED = 2.0
"""A chart is widened to show where the learning rate would be too long, up to so many times its width."""
Json = dict[str, Any]


def curvature_section(view: View) -> Section | None:
    """Both places; None where curvature was not asked for."""
    end = view.part("curvature")
    if not end:
        return None
    places = {"start": mapping(end.get("start")), "end": end}
    told = text(end.get("summary"))
    drawn = [plot for name, place in places.items() if (plot := _spectrum(name, place)) is not None]
    body: list[Child] = [
        tag("p", shorten(prose(told), 1500), cls="result") if told else None,
        _ratios(places),
        _numbers(places),
        tag("div", drawn, cls="pair") if drawn else None,
        tag("p", _note(end), cls="note"),
    ]
    if not told and not drawn:
        return Section("curvature", "Curvature", PLAINLY, absent("The curvature could not be measured."))
    return Section("curvature", "Curvature against the learning rate", PLAINLY, body)


def _where(name: str) -> str:
    return PLACES[name][:1].upper() + PLACES[name][1:]


def _note(end: Json) -> str:
    rows, of = number(end.get("rows")), number(end.get("rows_of"))
    measured = (
        f"Measured in double precision on {count(int(rows), 'row')} of {of:,.0f} of the training part. "
        if rows is not None and of is not None
        else ""
    )
    return (
        f"{measured}The limit is that of the place alone: the loss bends differently elsewhere, and batches "
        "bend it each in its own way."
    )


# ----------------------------------------------------------------------------------------- against the limit


def _ratios(places: dict[str, Json]) -> Html | None:
    """The learning rate over its limit, as bars from 1: to the left there is room, to the right none."""
    found = [
        (name, over)
        for name, place in places.items()
        if (over := number(place.get("lr_over_limit"))) is not None and over > 0
    ]
    if not found:
        return None
    scale = logarithmic([0.1, 1.0, 10.0, *(over for _, over in found)])
    rows = [
        [_where(name), bar_cell(over, scale, "s1" if over <= 1 else "broken", origin=1.0), exact(over, 3)]
        for name, over in found
    ]
    caption = "Learning rate, after clips, over its local limit: bars to the left of the mark are within it"
    return table(("Where", HEAD, "Times the limit"), rows, caption=caption, cls="bars")


# ------------------------------------------------------------------------------------------------- the table


def _numbers(places: dict[str, Json]) -> Html | None:
    there = {name: place for name, place in places.items() if mapping(place.get("lambda_max"))}
    rows: list[list[Child]] = []
    for words, key in _QUANTITIES.items():
        cells = [_cell(place, key) for place in there.values()]
        if any(cell is not None for cell in cells):
            rows.append([words, *(NOTHING if cell is None else cell for cell in cells)])
    if not rows:
        return None
    caption = "What was measured; ± is how far an eigenvalue may lie off, of the sum one standard error"
    return table(("Quantity", *(name.capitalize() for name in there)), rows, caption=caption, cls="numbers")


_QUANTITIES: dict[str, tuple[str, ...]] = {
    "Largest curvature": ("lambda_max",),
    "Largest of the Gauss–Newton part": ("gauss_newton_lambda_max",),
    "Largest, as the optimizer divides": ("preconditioned_lambda_max",),
    "Largest of the loss’s squared part": ("squared_loss", "gauss_newton_lambda_max"),
    "Sum of all (trace)": ("trace",),
    "Limit on the learning rate": ("local_stability_limit",),
    "The same of the squared part": ("squared_loss", "local_stability_limit"),
    "Learning rate in use": ("lr", "scheduled"),
    "What clips left of it": ("lr", "effective"),
}
"""Row of the table → where in a place's record it stands."""


def _cell(place: Json, path: tuple[str, ...]) -> Child:
    for key in path[:-1]:
        place = mapping(place.get(key))
    found = mapping(place.get(path[-1]))
    value, error = number(found.get("value", place.get(path[-1]))), number(found.get("error"))
    if value is None:
        return None
    unsure = " (or more: not found to its end)" if found.get("converged") is False else ""
    return [exact(value), f" ± {figure(error, 2)}" if error is not None else "", unsure]


# ------------------------------------------------------------------------------------------------ the charts


def _spectrum(name: str, place: Json) -> Html | None:
    """How the eigenvalues lie, shares on a logarithmic axis: nearly all lie near zero."""
    given = mapping(place.get("density"))
    edges, shares = present(numbers(given.get("edges"))), present(numbers(given.get("shares")))
    positive = [share for share in shares if share > 0]
    if len(edges) != len(shares) + 1 or not positive or edges[0] >= edges[-1]:
        return None
    threshold = _threshold(place, edges)
    across = linear([edges[0], edges[-1], *([threshold] if threshold is not None else [])], pad=0.02)
    axes = Axes(across, logarithmic(positive), 150, "curvature of a direction", "share of directions")
    zero = [0.0] if edges[0] < 0 < edges[-1] else []
    marks = [boxes(Histogram(edges, shares), axes, "s1"), frame.upright(zero, axes, "rule dash")]
    keys = [Key("band", "s1", "Directions of so much curvature")]
    if threshold is not None:
        marks.append(frame.upright([threshold], axes, "alarm"))
        keys.append(Key("line", "alarm", "Beyond here the learning rate is too long", figure(threshold, 3)))
    below = sum(share for share, right in zip(shares, edges[1:], strict=True) if right <= 0)
    words = _spoken(place, below)
    drawn = frame.plot(axes, marks, summary=f"Density of curvature, {PLACES[name]}. {words}")
    return frame.figure_block(f"curvature-{name}", _where(name), frame.legend(keys), drawn, note=words)


def _threshold(place: Json, edges: list[float]) -> Number:
    """The curvature at which the learning rate would be at its limit: told where steps are not divided, for
    only then the chart's curvature is what bounds them, and where it lies near enough to be drawn."""
    largest, over = number(mapping(place.get("lambda_max")).get("value")), number(place.get("lr_over_limit"))
    if largest is None or not over or largest <= 0 or mapping(place.get("preconditioned_lambda_max")):
        return None
    threshold = largest / over
    return threshold if threshold <= edges[-1] + (_WIDENED - 1) * (edges[-1] - edges[0]) else None


def _spoken(place: Json, below: float) -> str:
    largest = figure(mapping(place.get("lambda_max")).get("value"), 3)
    downwards = f"; {percent(below)} of the directions bend downwards" if below > 0 else ""
    return f"The steepest direction bends by {largest}{downwards}."
