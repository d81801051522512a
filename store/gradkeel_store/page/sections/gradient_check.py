"""Are the gradients right? Finite differences against what autograd computed."""

from __future__ import annotations

from typing import Any

from gradkeel_store.page.charts import frame
from gradkeel_store.page.charts.frame import Axes, Key
from gradkeel_store.page.charts.readings import line_readings
from gradkeel_store.page.markup import Child, Html, name, shorten, table, tag
from gradkeel_store.page.scales import logarithmic
from gradkeel_store.page.sections.section import Section, absent, further
from gradkeel_store.page.source import (
    Number,
    Numbers,
    View,
    items,
    mapping,
    number,
    present,
    records,
    text,
)
from gradkeel_store.page.wording import brief, count, exact, figure, listed, prose, sentence_case, setting

LEAD = (
    "A gradient can be checked without trusting the code that computes it: nudge a weight by a "
    "small h, see how much the loss changes. "
    "Agreement speaks for the code in float64; it says nothing about float32 or about the data."
)
STATUS = {
    "pass": "agrees",
    "fail": "does not agree",
    "kink": "a kink was crossed: no verdict",
    "dead": "both are zero: a dead path, not a pass",
}
_COUNTED = {
    # of one, of several
    "pass": ("agrees with finite differences", "agree with finite differences"),
    "fail": ("does not", "do not"),
    "kink": ("crossed a kink (no verdict)", "crossed a kink (no verdict)"),
    "dead": (
        "lies on a dead path, where both numbers are zero (no verdict)",
        "lie on a dead path, where both numbers are zero (no verdict)",
    ),
}
LIMIT = 1e-5
_MOST, _MOST_CULPRITS = 200, 20


def gradient_check_section(view: View) -> tuple[Section, dict[str, Any]]:
    """The U-curve and the parameters, with the chart's readings."""
    title = "Are the gradients right?"
    check = view.part("gradient_check")
    if not check:
        return Section("gradient-check", title, LEAD, absent(_why_none(view))), {}
    drawn, readings = _curve(check)
    said = _method(text(check.get("method")).rstrip("."))
    return Section(
        "gradient-check",
        title,
        LEAD,
        [_verdict(check), _culprits(check), drawn, _parameters(check, view.most(_MOST)), said],
    ), readings


def _method(method: str) -> Html | None:
    words = sentence_case(method) if " " not in method else prose(method)
    return tag("p", f"Method: {shorten(words, 800)}.", cls="note") if method else None


def _why_none(view: View) -> str:
    if mapping(view.config.get("health")).get("gradient_check") is False:
        return (
            "Not computed: the gradient check was switched off for this job (health.gradient_check is false)."
        )
    return "Not computed: the run ended before the gradients could be checked."


def _verdict(check: dict[str, Any]) -> Html | None:
    states = [text(mapping(entry).get("status")) for entry in mapping(check.get("parameters")).values()]
    if not states:
        return None
    counts = {state: states.count(state) for state in _COUNTED if state in states}
    parts = [f"{amount:,} {_COUNTED[state][amount > 1]}" for state, amount in counts.items()]
    return tag("p", f"Of {count(len(states), 'parameter tensor')}, ", listed(parts), ".", cls="result")


def _culprits(check: dict[str, Any]) -> Html | None:
    """Layers, or the loss, whose own backward was found wrong."""
    given = records(check.get("culprits"))
    if not given:
        return None
    rows = [
        (
            name(one.get("name"), 60),
            name(one.get("kind"), 40),
            listed([shorten(part, 40) for part in items(one.get("with_respect_to"))[:12]]),
            setting(one.get("factor")),
            exact(one.get("relative_error"), 3),
        )
        for one in given[:_MOST_CULPRITS]
    ]
    head = ("Layer or loss", "Class", "Derivative in", "Autograd ÷ measured", "Relative error")
    return tag(
        "div",
        table(head, rows, caption="Whose backward is wrong, each checked by itself", cls="numbers"),
        further(len(given) - _MOST_CULPRITS, "layer"),
    )


def sweep(check: dict[str, Any]) -> tuple[list[float], dict[str, Numbers]]:
    """Step sizes h, largest last, and the error of each method at each."""
    entries = records(check.get("h_sweep"))
    hs = [number(entry.get("h")) for entry in entries]
    keys = dict.fromkeys(key for entry in entries for key in entry if key != "h")
    curves = {key: [number(entry.get(key)) for entry in entries] for key in keys}
    curves = {key: values for key, values in curves.items() if present(values)}
    order = sorted((h, i) for i, h in enumerate(hs) if h is not None and h > 0)
    return [h for h, _ in order], {key: [values[i] for _, i in order] for key, values in curves.items()}


