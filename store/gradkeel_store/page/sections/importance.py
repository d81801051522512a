"""Which columns the predictions rest on: permuted one by one, and by the slope of the output."""

from __future__ import annotations

from typing import Any

from gradkeel_store.page.charts.bars import HEAD, bar_cell
from gradkeel_store.page.markup import Child, Html, name, table, tag
from gradkeel_store.page.scales import linear
from gradkeel_store.page.sections.section import Section, further
from gradkeel_store.page.source import View, mapping, number, records, text
from gradkeel_store.page.wording import METRICS, count, exact, figure, sentence_case

LEAD = (
    "One column at a time was shuffled among rows that training never saw, so that it tells the model "
    "nothing: what the error then gains is what the model owes to the column. Columns that tell the same "
    "can stand in for one another, and then each looks less important than it is."
)
MOST = 40


def importance_section(view: View) -> Section | None:
    """A bar for each column, the most important first; None where it was not measured."""
    given = mapping(view.part("fit").get("importance"))
    columns = [one for one in records(given.get("columns")) if text(one.get("column"))]
    if not columns:
        return None
    body = [_bars(given, columns, view.most(MOST)), further(len(columns) - view.most(MOST), "column")]
    return Section("importance", "What the predictions rest on", LEAD, [*body, _slopes()])


def _bars(given: dict[str, Any], columns: list[dict[str, Any]], most: int) -> Html:
    metric = METRICS.get(text(given.get("metric")), (sentence_case(text(given.get("metric"))), ""))[0]
    scale = linear([number(one.get("mean")) for one in columns], zero=True, pad=0.0)
    rows = [
        (
            name(one["column"], 40),
            bar_cell(number(one.get("mean")), scale),
            _with_spread(one),
            exact(one.get("gradient"), 3),
        )
        for one in columns[:most]
    ]
    head = ("Column", HEAD, f"{metric} gained when shuffled", "Slope")
    return table(head, rows, caption=_caption(given, metric), cls="bars")


def _with_spread(one: dict[str, Any]) -> Child:
    if number(one.get("mean")) is None:
        return "not shuffled"
    return [exact(one["mean"], 3), tag("span", f" ± {figure(one.get('sd'), 2)}", cls="unit")]


def _caption(given: dict[str, Any], metric: str) -> str:
    rows, whole = (number(given.get(key)) or 0 for key in ("rows", "rows_of"))
    of = f" of {whole:,.0f}, drawn by the seed" if rows < whole else ""
    repeats = int(number(given.get("repeats")) or 0)
    return (
        f"{metric} is {figure(given.get('base'))} with all columns as they are. Mean and standard deviation "
        f"of {count(repeats, 'shuffle')} over {count(int(rows), 'row')}{of}."
    )


def _slopes() -> Html:
    words = (
        "Slope: how far the model’s output moves, in its own units, when the column’s inputs "
        "move by their standard deviation; the mean over rows."
    )
    return tag("p", words, cls="note")
