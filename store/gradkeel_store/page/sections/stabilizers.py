"""What held the training steady, and where: clips, guards, and numbers that were not finite."""

from __future__ import annotations

from typing import Any

from gradkeel_store.page.markup import Html, escape, shorten, table, tag
from gradkeel_store.page.sections.section import Section, absent, further
from gradkeel_store.page.sections.training import nonfinite_entries
from gradkeel_store.page.source import View, number, present, text
from gradkeel_store.page.wording import brief, exact, percent, sentence, sentence_case, whole

LEAD = (
    "A clip shortens a gradient that is longer than its limit, so that one wild batch cannot "
    "throw the weights away. "
    "A guard skips or undoes a step. Both are safety nets; a net that is hit all the time hides a cause."
)
ROLES = {
    "idle": "idle: it never had to act",
    "safety_net": "safety net: it caught rare steps",
    "step_size_limiter": "step-size limiter: it, rather than the learning rate, set the step",
    "batch_reweighter": (
        "batch reweighter: with this optimizer a constant factor hardly changes the step, so it "
        "mostly changes how much each batch counts"
    ),
}
KINDS = {"nan": "not a number (NaN)", "inf": "infinite", "-inf": "minus infinite"}
_MOST = 40


def stabilizers_section(view: View) -> Section:
    """Clipping, interventions and non-finite numbers."""
    return Section(
        "stabilizers",
        "Clipping, guards and broken numbers",
        LEAD,
        [_clipping(view), _interventions(view), _nonfinite(view)],
    )


def _clipping(view: View) -> Html:
    clips = view.entries("clipping")
    if not clips:
        return absent(
            "No clip was set for this job." if view.config.get("clips") == [] else "No clipping was recorded."
        )
    rows = [_clip_row(i, clip) for i, clip in enumerate(clips[:_MOST], start=1)]
    head = ("Clip", "Steps clipped", "Share", "Median coefficient", "What it was")
    return table(head, rows, caption="Clips in the order they act", cls="numbers words-last")


def _clip_row(order: int, clip: dict[str, Any]) -> list[Any]:
    kind = sentence_case(text(clip.get("kind")) or "clip")
    limit = brief(clip["limit"]) if clip.get("limit") is not None else None
    role = text(clip.get("role"))
    named = escape([f"{order}. {kind}", [" at ", limit] if limit else None])
    return [
        named,
        whole(clip.get("fired_steps")),
        percent(clip.get("fraction")),
        exact(clip.get("median_coefficient")),
        ROLES.get(role) or sentence_case(role),
    ]


def _interventions(view: View) -> Html:
    acted = view.entries("interventions")
    if not acted:
        return absent("No guard had to step in.")
    rows = [
        (
            whole(entry.get("step")),
            *(
                sentence(str(entry.get(key) or "–").replace("_", " "))
                for key in ("action", "reason", "effect")
            ),
        )
        for entry in acted[:_MOST]
    ]
    more = further(len(acted) - _MOST, "intervention")
    return tag(
        "div",
        table(
            ("Step", "What the guard did", "Why", "What came of it"), rows, caption="Interventions of guards"
        ),
        more,
    )


def _nonfinite(view: View) -> Html:
    broken = nonfinite_entries(view)
    if not broken:
        return absent("Every recorded number was finite." if view.steps else "No numbers were recorded.")
    stretches: dict[tuple[str, str], list[float]] = {}
    for entry in broken:
        what = (text(entry.get("series")), text(entry.get("kind")))
        stretches.setdefault(what, []).extend(present([number(entry.get("step"))]))
    rows = [_stretch(series, kind, steps) for (series, kind), steps in list(stretches.items())[:_MOST]]
    head = ("Series", "Value", "First step", "Last step", "How often")
    more = further(len(stretches) - _MOST, "series", "series")
    return tag("div", table(head, rows, caption="Readings that were not finite numbers"), more)


def _stretch(series: str, kind: str, steps: list[float]) -> list[Any]:
    value = KINDS.get(kind.lower()) or shorten(kind or "–", 40)
    ends = [whole(min(steps)), whole(max(steps))] if steps else ["–", "–"]
    return [shorten(series or "–", 80), value, *ends, f"{len(steps):,}"]
