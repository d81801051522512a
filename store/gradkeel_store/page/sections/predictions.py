"""Predictions against the truth, on a sample of rows the model had not seen."""

from __future__ import annotations

from typing import Any

from gradkeel_store.page.charts import frame
from gradkeel_store.page.charts.frame import Axes, Key
from gradkeel_store.page.charts.histogram import Histogram, boxes, histogram
from gradkeel_store.page.markup import Child, Html, name, table, tag
from gradkeel_store.page.sampling import evenly
from gradkeel_store.page.scales import linear
from gradkeel_store.page.sections.section import Section, absent
from gradkeel_store.page.source import View, items, mapping, median, number, numbers, present, text
from gradkeel_store.page.wording import count, figure, percent, whole

LEAD = (
    "Each dot is one row of the part held back for testing. On the dashed line the prediction is "
    "exactly right."
)
CLASS_LEAD = "How often each class was taken for which, on a sample of the rows held back for testing."
MOST_DOTS, MOST_CLASSES = 700, 12


def predictions_section(view: View) -> Section:
    """Scatter and residuals of a regression, a table of confusions and the probabilities of classes."""
    title = "Predictions against the truth"
    sample = mapping(view.part("fit").get("predictions_sample"))
    actual = items(sample.get("actual"))
    predicted = items(sample.get("prediction") or sample.get("predicted") or sample.get("predictions"))
    if not actual or not (predicted or items(sample.get("probabilities"))):
        return Section(
            "predictions",
            title,
            None,
            absent("No sample of predictions was kept for this run, so there is nothing to draw."),
        )
    if _is_classes(view, sample, actual):
        return Section("predictions", title, CLASS_LEAD, _classes(sample, actual, predicted))
    pairs = [
        (a, p)
        for a, p in zip(numbers(actual), numbers(predicted), strict=False)
        if a is not None and p is not None
    ]
    if not pairs:
        return Section("predictions", title, LEAD, absent("None of the kept predictions is a finite number."))
    return Section(
        "predictions",
        title,
        LEAD,
        [tag("div", _scatter(pairs), _residuals(pairs), cls="pair"), _worst(sample)],
    )


def _is_classes(view: View, sample: dict[str, Any], actual: list[Any]) -> bool:
    task = text(view.config.get("task"))
    if task in ("binary", "multiclass", "regression"):
        return task != "regression"
    return (
        "probabilities" in sample
        or "probability" in sample
        or any(isinstance(value, str | bool) for value in actual)
    )


Pairs = list[tuple[float, float]]


def _scatter(pairs: Pairs) -> Html:
    shown = [pairs[i] for i in evenly(len(pairs), MOST_DOTS)]
    both = linear(value for pair in shown for value in pair)
    axes = Axes(both, both, 300, "truth", "prediction")
    diagonal = tag("path", d=f"M0 {frame.FIELD}L{frame.FIELD} 0", cls="line rule dash")
    marks = [diagonal, frame.dots(shown, axes, "s1 faint" if len(shown) > 150 else "s1 half")]
    drawn = frame.plot(
        axes,
        marks,
        summary=f"Scatter plot of {count(len(shown), 'row')}: prediction against truth. {_fit_words(pairs)}",
    )
    note = f"{len(shown):,} of {len(pairs):,} kept rows drawn." if len(shown) < len(pairs) else None
    return frame.figure_block("scatter", "Prediction by truth", drawn, note=note)


def _fit_words(pairs: Pairs) -> str:
    misses = [abs(p - a) for a, p in pairs]
    return f"Half of the predictions lie within {figure(median(misses))} of the truth."


def _residuals(pairs: Pairs) -> Html:
    misses = [p - a for a, p in pairs]
    chart = histogram(misses)
    axes = Axes(
        linear(chart.edges, pad=0),
        linear(map(float, chart.counts), zero=True),
        300,
        "prediction − truth",
        "rows",
    )
    zero = [0.0] if chart.edges[0] < 0 < chart.edges[-1] else []
    marks = [boxes(chart, axes, "s1"), frame.upright(zero, axes, "rule dash")]
    drawn = frame.plot(axes, marks, summary=f"Histogram of residuals. {_fit_words(pairs)} {_lean(misses)}")
    return frame.figure_block(
        "residuals", "Residuals", drawn, note=f"{_fit_words(pairs)} {_lean(misses)}{_outside(chart)}"
    )


def _lean(misses: list[float]) -> str:
    high = sum(miss > 0 for miss in misses)
    return f"{percent(high / len(misses))} of them are too high."


def _outside(chart: Histogram) -> str:
    beyond = chart.below + chart.above
    return f" {count(beyond, 'row')} beyond the drawn range." if beyond else ""