def each_parameter(check: dict[str, Any], most: int = 24) -> list[tuple[list[float], Numbers]]:
    """The curve of each parameter tensor, where the sweep keeps them."""
    entries = [entry for entry in records(check.get("h_sweep")) if (number(entry.get("h")) or 0) > 0]
    ordered = sorted(entries, key=lambda entry: float(entry["h"]))
    names = list(dict.fromkeys(key for entry in ordered for key in mapping(entry.get("parameters"))))
    hs = [float(entry["h"]) for entry in ordered]
    return [
        (hs, [number(mapping(entry.get("parameters")).get(key)) for entry in ordered]) for key in names[:most]
    ]


def _curve(check: dict[str, Any]) -> tuple[Html, dict[str, Any]]:
    hs, curves = sweep(check)
    if len(hs) < 2 or not curves:
        return absent("No sweep over step sizes was kept, so the U-curve cannot be drawn."), {}
    shown = dict(list(curves.items())[:4])
    axes = Axes(
        logarithmic(hs, pad=0.02),
        logarithmic([*(v for c in shown.values() for v in c), LIMIT]),
        240,
        "step size h",
        "relative error",
    )
    by_parameter = each_parameter(check)
    hair = f"s{next((i for i, key in enumerate(shown) if 'central' in key), 0) + 1}"
    marks: list[Child] = [frame.line(*one, axes, f"{hair} hair") for one in by_parameter]
    marks.append(frame.level(LIMIT, axes, "rule dash"))
    for i, values in enumerate(shown.values()):
        marks += [
            frame.line(hs, values, axes, f"s{i + 1}"),
            frame.dots(zip(hs, values, strict=True), axes, f"s{i + 1}"),
        ]
    keys = [
        Key("line", f"s{i + 1}", _curve_name(key), figure(_best(values)), i)
        for i, (key, values) in enumerate(shown.items())
    ]
    keys.append(Key("dash", "rule", f"Limit of agreement, {figure(LIMIT)}"))
    keys += [Key("line", f"{hair} hair", "Each parameter tensor, central")] if by_parameter else []
    readings = {"sweep": line_readings(hs, axes.x, list(shown.values()), axis="h", linked=False)}
    drawn = frame.plot(axes, marks, summary=_words(hs, shown), hover="sweep")
    rows = [(figure(hs[i]), *(exact(values[i], 3) for values in shown.values())) for i in range(len(hs))]
    numbers_table = frame.as_table(
        table(("h", *map(_curve_name, shown)), rows, caption="Error at each step size", cls="numbers")
    )
    note = (
        "Too large a step misses the slope (truncation, right); too small a step drowns in rounding "
        "(left). A correct gradient shows this U."
    )
    return frame.figure_block(
        "sweep", "Error against step size", frame.legend(keys), drawn, numbers_table, note=note
    ), readings


def _curve_name(key: str) -> str:
    known = {"forward": "Forward differences", "central": "Central differences"}
    return next((words for part, words in known.items() if part in key), sentence_case(key))


def _best(values: Numbers) -> Number:
    return min(present(values), default=None)


def _words(hs: list[float], curves: dict[str, Numbers]) -> str:
    ends = [
        (
            f"{_curve_name(key)}: smallest error {figure(_best(values))} at h = "
            f"{figure(hs[values.index(_best(values))])}."
        )
        for key, values in curves.items()
    ]
    return "Error of finite differences against step size, both logarithmic. " + " ".join(ends)


def _parameters(check: dict[str, Any], most: int) -> Html | None:
    given = [(key, mapping(value)) for key, value in mapping(check.get("parameters")).items()]
    if not given:
        return None
    rank = {"fail": 0, "kink": 1, "dead": 2}
    ordered = sorted(given, key=lambda pair: rank.get(text(pair[1].get("status")), 3))
    rows = [
        (
            name(key, 40),
            _status(text(entry.get("status"))),
            *(exact(entry.get(k), 3) for k in ("relative_error", "absolute_error")),
            brief(entry.get("h")),
        )
        for key, entry in ordered[:most]
    ]
    more = further(len(given) - most, "parameter")
    head = ("Parameter", "Result", "Relative error", "Absolute error", "Best h")
    return tag(
        "div", table(head, rows, caption="Gradient check by parameter tensor", cls="numbers statuses"), more
    )


def _status(status: str) -> Html:
    return tag(
        "span",
        STATUS.get(status, sentence_case(status) or "not known"),
        cls=f"status {status if status in STATUS else 'unknown'}",
    )
