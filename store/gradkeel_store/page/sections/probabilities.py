"""How far a classifier's answers can be trusted: reliability, threshold, confusion, class by class."""

from __future__ import annotations

from typing import Any

from gradkeel_store.page.charts import frame
from gradkeel_store.page.charts.frame import Axes, Key
from gradkeel_store.page.markup import Html, name, table, tag
from gradkeel_store.page.scales import Scale
from gradkeel_store.page.sections.section import Section
from gradkeel_store.page.source import View, items, mapping, number, numbers, records, text
from gradkeel_store.page.wording import count, exact, figure, percent

LEAD = (
    "A probability is worth something when it keeps its word: of the rows told 80 %, about 80 % should turn "
    "out so. On the dashed line they do."
)
KINDS = {
    "half": "One half",
    "f1": "Largest F1",
    "balanced_accuracy": "Largest balanced accuracy (Youden)",
}
SHARES = {
    "accuracy": "Accuracy",
    "precision": "Precision",
    "recall": "Recall",
    "specificity": "Specificity",
    "f1": "F1",
    "balanced_accuracy": "Balanced accuracy",
}
MOST_CLASSES = 30
_WHOLE = Scale(0.0, 1.0)


def probabilities_section(view: View) -> Section | None:
    """The section of a classifier; None where nothing of it was measured."""
    given = mapping(view.part("fit").get("classification"))
    parts = [
        _reliability(given),
        _calibration(mapping(view.part("fit").get("calibration"))),
        _thresholds(mapping(view.part("fit").get("threshold"))),
        _confusion(mapping(given.get("confusion"))),
        _classes(records(given.get("classes")), view.most(MOST_CLASSES)),
    ]
    there = [part for part in parts if part]
    return Section("probabilities", "How far the answers can be trusted", LEAD, there) if there else None


def _reliability(given: dict[str, Any]) -> Html | None:
    bins = [one for one in records(given.get("reliability")) if _placed(one)]
    if not bins:
        return None
    of = text(given.get("reliability_of"))
    told = f"probability told for {of[:40]}" if of else "probability told for the likeliest class"
    axes = Axes(_WHOLE, _WHOLE, 300, told, "share that turned out so")
    diagonal = tag("path", d=f"M0 {frame.FIELD}L{frame.FIELD} 0", cls="line rule dash")
    bars = "".join(_bar(one, axes) for one in bins)
    points = [(one["predicted"], number(one["observed"])) for one in bins]
    marks = [
        diagonal,
        tag("path", d=bars, cls="line s1 pale"),
        frame.line([x for x, _ in points], [y for _, y in points], axes, "s1 thin"),
        frame.dots(points, axes, "s1"),
    ]
    brier, error = figure(given.get("brier")), figure(given.get("calibration_error"))
    scores = f"Brier score {brier}, calibration error {error}"
    rows, whole = (int(number(given.get(key)) or 0) for key in ("rows", "rows_of"))
    drawn_by = f", drawn by the seed from {whole:,}" if rows < whole else ""
    note = (
        f"{scores}: lower is better. {count(rows, 'row')}{drawn_by}, in {count(len(bins), 'group')} of "
        "nearly equal size; the upright strokes are 95\u00a0% Wilson intervals."
    )
    plot = frame.plot(axes, marks, summary=f"Reliability curve. {_spoken(bins)} {scores}.")
    keys = [Key("dot", "s1", "A group of rows"), Key("dash", "rule", "What was told turned out so")]
    return frame.figure_block(
        "reliability", "Told and turned out", frame.legend(keys), plot, _bins_table(bins), note=note
    )


def _placed(one: dict[str, Any]) -> bool:
    return None not in numbers([one.get(key) for key in ("predicted", "observed", "low", "high")])


def _bar(one: dict[str, Any], axes: Axes) -> str:
    return (
        f"M{frame.spot(one['predicted'], one['low'], axes)}L{frame.spot(one['predicted'], one['high'], axes)}"
    )


def _spoken(bins: list[dict[str, Any]]) -> str:
    first, last = bins[0], bins[-1]
    return (
        f"Rows told about {percent(first['predicted'])} turned out so in {percent(first['observed'])}; "
        f"rows told about {percent(last['predicted'])} in {percent(last['observed'])}."
    )


