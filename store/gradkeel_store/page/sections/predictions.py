"""Predictions against the truth, on a sample of rows the model had not seen."""

from __future__ import annotations

from typing import Any

from gradkeel_store.page.charts import frame
from gradkeel_store.page.charts.bars import HEAD, bar_cell
from gradkeel_store.page.charts.frame import Axes
from gradkeel_store.page.charts.histogram import Histogram, boxes, histogram
from gradkeel_store.page.markup import Child, Html, name, table, tag
from gradkeel_store.page.sampling import evenly
from gradkeel_store.page.scales import Scale, linear
from gradkeel_store.page.sections.section import Section, absent
from gradkeel_store.page.source import View, items, mapping, median, number, text
from gradkeel_store.page.wording import count, exact, figure, percent

LEAD = (
    "Each dot is one row of a part that training never saw. On the dashed line the prediction is "
    "exactly right."
)
CLASS_LEAD = (
    "For rows that training never saw: how much probability the model gave to the class that was right. "
    "1 means it was sure and right, 0 that it was sure and wrong."
)
MOST_DOTS, MOST_CLASSES = 700, 30

Pairs = list[tuple[float, float]]


def predictions_section(view: View) -> Section:
    """Scatter and residuals of a regression; the probability given to the right class else."""
    title = "Predictions against the truth"
    sample = [one for one in items(view.part("fit").get("predictions_sample")) if len(items(one)) == 2]
    if not sample:
        nothing = absent("No sample of predictions was kept for this run, so there is nothing to draw.")
        return Section("predictions", title, None, nothing)
    if _is_classes(view, sample):
        return Section("predictions", title, CLASS_LEAD, _classes(view, sample))
    pairs = [
        (a, p) for a, p in ((number(a), number(p)) for a, p in sample) if a is not None and p is not None
    ]
    if not pairs:
        return Section("predictions", title, LEAD, absent("None of the kept predictions is a finite number."))
    shown = text(view.part("fit").get("sample_of"))
    lead = [LEAD, *([" Shown here: ", name(shown, 60), "."] if shown else [])]
    charts = tag("div", _scatter(pairs), _residuals(pairs), cls="pair")
    return Section("predictions", title, lead, [charts, _misses(mapping(view.part("fit").get("residuals")))])


def _misses(given: dict[str, Any]) -> Html | None:
    """Quantiles of the residuals of the whole part, and the errors that few rows do not decide."""
    quantiles = {
        key: value for key, value in mapping(given.get("quantiles")).items() if number(value) is not None
    }
    if not quantiles:
        return None
    rows: list[tuple[Child, Child]] = [
        (f"{percent(float(key))} of the residuals lie below", exact(value))
        for key, value in quantiles.items()
        if _is_number(key)
    ]
    rows += [
        ("Median absolute error", exact(given.get("median_absolute_error"))),
        ("Largest absolute error", exact(given.get("largest_absolute_error"))),
    ]
    if number(given.get("mape")) is not None:
        rows.append(("Mean absolute error as a share of the truth", percent(given["mape"])))
    caption = f"Prediction minus truth, over {count(int(number(given.get('rows')) or 0), 'row')}"
    return table(("Quantity", "In target units"), rows, caption=caption, cls="numbers")


def _is_number(key: str) -> bool:
    try:
        return 0 <= float(key) <= 1
    except ValueError:
        return False


def _is_classes(view: View, sample: list[Any]) -> bool:
    task = text(view.config.get("task"))
    if task in ("binary", "multiclass", "regression", "quantile", "forecast"):
        return task in ("binary", "multiclass")
    return any(number(actual) is None for actual, _ in sample)


def _scatter(pairs: Pairs) -> Html:
    shown = [pairs[i] for i in evenly(len(pairs), MOST_DOTS)]
    both = linear(value for pair in shown for value in pair)
    axes = Axes(both, both, 300, "truth", "prediction")
    diagonal = tag("path", d=f"M0 {frame.FIELD}L{frame.FIELD} 0", cls="line rule dash")
    marks = [diagonal, frame.dots(shown, axes, "s1 faint" if len(shown) > 150 else "s1 half")]
    words = f"Scatter plot of {count(len(shown), 'row')}: prediction against truth. {_half(pairs)}"
    note = f"{len(shown):,} of {len(pairs):,} kept rows drawn." if len(shown) < len(pairs) else None
    return frame.figure_block(
        "scatter", "Prediction by truth", frame.plot(axes, marks, summary=words), note=note
    )


def _half(pairs: Pairs) -> str:
    return (
        f"Half of the predictions lie within {figure(median([abs(p - a) for a, p in pairs]))} of the truth."
    )


def _residuals(pairs: Pairs) -> Html:
    misses = [p - a for a, p in pairs]
    chart = histogram(misses)
    upwards = linear(map(float, chart.counts), zero=True)
    axes = Axes(linear(chart.edges, pad=0), upwards, 300, "prediction − truth", "rows")
    zero = [0.0] if chart.edges[0] < 0 < chart.edges[-1] else []
    marks = [boxes(chart, axes, "s1"), frame.upright(zero, axes, "rule dash")]
    words = f"{_half(pairs)} {percent(sum(miss > 0 for miss in misses) / len(misses))} of them are too high."
    drawn = frame.plot(axes, marks, summary=f"Histogram of residuals. {words}")
    return frame.figure_block("residuals", "Residuals", drawn, note=f"{words}{_outside(chart)}")


def _outside(chart: Histogram) -> str:
    beyond = chart.below + chart.above
    return f" {count(beyond, 'row')} beyond the drawn range." if beyond else ""


def _classes(view: View, sample: list[Any]) -> list[Html]:
    given = [(str(actual), p) for actual, p in ((a, number(p)) for a, p in sample) if p is not None]
    if not given:
        return [absent("None of the kept probabilities is a finite number.")]
    return [_certainty([p for _, p in given]), _by_class(given, view.most(MOST_CLASSES))]


def _certainty(probabilities: list[float]) -> Html:
    chart = histogram(probabilities, 20, (0.0, 1.0))
    upwards = linear(map(float, chart.counts), zero=True)
    axes = Axes(linear([0.0, 1.0], pad=0), upwards, 220, "probability given to the right class", "rows")
    marks = [boxes(chart, axes, "s1"), frame.upright([0.5], axes, "rule dash")]
    right = sum(p > 0.5 for p in probabilities) / len(probabilities)
    words = (
        f"{percent(right)} of {count(len(probabilities), 'row')} gave more than one half to the right class."
    )
    drawn = frame.plot(axes, marks, summary=f"Histogram of the probability given to the right class. {words}")
    return frame.figure_block("certainty", "How sure, and how right", drawn, note=words)


def _by_class(given: list[tuple[str, float]], most: int) -> Html:
    groups: dict[str, list[float]] = {}
    for label, p in given:
        groups.setdefault(label, []).append(p)
    whole = Scale(0.0, 1.0)
    rows = []
    for label, values in sorted(groups.items(), key=lambda group: -len(group[1]))[:most]:
        share = sum(p > 0.5 for p in values) / len(values)
        middle = exact(median(values), 3)
        rows.append((name(label, 40), f"{len(values):,}", middle, bar_cell(share, whole), percent(share)))
    more = f" The {most} largest of {count(len(groups), 'class', 'classes')}." if len(groups) > most else ""
    caption = f"The same by class, on the sample.{more}"
    head = ("True class", "Rows", "Median probability", HEAD, "Given more than half")
    return table(head, rows, caption=caption, cls="bars")
