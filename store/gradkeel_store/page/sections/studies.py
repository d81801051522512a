"""Studies a job may ask for: preflight. Those that have sections of their own are not here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradkeel_store.page.markup import Child, Html, table, tag
from gradkeel_store.page.sections.findings import evidence_value
from gradkeel_store.page.sections.section import Section
from gradkeel_store.page.source import View, mapping
from gradkeel_store.page.wording import sentence_case

_MOST = 24


def studies_section(view: View) -> Section | None:
    """The studies there are; None where there is none."""
    parts = [
        _rows(view.entries("preflight"), "Preflight: which scaling allows which learning rate"),
    ]
    there = [part for part in parts if part]
    lead = (
        "Further measurements that this job asked for. Norms under different scalings or losses are "
        "not comparable; compare metrics in target units."
    )
    return Section("studies", "Further studies", lead, there) if there else None


def not_computed(view: View) -> list[str]:
    """One sentence for each study that was not made."""
    reasons = {
        "curvature": (
            "Curvature (how sharply the loss bends, and the learning rate that allows) was not "
            "measured: health.curvature was off."
        ),
        "preflight": "No preflight (a trial of learning rates before training) belongs to this report.",
        "counterfactual": (
            "The run without its stabilizers, for comparison, was not made: health.counterfactual was off."
        ),
        "repair": "No repair was tried: health.repair was 0, or nothing called for one.",
    }
    return [sentence for key, sentence in reasons.items() if not view.report.get(key)]


def _rows(entries: Sequence[dict[str, Any]], caption: str) -> Html | None:
    if not entries:
        return None
    keys = list(dict.fromkeys(key for entry in entries[:_MOST] for key in entry))[:9]
    rows: list[list[Child]] = [
        [evidence_value(key, _plain(entry.get(key))) for key in keys] for entry in entries[:_MOST]
    ]
    return tag(
        "div",
        tag("h3", caption),
        table([sentence_case(key) for key in keys], rows, caption=caption, cls="numbers"),
    )


def _plain(value: Any) -> Any:
    return mapping(value) or (value if value is not None else "–")
