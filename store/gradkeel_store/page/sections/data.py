"""The data as the model was fed it: sizes of columns, and what those do to the gradient."""

from __future__ import annotations

from typing import Any

from gradkeel_store.page.charts.bars import HEAD, bar_cell, two_bars_cell
from gradkeel_store.page.charts.frame import as_table
from gradkeel_store.page.markup import Child, Html, name, shorten, table, tag
from gradkeel_store.page.scales import Scale, logarithmic
from gradkeel_store.page.sections.section import Section, absent, further
from gradkeel_store.page.source import Number, View, items, mapping, number, records, text
from gradkeel_store.page.wording import count, exact, figure, listed, rule_title, sentence_case

LEAD = (
    "A column of large numbers pulls harder at the weights than a column of small ones, whatever it says. "
    "Inflation tells how much harder than a standardised column: 1 is an even share, at 1,000 a column "
    "drowns the others. Scaling evens it out."
)
MOST_BARS, MOST_COLUMNS, MOST_NOTES = 40, 60, 40
ALARMING = 10.0

Inflation = dict[str, tuple[Number, Number]]  # column → (as fed, as it stands in the file)


def data_section(view: View) -> Section:
    """Sizes, inflation bars, the target, columns and what was found about them."""
    data, title = view.part("data"), "The data, as it was fed"
    if not data:
        nothing = "Nothing is known about the data: the run ended before it was prepared."
        return Section("data", title, LEAD, absent(nothing))
    body = [_sizes(data), _inflation(data, view.most(MOST_BARS)), _target(mapping(data.get("target")))]
    return Section("data", title, LEAD, [*body, _notes(view, data), _columns(data, view.most(MOST_COLUMNS))])


def _sizes(data: dict[str, Any]) -> Html:
    rows = {
        part: value
        for part, given in mapping(data.get("rows")).items()
        if (value := number(given)) is not None
    }
    parts = listed([f"{figure(value)} for {_PARTS.get(part, part)}" for part, value in rows.items() if value])
    counted = tag("p", "Rows: ", parts, ".", cls="result") if parts else None
    return tag(
        "div", counted, _ratio(number(data.get("scale_ratio")), number(data.get("scale_ratio_as_fed")))
    )


_PARTS = {"train": "training", "validation": "validation", "test": "the test"}


def _ratio(raw: Number, fed: Number) -> Html:
    known = fed if fed is not None else raw
    if known is None:
        return absent("The scale ratio of the columns was not computed.")
    size = (
        "of like size"
        if known < 3
        else "of somewhat different size"
        if known <= 100
        else "of very different size"
    )
    words: list[Child] = ["Scale ratio, the largest column over the smallest: ", tag("b", exact(known, 3))]
    if fed is None:
        said = f" in the file, where the columns are {size}. How they were fed was not recorded."
        return tag("p", *words, said, cls="result")
    words += [" as fed", f" ({figure(raw, 3)} in the file)"] if raw and abs(raw - fed) > 0.01 * fed else []
    return tag("p", *words, f". The columns were fed {size}.", cls="result")


def inflation_of(data: dict[str, Any]) -> Inflation:
    """By column: the factor on its first-layer gradient as fed, and had it been fed unscaled."""
    fed, raw = mapping(data.get("gradient_inflation")), mapping(data.get("gradient_inflation_unscaled"))
    pairs = {key: (number(fed.get(key)), number(raw.get(key))) for key in {**fed, **raw}}
    return {key: pair for key, pair in pairs.items() if any(value and value > 0 for value in pair)}


def _inflation(data: dict[str, Any], most: int) -> Html:
    columns = inflation_of(data)
    if not columns:
        return absent("How much each column inflates the gradient was not computed.")
    caption = "Gradient inflation by column"
    chart = _inflation_table(columns, caption, most)
    if all(0.5 < (fed or 1) < 2 and raw is None for fed, raw in columns.values()):
        said = (
            "Every column was fed at the size of a standardised one (inflation about 1): none drowns "
            "the others."
        )
        return tag("div", tag("h3", caption), tag("p", said, cls="result"), as_table(chart))
    return tag(
        "figure", tag("figcaption", tag("h3", caption)), chart, _inflation_note(columns, most), cls="chart"
    )


def _inflation_table(columns: Inflation, caption: str, most: int) -> Html:
    ordered = sorted(columns.items(), key=lambda pair: -max(value or 0.0 for value in pair[1]))
    scale = logarithmic([*(value for pair in columns.values() for value in pair), 1.0], pad=0.03)
    unscaled = any(raw is not None for _, raw in columns.values())
    rows = [_inflation_row(column, fed, raw, scale, unscaled) for column, (fed, raw) in ordered[:most]]
    head = ["Column", HEAD, "As fed", *(["As in the file"] if unscaled else [])]
    return table(head, rows, caption=caption, cls="bars unnamed")


