"""Prediction intervals, and what they were measured to hold."""

from __future__ import annotations

from typing import Any

from gradkeel_store.page.markup import Child, Html, name, table, tag
from gradkeel_store.page.sections.section import Section
from gradkeel_store.page.source import View, items, mapping, number, numbers, records, text
from gradkeel_store.page.wording import count, exact, percent

_LEAD = (
    "How far from its predictions the truth lay on rows of the validation part gives margins that hold a "
    "share of the truth, whatever the model. Whether they do was counted on the test part."
)
_KINDS = {
    "split_conformal": "Prediction ± a margin (split-conformal).",
    "conformalised_quantiles": "From a lower to an upper quantile, each moved by a margin (conformalised "
    "quantile regression): as wide as the row asks for.",
}


def intervals_section(view: View) -> Section | None:
    """A line for each level, and target of several; None where there are no intervals."""
    held = mapping(view.part("fit").get("intervals"))
    levels = records(held.get("levels"))
    if not levels:
        return None
    targets = [str(target) for target in items(held.get("targets"))]
    body: list[Child] = [_table(levels, targets), _said(held)]
    return Section("intervals", "Prediction intervals", _LEAD, body)


def _table(levels: list[dict[str, Any]], targets: list[str]) -> Html:
    several = len(targets) > 1
    rows = [
        [percent(number(one.get("level"))), *([name(target, 40)] if several else []), *_cells(one, i)]
        for one in levels
        for i, target in enumerate(targets)
    ]
    head = (
        "Should hold",
        *(["Target"] if several else []),
        "Margin",
        "Held on the test part",
        "95\u00a0% interval of that",
        "Mean width",
    )
    return table(head, rows, caption="Prediction intervals, in the target’s own units", cls="numbers")


def _cells(level: dict[str, Any], index: int) -> list[Child]:
    margin, coverage, low, high, width = (
        _entry(level.get(key), index)
        for key in ("margins", "coverage", "coverage_low", "coverage_high", "width")
    )
    if margin is None:
        return ["too few validation rows", percent(None), percent(None), exact(None)]
    measured = f"{percent(low)} to {percent(high)}" if coverage is not None else percent(None)
    return [exact(margin), percent(coverage), measured, exact(width)]


def _entry(values: Any, index: int) -> float | None:
    held = numbers(values)
    return held[index] if index < len(held) else None


def _said(held: dict[str, Any]) -> Html:
    rows = number(held.get("rows"))
    from_rows = f"Margins from {count(int(rows), 'validation row')}. " if rows is not None else ""
    kind = _KINDS.get(text(held.get("kind")), "")
    return tag("p", f"{kind} {from_rows}{text(held.get('note'))}")
