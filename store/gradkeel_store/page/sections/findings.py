"""What was found: the most likely cause first, with its evidence and the change that mends it."""

from __future__ import annotations

import json
from typing import Any

from gradkeel_store.page.layout import laid_out
from gradkeel_store.page.markup import Child, Html, details, escape, name, shorten, showable, table, tag
from gradkeel_store.page.sections.section import Section, absent, further
from gradkeel_store.page.source import View, items, mapping, number, text
from gradkeel_store.page.wording import SEVERITIES, place, prose, rule_title, sentence_case, setting

MOST = 60  # findings drawn; the JSON beside the page holds them all
_ANCHORS = {
    "layers": "layers", "norm": "layers", "update_ratio": "layers", "weight_norm": "layers", "lr": "training",
    "loss": "training", "global_norm": "training", "clipped_norm": "training", "clipping": "stabilizers",
    "clip_coefficient": "stabilizers", "gradient_check": "gradient-check", "data": "data", "fit": "result",
}  # fmt: skip


def findings_section(view: View) -> Section:
    """Every finding, the first at full length."""
    found, most = view.entries("findings"), view.most(MOST)
    if not found:
        fired = "Nothing was found: no rule fired."
        nothing = fired if view.steps else "No step was trained, so no rule had anything to judge."
        return Section("findings", "Findings", None, absent(nothing))
    lead = (
        "Each finding says where it was seen, on what evidence, and what to change. What matters "
        "most comes first."
    )
    others = [finding_block(view, entry, i) for i, entry in enumerate(found[1:most], start=1)]
    body = [first_finding(view, found[0]), others, further(len(found) - most, "finding")]
    return Section("findings", "What happened, and what to change", lead, body)


def first_finding(view: View, finding: dict[str, Any]) -> Html:
    """The finding that matters most, unfolded."""
    eyebrow = tag("p", _role(view, finding), cls="eyebrow")
    head = tag("div", eyebrow, tag("h3", rule_title(finding.get("rule")), id="finding-0"), _marks(finding))
    kind = f"finding first {_severity(finding)}"
    return tag("article", head, _body(view, finding, 0), cls=kind, aria_labelledby="finding-0")


def _role(view: View, finding: dict[str, Any]) -> str:
    if view.report.get("verdict") in ("strained", "unstable", "diverged"):
        return "Most likely cause"
    return "Worth knowing" if _severity(finding) == "info" else "What stands out"


def finding_block(view: View, finding: dict[str, Any], index: int) -> Html:
    """A further finding: open where it warns, folded where it only notes."""
    severity = _severity(finding)
    head = [tag("h3", rule_title(finding.get("rule")), id=f"finding-{index}"), _marks(finding)]
    folded = details(head, _body(view, finding, index), opened=severity != "info", cls="fold")
    return tag("article", folded, cls=f"finding {severity}", aria_labelledby=f"finding-{index}")


def _severity(finding: dict[str, Any]) -> str:
    given = text(finding.get("severity"))
    return given if given in SEVERITIES else "info"


def _marks(finding: dict[str, Any]) -> Html:
    spots = place(finding.get("where"))
    where = (
        tag("span", [[" · " if i else None, spot] for i, spot in enumerate(spots)], cls="where")
        if spots
        else None
    )
    return tag("span", tag("span", SEVERITIES[_severity(finding)], cls="chip"), where, cls="line")


def _body(view: View, finding: dict[str, Any], index: int) -> list[Child]:
    explanation = text(finding.get("explanation"))
    return [
        tag("p", shorten(prose(explanation), 4000), cls="explanation") if explanation else None,
        _remedy(view, mapping(finding.get("remedy")), index),
        _evidence(finding, index),
        _others(finding),
        _consequences(view, finding),
        _confidence(finding),
    ]


def _evidence(finding: dict[str, Any], index: int) -> Html | None:
    named = [
        (key, value) for key, value in mapping(finding.get("evidence")).items() if value not in (None, [], {})
    ]
    if not named:
        return None
    rows = [(escape([sentence_case(key)]), evidence_value(key, value)) for key, value in named[:24]]
    return table(("Measured", "Value"), rows, caption="Evidence", label=f"evidence {index + 1}", cls="pairs")


_CODES = ("sign", "most_likely_cause", "issue")  # words of the rules, not of the user's data