def _bins_table(bins: list[dict[str, Any]]) -> Html:
    rows = [
        (
            percent(one["predicted"]),
            percent(one["observed"]),
            _interval(one),
            f"{number(one.get('count')) or 0:,.0f}",
        )
        for one in bins
    ]
    head = ("Told, on average", "Turned out so", "95\u00a0% interval", "Rows")
    return frame.as_table(table(head, rows, caption="The groups of the reliability curve", cls="numbers"))


def _interval(one: dict[str, Any]) -> str:
    return f"{percent(one['low'])} to {percent(one['high'])}"


def _calibration(given: dict[str, Any]) -> Html | None:
    temperature = number(given.get("temperature"))
    if temperature is None:
        return None
    before, after = figure(given.get("log_loss_before")), figure(given.get("log_loss_after"))
    way = "less sure" if temperature > 1 else "surer"
    words = (
        f"A temperature of {figure(temperature, 3)}, which makes the model {way}, takes the log loss of "
        f"held-out validation rows from {before} to {after}. "
    )
    if given.get("applied"):
        words += "It is applied: every probability here and in predictions has it."
    elif given.get("better"):
        words += "It is not applied; the config option output.calibrate would."
    else:
        words += "It is not applied, for it does not help."
    return tag("div", tag("h3", "Calibration"), tag("p", words, cls="result"))


def _thresholds(given: dict[str, Any]) -> Html | None:
    choices = [
        one
        for one in records(given.get("choices"))
        if mapping(one.get("test")) or mapping(one.get("validation"))
    ]
    if not choices:
        return None
    part = "test" if all(mapping(one.get("test")) for one in choices) else "validation"
    rows = [
        [
            _kind(one),
            exact(one.get("threshold"), 3),
            *(exact(mapping(one.get(part)).get(key), 3) for key in SHARES),
        ]
        for one in choices
    ]
    caption = (
        "Above which probability the positive class is named, as chosen on the validation part, and what "
        f"each choice gives on the {part} part"
    )
    grid = table(("Threshold", "Value", *SHARES.values()), rows, caption=caption, cls="numbers")
    return tag("div", tag("h3", "Threshold"), grid)


def _kind(one: dict[str, Any]) -> list[Html | str | None]:
    kind = text(one.get("kind"))
    used = tag("span", " in use", cls="unit") if one.get("applied") is True else None
    return [KINDS.get(kind) or name(kind, 40), used]


def _confusion(given: dict[str, Any]) -> Html | None:
    labels = [str(label) for label in items(given.get("classes"))]
    counts = [numbers(row) for row in items(given.get("counts"))]
    if not labels or [len(row) for row in counts] != [len(labels)] * len(labels):
        return None
    rows = [
        [name(label, 30), *(_cell(counts[i], i, j) for j in range(len(labels)))]
        for i, label in enumerate(labels)
    ]
    head = ["True class", *(["Called ", name(label, 30)] for label in labels)]
    caption = "Rows by true class and by the class that was named"
    return tag("div", tag("h3", "Confusion"), table(head, rows, caption=caption, cls="confusion"))


def _cell(row: list[float | None], i: int, j: int) -> Html:
    amount, whole = row[j] or 0.0, sum(value or 0.0 for value in row)
    share = amount / whole if whole else 0.0
    shade = next(
        cls for limit, cls in ((0, "c0"), (0.05, "c1"), (0.2, "c2"), (0.6, "c3"), (1, "c4")) if share <= limit
    )
    part = tag("span", f" {percent(share)}", cls="unit") if amount else None
    return tag("td", f"{amount:,.0f}", part, cls=f"{shade} right" if i == j else shade)


def _classes(lines: list[dict[str, Any]], most: int) -> Html | None:
    if not lines:
        return None
    keys = {"precision": "Precision", "recall": "Recall", "f1": "F1", "auc": "AUC"}
    keys |= {"average_precision": "Average precision"}
    ordered = sorted(lines, key=lambda line: -(number(line.get("rows")) or 0))[:most]
    rows = [
        [
            name(line.get("class", "–"), 40),
            exact(line.get("rows")),
            *(exact(line.get(key), 3) for key in keys),
        ]
        for line in ordered
    ]
    more = f"; the {most} largest of {len(lines)}" if len(lines) > most else ""
    caption = f"Each class against all others{more}"
    grid = table(("Class", "Rows", *keys.values()), rows, caption=caption, cls="numbers")
    return tag("div", tag("h3", "Class by class"), grid)
