"""Repairs that were tried: what went wrong, what was changed, and what a run with the change gave."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from gradkeel.contract.patch import changes, dotted
from gradkeel_store.page.markup import Child, Html, shorten, table, tag
from gradkeel_store.page.sections.section import Section, further
from gradkeel_store.page.source import View, mapping, number, text
from gradkeel_store.page.wording import METRICS, count, exact, rule_title, sentence_case, whole

MOST = 12
STATUSES = {
    "applied": "kept",
    "reverted": "tried and undone",
    "refused": "not tried",
}
_MARKS = {"applied": "info", "reverted": "warning", "refused": "info"}
_LEAD = (
    "This job was allowed to mend itself. Where something critical was found, the training was stopped, one "
    "change was made to its config, and it was run again with the same seed. The runs before and after a "
    "change are compared on the same validation rows, in the target’s own units; a change that made things "
    "worse was undone."
)


def repairs_section(view: View) -> Section | None:
    """Every try in its order; None where there was none."""
    tries = view.entries("repair")
    if not tries:
        return None
    most = view.most(MOST)
    shown = [_try(entry, index) for index, entry in enumerate(tries[:most])]
    return Section("repairs", "Repairs tried", _LEAD, [*shown, further(len(tries) - most, "repair")])


def _try(entry: dict[str, Any], index: int) -> Html:
    status = text(entry.get("status"))
    chip = tag("span", STATUSES.get(status) or sentence_case(status) or "tried", cls="chip")
    heading = f"Repair {whole(entry.get('attempt'))}: {rule_title(entry.get('rule'))}"
    parts: list[Child] = [
        tag("h3", heading, id=f"repair-{index}"),
        tag("span", chip, cls="line"),
        _said("What had gone wrong: ", entry.get("failed")),
        _said("What was changed: " if status != "refused" else "What was proposed: ", entry.get("text")),
        _settings(mapping(entry.get("patch")), index),
        _begun(entry) if status != "refused" else None,
        _metrics(entry, index),
        _said("What came of it: " if status != "refused" else "Why not: ", entry.get("reason")),
    ]
    kind = f"finding {_MARKS.get(status, 'info')}"
    return tag("article", *parts, cls=kind, aria_labelledby=f"repair-{index}")


def _said(label: str, value: Any) -> Html | None:
    words = text(value)
    return tag("p", tag("b", label), shorten(words, 1000), cls="also") if words else None


def _settings(patch: dict[str, Any], index: int) -> Html | None:
    """The options that the change sets; what it only takes away is left out."""
    given = [(pointer, value) for pointer, value in changes(patch).items() if value is not None]
    if not given:
        return None
    rows = [
        (tag("code", shorten(dotted(pointer), 80)), shorten(json.dumps(_solid(value)), 200))
        for pointer, value in given[:24]
    ]
    head = ("Option of the config", "Set to")
    return table(head, rows, caption="The change", label=f"change of repair {index + 1}", cls="pairs")


def _solid(value: Any) -> Any:
    return {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value


def _begun(entry: dict[str, Any]) -> Html:
    steps, step = number(entry.get("steps")), whole(entry.get("step"))
    begun = "from its start" if entry.get("from") != "last_good" else f"from the good weights of step {step}"
    took = "" if steps is None else f", {count(int(steps), 'step')}"
    stopped = whole(entry.get("stopped_at"))
    return tag(
        "p",
        f"The run before ended after step {stopped}. Re-run with this change {begun} (same seed{took}).",
        cls="note",
    )


def _metrics(entry: dict[str, Any], index: int) -> Html | None:
    before, after = mapping(entry.get("before")), mapping(entry.get("after"))
    names = list(_ordered(entry, before, after))
    if not names:
        return None
    rows = [
        (
            _metric(name),
            exact(before.get(name)),
            exact(after.get(name)),
            METRICS.get(name, ("", ""))[1] or "–",
        )
        for name in names
    ]
    head = ("Metric on the validation rows", "Before", "After", "Better is")
    return table(
        head, rows, caption="Before and after", label=f"metrics of repair {index + 1}", cls="numbers"
    )


def _ordered(entry: dict[str, Any], *metrics: dict[str, Any]) -> Iterable[str]:
    """The metric that decided first."""
    deciding = text(entry.get("metric"))
    found = dict.fromkeys(name for each in metrics for name in each if number(each[name]) is not None)
    return sorted(found, key=lambda name: name != deciding)


def _metric(name: str) -> str:
    return METRICS.get(name, ("", ""))[0] or sentence_case(name)
