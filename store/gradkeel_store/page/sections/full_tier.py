"""What the full tier measures besides: how noisy a batch's gradient is, and which columns move the loss."""

from __future__ import annotations

from typing import Any

from gradkeel_store.page.charts import frame
from gradkeel_store.page.charts.bars import HEAD, bar_cell
from gradkeel_store.page.charts.frame import Axes, Key
from gradkeel_store.page.charts.readings import line_readings
from gradkeel_store.page.markup import Html, name, table, tag
from gradkeel_store.page.scales import fitting, linear
from gradkeel_store.page.sections.section import Section, further
from gradkeel_store.page.sections.training import steps_axis
from gradkeel_store.page.source import Number, Numbers, View, last, mapping, number, numbers, present
from gradkeel_store.page.wording import exact, figure, percent

LEAD = (
    "Each step looks at one batch of rows and takes its gradient for that of all rows. The noise scale says "
    "how many rows a batch needs until what the rows have in common outweighs what is chance; the bars say "
    "which columns the loss hangs on."
)
BY_HEART = "Can the model learn a few rows by heart?"
MOST = 30


def full_tier_section(view: View, readings: dict[str, Any]) -> Section | None:
    """Noise scale against batch size, a bar for each column, and whether one batch could be fitted; None
    where nothing of that was measured."""
    series = view.part("series")
    parts = [
        _noise(view, mapping(series.get("gradient_noise")), readings),
        _columns(view, mapping(series.get("input_gradient"))),
    ]
    there = [part for part in parts if part]
    tried = _one_batch(mapping(mapping(view.part("fit").get("checks")).get("one_batch")))
    if there:
        body = [*there, tag("h3", BY_HEART) if tried else None, tried]
        return Section("full-tier", "Noise, and the pull of each column", LEAD, body)
    return Section("full-tier", BY_HEART, None, tried) if tried else None


def _noise(view: View, given: dict[str, Any], readings: dict[str, Any]) -> Html | None:
    pairs = list(zip(numbers(given.get("steps")), numbers(given.get("noise_scale")), strict=False))
    steps = [step for step, _ in pairs if step is not None]
    scales: Numbers = [scale for step, scale in pairs if step is not None]
    if not present(scales):
        return tag("p", _WITHOUT_SCALE, cls="note") if steps else None
    batch = number(mapping(view.config.get("budget")).get("batch_size"))
    axes = Axes(steps_axis(view), fitting([*scales, batch]), 160, "step", "rows")
    readings["noise"] = line_readings(steps, axes.x, [scales], axis="step", linked=False)
    keys = [Key("line", "s1", "Gradient noise scale", figure(last(scales)), 0)]
    marks = [
        frame.line(steps, scales, axes, "s1"),
        frame.dots(zip(steps, scales, strict=True), axes, "s1") if len(steps) <= 30 else None,
    ]
    if batch is not None:
        keys.append(Key("dash", "rule", f"Batch size, {figure(batch)}"))
        marks.append(frame.level(batch, axes, "rule dash"))
    return frame.figure_block(
        "noise",
        "Gradient noise scale against the batch size",
        frame.legend(keys),
        frame.plot(axes, marks, summary=_words(scales, batch), hover="noise"),
        _noise_table(steps, scales),
        note=_words(scales, batch) + _NOTE,
    )


_WITHOUT_SCALE = (
    "The gradient noise scale could not be told: what the rows have in common was smaller than the noise of "
    "the measurement throughout."
)
_NOTE = (
    " Far below the line, more rows a batch would hardly make steps better; far above it, single steps "
    "are mostly chance and only many of them together make progress, as is usual late in a training. A rule "
    "of thumb, not a target (McCandlish et al. 2018)."
)


def _words(scales: Numbers, batch: Number) -> str:
    latest = last(scales)
    beside = f", {figure(latest / batch, 2)} times the batch size" if latest and batch else ""
    return f"At its last measurement the noise scale was {figure(latest, 3)} rows{beside}."


def _noise_table(steps: list[float], scales: Numbers) -> Html:
    rows = [(figure(step), exact(scale)) for step, scale in zip(steps, scales, strict=True)][:200]
    drawn = table(("Step", "Noise scale, rows"), rows, caption="Noise scale by step", cls="numbers")
    return frame.as_table(drawn)


def _columns(view: View, given: dict[str, Any]) -> Html | None:
    by_column = {key: numbers(values) for key, values in mapping(given.get("columns")).items()}
    latest = {key: value for key, values in by_column.items() if (value := last(values)) is not None}
    total = sum(latest.values())
    if not latest or total <= 0:
        return None
    ordered, most = sorted(latest.items(), key=lambda pair: -pair[1]), view.most(MOST)
    scale = linear([*latest.values()], zero=True, pad=0.0)
    rows = [
        (
            name(key, 40),
            bar_cell(value, scale),
            percent(value / total),
            exact(_first(by_column[key]), 3),
            exact(value, 3),
        )
        for key, value in ordered[:most]
    ]
    head = ("Column", HEAD, "Share at the end", "At the start", "At the end")
    caption = (
        "How much the loss of a row changes, to first order, when the column moves by one standard "
        "deviation; the mean over a fixed batch of training rows"
    )
    return tag(
        "div",
        tag("h3", "The pull of each column on the loss"),
        table(head, rows, caption=caption, cls="bars"),
        further(int(number(given.get("columns_of")) or len(latest)) - min(most, len(ordered)), "column"),
    )


def _one_batch(given: dict[str, Any]) -> Html | None:
    rows, steps = number(given.get("rows")), number(given.get("steps"))
    if rows is None or steps is None or given.get("status") not in _FITTED:
        return None
    covered = percent(given.get("covered")) if number(given.get("covered")) is not None else "part"
    words = _FITTED[given["status"]].format(rows=figure(rows), steps=figure(steps), covered=covered)
    return tag("p", words, cls="result")


_FITTED = {
    "pass": "Yes: on {rows} rows alone the initial model covered {covered} of the way from the loss of the "
    "best constant to the lowest possible, in {steps} steps of Adam.",
    "fail": "No: on {rows} rows alone the initial model covered {covered} of the way from the loss of the "
    "best constant to the lowest possible, in {steps} steps of Adam. Look at the model, the loss, the scale "
    "of what is fed and the gradient check before the learning rate.",
}


def _first(values: Numbers) -> Number:
    return next(iter(present(values)), None)