def _inflation_row(column: str, fed: Number, raw: Number, scale: Scale, unscaled: bool) -> list[Child]:
    tone = "alarm" if fed is not None and fed > ALARMING else "s1"
    bar = two_bars_cell(fed, raw, scale, tone) if unscaled else bar_cell(fed, scale, tone, origin=1.0)
    return [name(column, 48), bar, exact(fed, 3), *([exact(raw, 3)] if unscaled else [])]


def _inflation_note(columns: Inflation, most: int) -> Html:
    rest = f" The {most} largest of {count(len(columns), 'column')}." if len(columns) > most else ""
    pale = (
        " Pale bars: had the column been fed as it stands in the file."
        if any(r for _, r in columns.values())
        else ""
    )
    words = (
        "Logarithmic bars from 1 (the thin line) to the right for more, to the left for less. Above "
        f"{ALARMING:g} red."
    )
    return tag("p", f"{words}{pale}{rest}", cls="note")


def _target(target: dict[str, Any]) -> Html | None:
    named = {key: value for key, value in target.items() if value is not None and key != "name"}
    if not named:
        return None
    rows = [
        (_STATISTICS.get(key) or sentence_case(key), _cell(value)) for key, value in list(named.items())[:24]
    ]
    caption = tag(
        "span", "The target as fed", [": ", name(target["name"], 60)] if target.get("name") else None
    )
    return table(("Statistic", "Value"), rows, caption=caption, label="The target as fed", cls="pairs")


_STATISTICS = {
    "mean": "Mean",
    "std": "Standard deviation",
    "skew": "Skew (0 is even-sided)",
    "min": "Smallest",
    "max": "Largest",
    "rms": "Root mean square",
    "distinct": "Distinct values",
    "nonfinite": "Not finite",
}


def _cell(value: Any) -> Child:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if number(value) is not None:
        return exact(value)
    if isinstance(value, dict):
        pairs = list(value.items())[:10]
        return [[tag("br") if i else None, shorten(k, 40), ": ", _cell(v)] for i, (k, v) in enumerate(pairs)]
    if items(value):
        return [
            [[", " if i else None, _cell(one)] for i, one in enumerate(value[:8])],
            " …" if value[8:] else None,
        ]
    return name("–" if value in (None, [], {}) else value, 120)


def _notes(view: View, data: dict[str, Any]) -> Html | None:
    noted, most = records(data.get("findings")), view.most(MOST_NOTES)
    lines = [_note(entry) for entry in noted[:most]] + _links(view)
    if not lines:
        return None
    more = further(len(noted) - most, "note")
    return tag("div", tag("h3", "Noted about the data"), tag("ul", lines, cls="notes"), more)


def _links(view: View) -> list[Html]:
    drawn = list(enumerate(view.entries("findings")))[: view.most(60)]
    about = [(i, rule_title(entry.get("rule"))) for i, entry in drawn if entry.get("family") == "data"]
    return [
        tag("li", tag("a", words, href=f"#finding-{i}"), " (see the findings above)") for i, words in about
    ]


def _note(entry: dict[str, Any]) -> Html:
    column, amount = entry.get("column"), number(entry.get("count"))
    words = text(entry.get("detail")) or sentence_case(text(entry.get("code")))
    place = [name(column, 60), ": "] if column is not None else None
    return tag("li", place, shorten(words, 400), f" ({figure(amount)})" if amount is not None else None)


def _columns(data: dict[str, Any], most: int) -> Html | None:
    entries = [(key, _flat(mapping(value))) for key, value in mapping(data.get("columns")).items()]
    if not entries:
        return None
    shown = entries[:most]
    given = [key for _, entry in shown for key, value in entry.items() if value is not None]
    keys = list(dict.fromkeys(given))[:11]
    rows = [[name(column, 40), *(_cell(entry.get(key)) for key in keys)] for column, entry in shown]
    head: list[Child] = ["Column", *(_STATISTICS.get(key) or sentence_case(key) for key in keys)]
    drawn = table(head, rows, caption="Columns as they stand in the file, and as fed", cls="numbers")
    return tag("div", tag("h3", "Columns"), drawn, further(len(entries) - most, "column"))


def _flat(column: dict[str, Any]) -> dict[str, Any]:
    """A column's statistics; what it became as fed is added where it became one input."""
    plain = {key: value for key, value in column.items() if not isinstance(value, dict | list)}
    fed = list(mapping(column.get("as_fed")).values())
    if len(fed) == 1:
        plain |= {f"{key}_as_fed": mapping(fed[0]).get(key) for key in ("mean", "std")}
    return plain
