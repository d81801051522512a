"""The data as the model was fed it: sizes of columns, and what those do to the gradient."""

from __future__ import annotations

from typing import Any

from gradkeel_store.page.charts.bars import bar_cell
from gradkeel_store.page.markup import Child, Html, name, shorten, table, tag
from gradkeel_store.page.scales import logarithmic
from gradkeel_store.page.sections.section import Section, absent
from gradkeel_store.page.source import Number, View, items, mapping, number, records, text
from gradkeel_store.page.wording import count, exact, figure, rule_title, sentence_case

LEAD = (
    "A column of large numbers pulls harder at the weights than a column of small ones, whatever "
    "it has to say. "
    "Inflation tells how much: 1 is an even share, 1,000 means this column drowns the others. "
    "Scaling evens it out."
)
MOST_BARS, MOST_COLUMNS, MOST_FINDINGS = 40, 60, 40


def data_section(view: View) -> Section:
    """Scale ratio, inflation bars, the target, columns and what was found about them."""
    data, title = view.part("data"), "The data, as it was fed"
    if not data:
        return Section(
            "data",
            title,
            LEAD,
            absent("Nothing is known about the data: the run ended before it was prepared."),
        )
    body = [
        _scale_ratio(number(data.get("scale_ratio"))),
        _inflation(data.get("gradient_inflation")),
        _target(mapping(data.get("target"))),
    ]
    return Section("data", title, LEAD, [*body, _findings(view, data), _columns(data.get("columns"))])


def _scale_ratio(ratio: Number) -> Html:
    if ratio is None:
        return absent("The scale ratio of the columns was not computed.")
    verdict = "the columns are of like size" if ratio <= 100 else "very different sizes: scaling matters here"
    return tag(
        "p",
        "Scale ratio: ",
        tag("b", exact(ratio)),
        f". The largest column is {figure(ratio, 3)} times the size of the smallest; {verdict}.",
        cls="result",
    )


def _inflation(given: Any) -> Html:
    named = mapping(given) or {text(one.get("column")): one.get("inflation") for one in records(given)}
    values = [
        (key, value) for key, entry in named.items() if (value := _inflated(entry)) is not None and value > 0
    ]
    if not values:
        return absent("How much each column inflates the gradient was not computed.")
    ordered = sorted(values, key=lambda pair: -pair[1])
    scale = logarithmic([*(value for _, value in ordered), 1.0], pad=0.03)
    rows = [
        (name(key, 48), bar_cell(value, scale, "alarm" if value > 10 else "s1", origin=1.0), exact(value, 3))
        for key, value in ordered[:MOST_BARS]
    ]
    rest = f" The {MOST_BARS} largest of {count(len(ordered), 'column')}." if len(ordered) > MOST_BARS else ""
    note = (
        "Logarithmic bars from 1 (the thin line), an even share: to the right more than that, to the "
        f"left less. Above 10 a column is marked.{rest}"
    )
    caption = "Gradient inflation by column"
    heading = tag("figcaption", tag("h3", caption))
    return tag(
        "figure",
        heading,
        table(("Column", "", "Inflation"), rows, caption=caption, cls="bars unheaded"),
        tag("p", note, cls="note"),
        cls="chart",
    )


def _inflated(entry: Any) -> Number:
    return (
        number(entry) if not isinstance(entry, dict) else number(entry.get("inflation", entry.get("value")))
    )


def _target(target: dict[str, Any]) -> Html | None:
    rows = [(sentence_case(key), _cell(value)) for key, value in target.items() if value is not None]
    return table(("Target", "Value"), rows[:24], caption="The target", cls="pairs") if rows else None


def _cell(value: Any) -> Child:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if number(value) is not None:
        return exact(value)
    if isinstance(value, dict):
        return [
            [tag("br") if i else None, shorten(k, 40), ": ", _cell(v)]
            for i, (k, v) in enumerate(list(value.items())[:10])
        ]
    if items(value):
        return [
            [[", " if i else None, _cell(one)] for i, one in enumerate(value[:8])],
            " …" if len(value) > 8 else None,
        ]
    return name("–" if value in (None, [], {}) else value, 120)


def _findings(view: View, data: dict[str, Any]) -> Html | None:
    noted = records(data.get("findings"))
    lines: list[Child] = [_note(entry) for entry in noted[:MOST_FINDINGS]]
    rules = [
        (i, entry) for i, entry in enumerate(view.entries("findings")[:60]) if entry.get("family") == "data"
    ]
    lines += [
        tag("li", tag("a", rule_title(entry.get("rule")), href=f"#finding-{i}"), " (see the findings above)")
        for i, entry in rules
    ]
    if not lines:
        return None
    more = (
        absent(f"{count(len(noted) - MOST_FINDINGS, 'further note')} stand in the report’s JSON.")
        if len(noted) > MOST_FINDINGS
        else None
    )
    return tag(
        "div", tag("h3", "Noted about the data"), tag("ul", [line for line in lines], cls="notes"), more
    )


def _note(entry: dict[str, Any]) -> Html:
    column, amount = entry.get("column"), number(entry.get("count"))
    words = text(entry.get("detail")) or sentence_case(text(entry.get("code")))
    place = [name(column, 60), ": "] if column is not None else None
    return tag("li", place, shorten(words, 400), f" ({figure(amount)})" if amount is not None else None)


def _columns(given: Any) -> Html | None:
    entries = records(given) or [{"name": key, **mapping(entry)} for key, entry in mapping(given).items()]
    if not entries:
        return None
    keys = list(
        dict.fromkeys(
            key
            for entry in entries[:MOST_COLUMNS]
            for key, value in entry.items()
            if key not in ("name", "column") and not isinstance(value, dict | list)
        )
    )[:9]
    rows = [
        [name(entry.get("name", entry.get("column", "–")), 40), *(_cell(entry.get(key)) for key in keys)]
        for entry in entries[:MOST_COLUMNS]
    ]
    head: list[Child] = ["Column", *(sentence_case(key) for key in keys)]
    more = (
        absent(f"{count(len(entries) - MOST_COLUMNS, 'further column')} stand in the report’s JSON.")
        if len(entries) > MOST_COLUMNS
        else None
    )
    return tag(
        "div",
        tag("h3", "Columns"),
        table(head, rows, caption="Columns as fed to the model", cls="numbers"),
        more,
    )