def _worst(sample: dict[str, Any]) -> Html | None:
    actual, predicted = (
        numbers(sample.get("actual")),
        numbers(sample.get("prediction") or sample.get("predicted") or sample.get("predictions")),
    )
    rows, lines = (
        items(sample.get("row") or sample.get("rows")),
        items(sample.get("line") or sample.get("lines")),
    )
    if not rows:
        return None
    misses = [
        (abs(p - a), i)
        for i, (a, p) in enumerate(zip(actual, predicted, strict=False))
        if a is not None and p is not None and i < len(rows)
    ]
    worst = [i for _, i in sorted(misses, reverse=True)[:8]]
    body = [
        [
            whole(rows[i]),
            *([whole(lines[i])] if i < len(lines) else []),
            figure(actual[i]),
            figure(predicted[i]),
            figure((predicted[i] or 0) - (actual[i] or 0)),
        ]
        for i in worst
    ]
    head = ["Row of the file", *(["Line"] if lines else []), "Truth", "Prediction", "Residual"]
    return frame.as_table(
        table(head, body, caption="The rows of the sample that were missed most", cls="numbers")
    )


def _classes(sample: dict[str, Any], actual: list[Any], predicted: list[Any]) -> list[Child]:
    rows = _probabilities(sample)
    names = [str(one) for one in items(sample.get("classes"))]
    truth = [_class_name(one, names) for one in actual]
    answered = [_class_name(one, names) for one in predicted] or [_likeliest(row, names) for row in rows]
    return [_confusion(truth, answered), _positive(rows, truth, names)]


def _probabilities(sample: dict[str, Any]) -> list[list[float]]:
    given = items(sample.get("probabilities") or sample.get("probability"))
    if given and not isinstance(given[0], list | tuple | dict):
        return (
            [[1 - p, p] for p in present(numbers(given))]
            if len(present(numbers(given))) == len(given)
            else []
        )
    return [present(numbers(list(one.values()) if isinstance(one, dict) else one)) for one in given]


def _class_name(value: Any, names: list[str]) -> str:
    index = number(value)
    if (
        names
        and str(value) not in names
        and index is not None
        and index == int(index)
        and 0 <= index < len(names)
    ):
        return names[int(index)]
    return str(value)


def _likeliest(row: list[float], names: list[str]) -> str:
    best = row.index(max(row)) if row else 0
    return names[best] if best < len(names) else str(best)


def _confusion(truth: list[str], answered: list[str]) -> Html:
    pairs = list(zip(truth, answered, strict=False))
    every = sorted({one for pair in pairs for one in pair}, key=lambda one: (-truth.count(one), one))
    names = sorted(every[:MOST_CLASSES])
    right = sum(a == b for a, b in pairs)
    rows = [[name(given, 30), *(_confused(pairs, given, said) for said in names)] for given in names]
    more = (
        f" The {MOST_CLASSES} most frequent of {count(len(every), 'class', 'classes')} shown."
        if len(every) > MOST_CLASSES
        else ""
    )
    caption = f"True class (down) by predicted class (across): {right:,} of {len(pairs):,} right.{more}"
    return table(
        ["True class", *(name(said, 30) for said in names)], rows, caption=caption, cls="numbers confusion"
    )


def _confused(pairs: list[tuple[str, str]], given: str, said: str) -> Html:
    amount = sum(pair == (given, said) for pair in pairs)
    total = sum(a == given for a, _ in pairs)
    share = f" {percent(amount / total)}" if total and amount else ""
    depth = round(4 * amount / total) if total else 0
    return tag(
        "td",
        f"{amount:,}",
        tag("span", share, cls="unit") if share else None,
        cls=f"c{depth}{' right' if given == said else ''}",
    )


def _positive(rows: list[list[float]], truth: list[str], names: list[str]) -> Html | None:
    if not rows or any(len(row) != 2 for row in rows) or len(rows) != len(truth):
        return None
    positive = names[1] if len(names) == 2 else max(set(truth))
    yes = histogram([row[1] for row, t in zip(rows, truth, strict=True) if t == positive], 20, (0.0, 1.0))
    no = histogram([row[1] for row, t in zip(rows, truth, strict=True) if t != positive], 20, (0.0, 1.0))
    axes = Axes(
        linear([0.0, 1.0], pad=0),
        linear(map(float, [*yes.counts, *no.counts]), zero=True),
        220,
        "predicted probability",
        "rows",
    )
    marks = [boxes(no, axes, "s2 half"), boxes(yes, axes, "s1 half")]
    keys = [
        Key("band", "s1 half", ["True class is ", name(positive, 30)]),
        Key("band", "s2 half", "True class is another"),
    ]
    words = (
        f"Two histograms of the predicted probability of {positive}: rows that are of that class, and "
        "rows that are not."
    )
    note = "The further apart the two heaps, the better the model tells the classes apart."
    return frame.figure_block(
        "probabilities",
        "Predicted probability",
        frame.legend(keys),
        frame.plot(axes, marks, summary=words),
        note=note,
    )
