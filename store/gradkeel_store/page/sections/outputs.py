"""What a model of several numbers is worth for each of them: targets, or quantiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradkeel_store.page.markup import Child, Html, name, table, tag
from gradkeel_store.page.sections.section import Section
from gradkeel_store.page.source import View, mapping, number, text
from gradkeel_store.page.wording import METRICS, exact, percent

_TARGETS = (
    "One model predicts several columns. R² says how much of a target’s spread it explains, whatever "
    "the unit."
)
_LEVELS = (
    "A quantile’s prediction is right when that share of the truth lies at or below it: compare the last two "
    "columns. The pinball loss is lower the better, and can be compared within a level only."
)


def outputs_section(view: View) -> Section | None:
    """A table by target or by level; None where the model predicts one number or classes."""
    scores = mapping(view.part("fit").get("metrics"))
    part = next((one for one in ("test", "validation") if mapping(scores.get(one))), "test")
    found = mapping(scores.get(part))
    if mapping(found.get("targets")):
        return Section("outputs", "Each target", _TARGETS, _targets(view, mapping(found["targets"]), part))
    if mapping(found.get("levels")):
        return Section("outputs", "Each quantile", _LEVELS, _levels(mapping(found["levels"]), part))
    return None


def _targets(view: View, targets: Mapping[str, Any], part: str) -> list[Child]:
    metrics = ("r2", "rmse", "mae")
    rows = [
        [name(target, 60), *(exact(mapping(values).get(metric)) for metric in metrics)]
        for target, values in targets.items()
    ]
    head = ("Target", *(METRICS[metric][0] for metric in metrics))
    drawn = table(head, rows, caption=f"By target, on the {part} part, in its own units", cls="numbers")
    worst = text(view.part("fit").get("worst_target"))
    said = tag("p", "Predicted worst: ", tag("b", name(worst, 60)), ".") if worst else None
    return [drawn, said]


def _levels(levels: Mapping[str, Any], part: str) -> Html:
    rows = [
        [
            level,
            exact(mapping(values).get("pinball")),
            percent(number(mapping(values).get("coverage"))),
            percent(_level(level)),
        ]
        for level, values in levels.items()
    ]
    head = ("Level", "Pinball loss", "At or below the prediction", "Aimed at")
    return table(head, rows, caption=f"By level, on the {part} part", cls="numbers")


def _level(words: str) -> float | None:
    try:
        return float(words)
    except ValueError:
        return None
