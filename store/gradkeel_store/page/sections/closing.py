"""The end of the page: what was not computed, what watching cost, and where every number came from."""

from __future__ import annotations

from typing import Any

from gradkeel_store.page.charts.bars import HEAD, bar_cell
from gradkeel_store.page.layout import laid_out
from gradkeel_store.page.markup import Child, Html, details, name, shorten, showable, table, tag
from gradkeel_store.page.scales import linear
from gradkeel_store.page.sections.section import Section, absent
from gradkeel_store.page.sections.studies import not_computed
from gradkeel_store.page.source import View, items, mapping, number
from gradkeel_store.page.wording import exact, percent, sentence, sentence_case

_MOST = 60


def cost_section(view: View) -> Section:
    """Cost of monitoring, by probe where known."""
    cost = view.part("cost")
    fraction = number(cost.get("monitoring_fraction"))
    lead = (
        "Watching a training takes time. Nothing that is watched changes a weight; this is what it cost here."
    )
    if fraction is None:
        return Section(
            "cost", "Cost of watching", lead, absent("The cost of monitoring was not measured in this run.")
        )
    total = tag("p", tag("b", percent(fraction)), " of the training time went into monitoring.", cls="result")
    return Section("cost", "Cost of watching", lead, [total, _by_probe(mapping(cost.get("by_probe")))])


def _by_probe(given: dict[str, Any]) -> Html | None:
    entries = [(key, value) for key, entry in given.items() if (value := number(entry)) is not None]
    if not entries:
        return None
    ordered = sorted(entries, key=lambda pair: -pair[1])[:_MOST]
    scale = linear([value for _, value in ordered], zero=True, pad=0)
    rows = [(sentence_case(key), bar_cell(value, scale, "s1"), exact(value, 3)) for key, value in ordered]
    return table(("Probe", HEAD, "Seconds"), rows, caption="Cost by probe, in seconds", cls="bars")


_REPRODUCIBLE: dict[bool, str] = {
    True: "With the same data, config and seed on the same kind of machine, this report comes out the "
    "same (timings apart).",
    False: "This run was ended from outside or by the clock, so that another run may end at another step.",
}


def provenance_section(view: View) -> Section:
    """Digests, versions, hardware, the config, and what was not computed."""
    again = view.part("provenance").get("reproducible")
    lead = _REPRODUCIBLE[again] if isinstance(again, bool) else None
    missing = tag(
        "div",
        tag("h3", "Not computed"),
        tag("ul", [tag("li", line) for line in not_computed(view)], cls="notes"),
    )
    return Section(
        "provenance",
        "Where this comes from",
        lead,
        [_origin(view), _config(view), _remarks(view), missing if not_computed(view) else None],
    )


def _remarks(view: View) -> Html | None:
    """What could not be measured or judged, and why."""
    noted = [sentence(str(one)) for one in items(view.part("provenance").get("notes"))[:_MOST] if one]
    if not noted:
        return None
    lines = [tag("li", one) for one in noted]
    return tag("div", tag("h3", "Tried, and not done"), tag("ul", lines, cls="notes"))


def _origin(view: View) -> Html:
    given = [
        (key, value)
        for key, value in view.part("provenance").items()
        if value not in (None, {}, []) and key not in ("config", "notes")
    ]
    rows = [(sentence_case(key), _plain(value)) for key, value in given[:_MOST]]
    if not rows:
        return absent("The origin of this run was not recorded.")
    rows.append(("Report schema", name(view.report.get("schema_version", "–"))))
    return table(("What", "Value"), rows, caption="Provenance", cls="pairs")


def _plain(value: Any) -> Child:
    if isinstance(value, dict):
        return [
            [tag("br") if i else None, shorten(key, 40), ": ", _plain(inner)]
            for i, (key, inner) in enumerate(list(value.items())[:20])
        ]
    if items(value):
        return ", ".join(shorten(one, 80) for one in value[:20])
    words = {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value
    return tag("span", shorten(words, 200), cls="mono")


def _config(view: View) -> Html | None:
    if not view.config:
        return None
    words = laid_out(view.config)
    if len(words) > 40_000:
        return absent("The config is too long to print here; the job’s document holds it.")
    code = tag("pre", tag("code", showable(words)), tabindex=0, role="region", aria_label="Resolved config")
    return details("The resolved config, every option of it", code)
