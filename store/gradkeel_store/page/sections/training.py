"""The course of training: loss, gradient norm before and after clipping, and what stepped in."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from gradkeel_store.page.charts import frame
from gradkeel_store.page.charts.frame import Axes, Key
from gradkeel_store.page.charts.readings import line_readings
from gradkeel_store.page.markup import Child, Html, table, tag
from gradkeel_store.page.sampling import evenly, kept_indices
from gradkeel_store.page.scales import Scale, exact_range, fitting
from gradkeel_store.page.sections.scores import model_scores
from gradkeel_store.page.sections.section import Section, absent
from gradkeel_store.page.source import Number, Numbers, View, last, mapping, number, present, records, text
from gradkeel_store.page.wording import count, exact, figure

Readings = dict[str, Any]
Curve = tuple[list[float], Numbers]

LEAD = (
    "Training is a walk downhill: the loss says how wrong the model still is, the gradient says "
    "which way is down and how steep it is. "
    "A sound training shows a loss that falls and settles, and a gradient norm that stays within "
    "a few powers of ten."
)


HINT = (
    "Point at a chart to read it, or move to it with the Tab key and use the arrow keys. "
    "All charts by step move together; at rest they show the last values."
)


def training_section(view: View, readings: Readings) -> Section:
    """Loss and norm over steps."""
    title = "The course of training"
    if not view.steps:
        nothing = absent("No optimizer step was taken, so there is no loss and no gradient to draw.")
        return Section("training", title, LEAD, nothing)
    hint = tag("p", HINT, cls="aside", hidden=True, data_hint=True)
    charts = [_loss(view, readings), _norm(view, readings), _lr(view, readings)]
    return Section("training", title, LEAD, [hint, charts])


def per_epoch(view: View, key: str) -> Curve:
    """A quantity measured once an epoch (`train_loss`, `validation_loss`) by step."""
    curve = [
        entry
        for entry in records(view.part("fit").get("learning_curve"))
        if number(entry.get("step")) is not None
    ]
    values = [number(entry.get(key)) for entry in curve]
    return ([float(entry["step"]) for entry in curve], values) if present(values) else ([], [])


def steps_axis(view: View) -> Scale:
    """The axis that every chart by step shares."""
    return exact_range(view.steps)


def _loss(view: View, readings: Readings) -> Html:
    steps, loss = view.steps, view.series("loss")
    at, validation = per_epoch(view, "validation_loss")
    if not present(loss) and not present(validation):
        return absent("No finite loss was recorded: it was not a number from the first step on.")
    kept = kept_indices([loss], len(steps))
    constant = number(view.part("fit").get("loss_of_best_constant"))
    axes = Axes(steps_axis(view), fitting([*loss, *validation, constant]), 240, "step", "loss")
    columns = [[loss[i] for i in kept], [_held(at, validation, steps[i]) for i in kept]]
    readings["loss"] = line_readings([steps[i] for i in kept], axes.x, columns, axis="step", linked=True)
    keys, marks = _loss_marks(view, axes, kept, constant)
    words = _curve_words("Training loss", steps, loss) + _curve_words(" Validation loss", at, validation)
    drawn = frame.plot(axes, marks, summary=words, over=_events_over(view, axes), hover="loss")
    note = (_log_words(loss) if axes.y.log else "") + _validation_note(validation)
    legend = frame.legend([*keys, *event_keys(view)])
    return frame.figure_block("loss", "Loss", legend, drawn, _loss_table(view, kept), note=note)


def _loss_marks(view: View, axes: Axes, kept: list[int], constant: Number) -> tuple[list[Key], list[Child]]:
    loss = view.series("loss")
    at, validation = per_epoch(view, "validation_loss")
    trained_at, trained = per_epoch(view, "train_loss") if len(kept) > 80 else ([], [])
    style = "s1 thin pale" if present(trained) else "s1"
    keys = [Key("line", style, "Training loss of each batch", figure(last(loss)), 0)]
    marks: list[Child] = [frame.line(view.steps, loss, axes, style, sampled=kept)]
    if present(trained):
        keys.append(Key("line", "s1", "Training loss, mean of the epoch"))
        marks.append(frame.line(trained_at, trained, axes, "s1"))
    if present(validation):
        keys.append(Key("line", "s2", "Validation loss", figure(last(validation)), 1))
        marks.append(frame.line(at, validation, axes, "s2"))
        marks.append(frame.dots(zip(at, validation, strict=True), axes, "s2") if len(at) <= 30 else None)
    if constant is not None:
        same = "change" if _of_changes(view) else "answer"
        keys.append(Key("dash", "rule", f"Always the same {same}, {figure(constant)}"))
        marks.append(frame.level(constant, axes, "rule dash"))
    if _best_step(view):
        returned = ", whose weights are returned" if model_scores(view) else " so far"
        keys.append(Key("tick", "best", f"Best epoch{returned}"))
        marks.append(frame.upright(_best_step(view), axes, "best"))
    return keys, marks


def _of_changes(view: View) -> bool:
    """Whether the network predicts changes from an earlier value."""
    return text(mapping(view.config.get("model")).get("change_from")) in ("last", "season")


def _held(at: Sequence[float], values: Numbers, step: float) -> float | None:
    i = bisect_right(at, step) - 1
    return values[i] if i >= 0 else None


def _best_step(view: View) -> list[float]:
    best = number(view.part("fit").get("best_epoch"))
    curve = records(view.part("fit").get("learning_curve"))
    steps = [
        number(entry.get("step"))
        for entry in curve
        if best is not None and number(entry.get("epoch")) == best
    ]
    return present(steps)[:1]


def _log_words(values: Numbers) -> str:
    zeros = any(value == 0 for value in values)
    return "Logarithmic scale: each line up is a multiple of the one below. " + (
        "Exact zeros lie on the lower edge. " if zeros else ""
    )


def _validation_note(validation: Numbers) -> str:
    return "" if present(validation) else "No validation loss was computed."


def _curve_words(words: str, steps: Sequence[float], values: Numbers) -> str:
    there = present(values)
    if not there:
        return ""
    lowest = min(there)
    where = figure(steps[values.index(lowest)])
    return (
        f"{words} over steps {figure(steps[0])} to {figure(steps[-1])}: starts at {figure(there[0])}, "
        f"ends at {figure(there[-1])}, lowest {figure(lowest)} at step {where}, highest "
        f"{figure(max(there))}."
    )


def _loss_table(view: View, kept: list[int]) -> Html:
    steps, loss = view.steps, view.series("loss")
    at, validation = per_epoch(view, "validation_loss")
    chosen = [kept[i] for i in evenly(len(kept), 24)]
    rows = [(figure(steps[i]), exact(loss[i]), exact(_held(at, validation, steps[i]))) for i in chosen]
    return frame.as_table(
        table(
            ("Step", "Training loss", "Validation loss"),
            rows,
            caption="Loss at selected steps",
            cls="numbers",
        )
    )


def _norm(view: View, readings: Readings) -> Html:
    steps, before, after = view.steps, view.series("global_norm"), view.series("clipped_norm")
    if not present(before):
        return absent("No finite gradient norm was recorded.")
    clipped = clipped_steps(view)
    kept = kept_indices([before, after], len(steps))
    axes = Axes(steps_axis(view), fitting([*before, *after]), 240, "step", "gradient norm")
    marks = [
        frame.line(steps, before, axes, "s3 thin", sampled=kept),
        frame.line(steps, after, axes, "s1 thin", sampled=kept) if clipped else None,
        frame.upright(clipped, axes, "clip", top=965, bottom=1000),
    ]
    columns = (
        [[before[i] for i in kept], [after[i] for i in kept]] if clipped else [[before[i] for i in kept]]
    )
    readings["norm"] = line_readings([steps[i] for i in kept], axes.x, columns, axis="step", linked=True)
    keys = [Key("line", "s3", "Before clipping" if clipped else "Gradient norm", figure(last(before)), 0)]
    if clipped:
        keys += [
            Key("line", "s1", "After clipping", figure(last(after)), 1),
            Key("tick", "clip", "Clipped here"),
        ]
    drawn = frame.plot(
        axes, marks, summary=_norm_words(view, clipped), over=_events_over(view, axes), hover="norm"
    )
    note = _log_words(before) if axes.y.log else ""
    head = tag(
        "p",
        (
            "The length of the whole gradient, all layers together: how strongly each batch pulls at "
            "the weights."
        ),
        cls="aside",
    )
    return frame.figure_block(
        "norm",
        "Gradient norm",
        head,
        frame.legend([*keys, *event_keys(view)]),
        drawn,
        _norm_table(view, kept),
        note=note,
    )


def clipped_steps(view: View) -> list[float]:
    """Steps among those kept at which a clip shortened the gradient."""
    coefficients = view.series("clip_coefficient")
    return [step for step, c in zip(view.steps, coefficients, strict=True) if c is not None and c < 1 - 1e-6]


def _norm_words(view: View, clipped: list[float]) -> str:
    fired = (
        (
            " Clipping shortened the gradient at "
            f"{count(len(clipped), 'of the drawn steps', 'of the drawn steps')}."
        )
        if clipped
        else " Nothing was clipped."
    )
    return _curve_words("Gradient norm before clipping", view.steps, view.series("global_norm")) + fired


def _norm_table(view: View, kept: list[int]) -> Html:
    names = ("global_norm", "clipped_norm", "clip_coefficient", "lr")
    columns = [view.series(key) for key in names]
    chosen = [kept[i] for i in evenly(len(kept), 24)]
    rows = [(figure(view.steps[i]), *(exact(column[i]) for column in columns)) for i in chosen]
    head = ("Step", "Norm before clipping", "Norm after clipping", "Clip coefficient", "Learning rate")
    return frame.as_table(table(head, rows, caption="Gradient norm at selected steps", cls="numbers"))


def _lr(view: View, readings: Readings) -> Html | None:
    rates = view.series("lr")
    if len(set(present(rates))) < 2:
        return None
    kept = kept_indices([rates], len(view.steps), 120)
    axes = Axes(steps_axis(view), fitting(rates), 110, "step", "learning rate")
    readings["lr"] = line_readings(
        [view.steps[i] for i in kept], axes.x, [[rates[i] for i in kept]], axis="step", linked=True
    )
    drawn = frame.plot(
        axes,
        frame.line(view.steps, rates, axes, "s1", sampled=kept),
        summary=_curve_words("Learning rate", view.steps, rates),
        hover="lr",
    )
    return frame.figure_block(
        "lr",
        "Learning rate",
        frame.legend([Key("line", "s1", "Learning rate", figure(last(rates)), 0)]),
        drawn,
    )


def event_steps(view: View) -> tuple[list[float], list[float]]:
    """Steps of interventions and of non-finite numbers."""
    acted = present([number(entry.get("step")) for entry in view.entries("interventions")])
    broken = present([number(entry.get("step")) for entry in nonfinite_entries(view)])
    return sorted(set(acted)), sorted(set(broken))


def nonfinite_entries(view: View) -> list[dict[str, Any]]:
    """The numbers of the series that were not finite: {series, step, kind}."""
    return records(view.part("series").get("nonfinite"))


def event_keys(view: View) -> list[Key]:
    """Legend lines of the marks that charts by step share."""
    acted, broken = event_steps(view)
    keys = [Key("rhomb", "acted", "A guard stepped in")] if acted else []
    return keys + ([Key("cross", "broken", "Not a finite number")] if broken else [])


def _events_over(view: View, axes: Axes) -> list[Child]:
    acted, broken = event_steps(view)
    diamonds = [
        _mark(step, axes, tag("path", d="M0 15l5 5-5 5-5-5z", cls="fill acted"))
        for step in _thinned(acted, axes)
    ]
    crosses = [cross_at(step, axes) for step in _thinned(broken, axes)]
    return [*diamonds, *crosses]


def cross_at(step: float, axes: Axes) -> Html:
    """A cross above the field: numbers stopped being finite there."""
    return _mark(step, axes, tag("path", d="M-4 2l8 8m0-8l-8 8", cls="line broken"))


def _mark(step: float, axes: Axes, shape: Html) -> Html:
    return tag("svg", shape, x=f"{axes.x.at(step) * 100:.2f}%", y=0, width=1, height=12, overflow="visible")


def _thinned(steps: list[float], axes: Axes) -> list[float]:
    """At most one mark for each hundredth of the axis."""
    return list({round(axes.x.at(step) * 100): step for step in steps}.values())
