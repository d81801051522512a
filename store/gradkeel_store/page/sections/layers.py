"""Layer by layer: how strong the gradient arrives, and how far each step moves the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gradkeel_store.page.charts import frame, heatmap
from gradkeel_store.page.charts.frame import Axes, Key
from gradkeel_store.page.charts.readings import line_readings, map_readings
from gradkeel_store.page.markup import Child, Html, name, shorten, table, tag
from gradkeel_store.page.sampling import kept_indices
from gradkeel_store.page.scales import logarithmic
from gradkeel_store.page.sections.section import Section, absent, further
from gradkeel_store.page.sections.training import steps_axis
from gradkeel_store.page.source import Number, Numbers, View, last, mapping, median, numbers, present
from gradkeel_store.page.wording import count, exact, figure, sentence_case

LEAD = (
    "The gradient is worked out from the last layer back to the first. Where it fades on the way "
    "(a map that darkens towards the top) the early "
    "layers cannot learn; where it swells, training is about to run away. Even colours are a good sign."
)
RULE_OF_THUMB = 1e-3
_FIXED = ("norm", "weight_norm", "update_ratio")
DRAWN_ALONE = 6  # with more layers, a band and its extremes are drawn
MOST_ROWS = 200


def layers_section(view: View, readings: dict[str, Any]) -> Section:
    """The heat map, the update ratios, and the same as a table."""
    title = "Layer by layer"
    if not view.steps or not _any_reading(view):
        return Section("layers", title, LEAD, absent(_why_none(view)))
    return Section("layers", title, LEAD, [_map(view, readings), _ratios(view, readings), _table(view)])


def _any_reading(view: View) -> bool:
    return any(present(view.layer_series(layer, key)) for layer in view.layers for key in _FIXED)


def _why_none(view: View) -> str:
    tier = mapping(view.config.get("health")).get("tier")
    if tier == "economy":
        return (
            "Not computed: the economy tier of monitoring keeps no readings by layer. Ask for the "
            "standard tier to see them."
        )
    return "No readings by layer were kept for this run."


def _map(view: View, readings: dict[str, Any]) -> Html:
    names = [layer for layer in view.layers if present(view.layer_series(layer, "norm"))]
    names = names[: view.most(MOST_ROWS)]
    if not names:
        return absent("No finite gradient norm was recorded for any layer.")
    chart = heatmap.heat_map(names, view.steps, [view.layer_series(layer, "norm") for layer in names])
    x = steps_axis(view)
    readings["map"] = map_readings([shorten(layer, 60) for layer in names], chart.starts, x, chart.cells)
    drawn = heatmap.draw(chart, x, summary=_map_words(view, names), hover="map")
    left_out = len(view.layers) - len(names)
    extra = tag("ul", [_plain_swatch(kind, words) for kind, words in _extra(chart)], cls="legend")
    value = tag("p", "", cls="cell-value", data_series=0)
    note = "Each cell shows the largest norm of its stretch of steps." + (
        f" {count(left_out, 'layer')} without finite readings left out." if left_out else ""
    )
    return frame.figure_block(
        "map",
        "Gradient norm of each layer, step by step",
        value,
        drawn,
        heatmap.ramp(chart, extra),
        note=note,
    )


def _extra(chart: heatmap.HeatMap) -> list[tuple[str, str]]:
    cells = [cell for row in chart.cells for cell in row]
    kinds = [("zero", "exactly zero")] if any(cell is not None and cell <= 0 for cell in cells) else []
    return kinds + ([("missing", "no finite reading")] if None in cells else [])


def _plain_swatch(kind: str, words: str) -> Html:
    box = tag(
        "svg",
        tag("rect", x=0, y=1, width=22, height=12, cls=f"box {kind}"),
        width=22,
        height=14,
        aria_hidden="true",
        cls="swatch",
    )
    return tag("li", box, tag("span", words))


def _map_words(view: View, names: Sequence[str]) -> str:
    first, end = names[0], names[-1]
    medians = [median(present(view.layer_series(layer, "norm"))) for layer in (first, end)]
    return (
        f"Heat map of gradient norms, {count(len(names), 'layer')} by steps. Median norm "
        f"{figure(medians[0])} in {first}, the first layer, and {figure(medians[1])} in {end}, the "
        "last. The table below holds the numbers."
    )


def _ratios(view: View, readings: dict[str, Any]) -> Html:
    curves = {layer: view.layer_series(layer, "update_ratio") for layer in view.layers}
    curves = {
        layer: values for layer, values in curves.items() if any(value > 0 for value in present(values))
    }
    if not curves:
        return absent("No update ratios were recorded.")
    kept = kept_indices(list(curves.values())[:DRAWN_ALONE], len(view.steps), 120)
    scale = logarithmic([*(values[i] for values in curves.values() for i in kept), RULE_OF_THUMB])
    axes = Axes(steps_axis(view), scale, 240, "step", "update ÷ weight")
    shown = _shown(curves)
    marks: list[Child] = [_band(view, curves, kept, axes)] if len(curves) > len(shown) else []
    marks += [
        frame.line(view.steps, shown[layer], axes, f"s{i + 1} thin", sampled=kept)
        for i, layer in enumerate(shown)
    ]
    marks.append(frame.level(RULE_OF_THUMB, axes, "rule dash"))
    readings["ratios"] = line_readings(
        [view.steps[i] for i in kept],
        axes.x,
        [[v[i] for i in kept] for v in shown.values()],
        axis="step",
        linked=True,
    )
    keys = [
        Key("line", f"s{i + 1}", name(layer, 30), figure(last(values)), i)
        for i, (layer, values) in enumerate(shown.items())
    ]
    keys += (
        [Key("band", "band", f"All {count(len(curves), 'layer')}, smallest to largest")]
        if len(curves) > len(shown)
        else []
    )
    keys.append(Key("dash", "rule", "0.001, a rule of thumb, not a target"))
    head = tag(
        "p",
        (
            "By which share of its own length one step changes a layer’s weights. Far above the "
            "dashed line a step overwrites what was learnt; far below, nothing is learnt."
        ),
        cls="aside",
    )
    drawn = frame.plot(axes, marks, summary=_ratio_words(curves), hover="ratios")
    return frame.figure_block(
        "ratios",
        "Update ratio",
        head,
        frame.legend(keys),
        drawn,
        note="Logarithmic scale. Biases that started at zero are left out.",
    )


def _shown(curves: dict[str, Numbers]) -> dict[str, Numbers]:
    if len(curves) <= DRAWN_ALONE:
        return curves
    ordered = sorted(curves, key=lambda layer: median(present(curves[layer])) or 0.0)
    chosen = {ordered[0], ordered[1], ordered[-2], ordered[-1]}
    return {layer: values for layer, values in curves.items() if layer in chosen}


def _band(view: View, curves: dict[str, Numbers], kept: list[int], axes: Axes) -> Html | None:
    edges: list[tuple[float, float, float]] = []
    for i in kept:
        there = [value for values in curves.values() if (value := values[i]) is not None and value > 0]
        if there:
            edges.append((view.steps[i], min(there), max(there)))
    upper = [frame.spot(step, high, axes) for step, _, high in edges]
    lower = [frame.spot(step, low, axes) for step, low, _ in reversed(edges)]
    return tag("path", d=f"M{'L'.join(upper + lower)}z", cls="fill band") if edges else None


def _ratio_words(curves: dict[str, Numbers]) -> str:
    ends = {layer: median(present(values)) for layer, values in curves.items()}
    low = min(ends, key=lambda layer: ends[layer] or math.inf)
    high = max(ends, key=lambda layer: ends[layer] or 0.0)
    return (
        f"Line chart of update ratios over steps, logarithmic. Median from {figure(ends[low])} "
        f"({low}) to {figure(ends[high])} ({high}); the rule of thumb is 0.001."
    )


def _table(view: View) -> Html:
    extra = sorted(
        {
            key
            for layer in view.layers.values()
            for key in layer
            if key not in _FIXED and _last_reading(layer.get(key)) is not None
        }
    )
    head: list[Child] = [
        "Layer",
        "Norm, first",
        "Norm, median",
        "Norm, last",
        "Update ratio, median",
        "Weight norm, last",
        *(f"{sentence_case(key)}, last" for key in extra[:8]),
    ]
    most = view.most(MOST_ROWS)
    chosen = list(view.layers.items())[:most]
    rows = [_row(view, layer, given, extra[:8]) for layer, given in chosen]
    caption = "Readings by layer, first layer at the top"
    more = further(len(view.layers) - most, "layer")
    return tag("div", frame.as_table(table(head, rows, caption=caption, cls="numbers")), more)


def _row(view: View, layer: str, given: dict[str, Any], extra: Sequence[str]) -> list[Child]:
    norms, ratios = (
        present(view.layer_series(layer, "norm")),
        present(view.layer_series(layer, "update_ratio")),
    )
    first: Number = norms[0] if norms else None
    weights = last(view.layer_series(layer, "weight_norm"))
    values = [
        first,
        median(norms),
        norms[-1] if norms else None,
        median(ratios),
        weights,
        *(_last_reading(given.get(key)) for key in extra),
    ]
    return [name(layer, 40), *(exact(value, 3) for value in values)]


def _last_reading(given: Any) -> Number:
    """The last value of a reading, a list or (where it is taken more rarely) `{steps, values}`."""
    return last(numbers(mapping(given).get("values") if isinstance(given, dict) else given))