def evidence_value(key: str, value: Any) -> Child:
    """A number with all its digits behind it, a reference to a series as a link, anything else as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if number(value) is not None:
        return setting(value)
    if key in _CODES and text(value):
        return shorten(text(value).replace("_", " "), 200)
    if key == "series":
        return [[", " if i else None, _reference(one)] for i, one in enumerate(items(value) or [value])]
    if isinstance(value, dict):
        return [
            [tag("br") if i else None, shorten(k, 40), ": ", evidence_value("", v)]
            for i, (k, v) in enumerate(list(value.items())[:8])
        ]
    if items(value):
        shown = [[", " if i else None, evidence_value("", one)] for i, one in enumerate(value[:8])]
        return [shown, f" … ({len(value):,} in all)" if len(value) > 8 else None]
    return name(value, 200)


def _reference(value: Any) -> Html:
    words = [part for part in showable(value).replace("/", ".").split(".") if part]
    anchor = next((_ANCHORS[word] for word in reversed(words) if word in _ANCHORS), None)
    return tag("a", shorten(value, 80), href=f"#{anchor}") if anchor else name(value)


def _others(finding: dict[str, Any]) -> Html | None:
    also = [shorten(one, 300) for one in items(finding.get("also_consistent_with")) if one]
    return (
        tag("p", tag("b", "Also consistent with: "), "; ".join(also[:8]), ".", cls="also") if also else None
    )


def _consequences(view: View, finding: dict[str, Any]) -> Html | None:
    named = [text(one) for one in items(finding.get("consequences")) if text(one)][:12]
    if not named:
        return None
    known = [text(one.get("rule")) for one in view.entries("findings")[: view.most(MOST)]]
    links = [
        tag("a", rule_title(one), href=f"#finding-{known.index(one)}")
        if one in known
        else escape(rule_title(one))
        for one in named
    ]
    return tag(
        "p",
        tag("b", "May have led to: "),
        [[", " if i else None, link] for i, link in enumerate(links)],
        ".",
        cls="also",
    )


def _confidence(finding: dict[str, Any]) -> Html | None:
    given = finding.get("confidence")
    measured = number(given)
    if measured is not None:
        return tag(
            "p",
            f"Confidence: this rule was right in {measured:.0%} of the seeded faults it fired on.",
            cls="note",
        )
    return tag("p", f"Confidence: {shorten(given, 40)}.", cls="note") if text(given) else None


def _remedy(view: View, remedy: dict[str, Any], index: int) -> Html | None:
    if not remedy:
        return None
    said = tag("p", shorten(prose(remedy["text"]), 2000)) if text(remedy.get("text")) else None
    patch = mapping(remedy.get("patch"))
    parts = [tag("h4", "What to change"), said, _patch(view, patch, index) if patch else None]
    if patch and index == _applied(view) and view.job.get("id"):
        parts.append(
            tag(
                "p",
                "On the command line: ",
                tag("code", f"gradkeel train --apply {shorten(view.job['id'], 60)}"),
                cls="note",
            )
        )
    return tag("div", *parts, _tried(mapping(remedy.get("tried")), index), cls="remedy")


def _patch(view: View, patch: dict[str, Any], index: int) -> Html:
    """The patch; where an earlier finding has the same, a reference to that one."""
    known = [mapping(mapping(one.get("remedy")).get("patch")) for one in view.entries("findings")[:index]]
    if patch not in known:
        return patch_block(patch, index)
    first = known.index(patch)
    to = tag("a", rule_title(view.entries("findings")[first].get("rule")), href=f"#finding-{first}")
    return tag("p", "The patch is that of the finding above: ", to, ".", cls="note")


def _applied(view: View) -> int | None:
    """The finding whose patch `gradkeel train --apply` takes: a warning's before a note's."""
    patched = [
        (i, _severity(entry) == "info")
        for i, entry in enumerate(view.entries("findings"))
        if mapping(mapping(entry.get("remedy")).get("patch"))
    ]
    return min(patched, key=lambda one: (one[1], one[0]))[0] if patched else None


def patch_block(patch: dict[str, Any], index: int, by: str | None = None) -> Html:
    """The config patch, selectable, with a button that copies it (shown once the page's script runs).

    ``by``: id of what describes it, by default that of the finding.
    """
    words = laid_out(patch)
    exact_words = words if showable(words) == words else json.dumps(patch, indent=2)
    if len(exact_words) > 20_000:
        return absent("The patch is too long to print here; the report's JSON holds it.")
    button = tag(
        "button",
        "Copy patch",
        type="button",
        hidden=True,
        data_copy=f"patch-{index}",
        aria_describedby=by or f"finding-{index}",
    )
    code = tag(
        "pre",
        tag("code", exact_words),
        id=f"patch-{index}",
        tabindex=0,
        role="region",
        aria_label=f"Config patch {index + 1}",
    )
    bar = tag(
        "div",
        tag("span", "Config patch, a JSON merge patch for POST /v1/jobs"),
        button,
        tag("span", "", role="status", cls="copied"),
        cls="patch-bar",
    )
    return tag("div", bar, code, cls="patch")


def _tried(tried: dict[str, Any], index: int) -> Html | None:
    if not tried:
        return None
    rows = [
        (sentence_case(key), evidence_value(key, value)) for key, value in tried.items() if value is not None
    ]
    return table(
        ("Re-run with this change", "Measured"),
        rows[:16],
        caption="What a re-run with this change gave",
        label=f"re-run {index + 1}",
        cls="pairs",
    )
