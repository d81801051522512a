"""The same training without its stabilizers: what came of each arm, side by side."""

from __future__ import annotations

from typing import Any

from gradkeel.contract.counterfactual import ARMS, NOT_COMPARABLE
from gradkeel_store.page.charts import frame
from gradkeel_store.page.charts.frame import Axes, Key
from gradkeel_store.page.charts.readings import line_readings
from gradkeel_store.page.markup import Child, Html, escape, name, shorten, table, tag
from gradkeel_store.page.scales import exact_range, fitting
from gradkeel_store.page.sections.section import Section, absent
from gradkeel_store.page.sections.training import Readings, cross_at
from gradkeel_store.page.source import Numbers, View, items, mapping, number, numbers, present, records, text
from gradkeel_store.page.wording import METRICS, count, exact, figure, sentence_case, whole

_MOST = 8
_STYLES = ("s1", "s2", "s4", "s5", "s6 dash")
_LEAD = (
    "What would have come of this training without what held it steady: the same first weights and the same "
    "batches in the same order, with one stabilizer left out at a time, and then all. The model above is not "
    "one of these."
)
_SQUARED = (
    "The squared loss r² replaces Huber, whose gradient near zero is half as large: a small difference may "
    "be that of the step’s size."
)
Json = dict[str, Any]


def counterfactual_section(view: View, readings: Readings) -> Section | None:
    """The arms; None where none were asked for."""
    found = view.part("counterfactual")
    arms = records(found.get("arms"))[:_MOST]
    if not arms:
        return None
    told = text(found.get("summary"))
    parts: list[Child] = [
        tag("p", shorten(told, 1200), cls="result") if told else None,
        _metric_chart(found, arms, readings),
        _table(found, arms),
        _losses(arms),
        _digests(found),
    ]
    return Section("counterfactual", "Without its stabilizers", _LEAD, parts)


def _words(arm: Json) -> Child:
    """What the arm is, as the head of a line."""
    key = text(arm.get("without"))
    return ARMS[key][:1].upper() + ARMS[key][1:] if key in ARMS else ["Without ", name(key or "–")]


def _plain_words(arm: Json) -> str:
    key = text(arm.get("without"))
    return ARMS.get(key) or f"without {shorten(key, 60)}"


def _pairs(arm: Json, key: str) -> tuple[list[float], Numbers]:
    """A series of [step, value] pairs as steps and values; what has no step is left out."""
    pairs = [numbers(pair) for pair in items(arm.get(key))]
    whole_pairs = [(pair[0], pair[1]) for pair in pairs if len(pair) == 2 and pair[0] is not None]
    return [step for step, _ in whole_pairs if step is not None], [value for _, value in whole_pairs]


def _ran(arms: list[Json]) -> list[Json]:
    return [arm for arm in arms if arm.get("status") == "ran"]


# ------------------------------------------------------------------------------------------------ the metric


def _metric_chart(found: Json, arms: list[Json], readings: Readings) -> Html | None:
    curves = [(arm, *_pairs(arm, "curve")) for arm in _ran(arms)]
    values = [value for _, _, curve in curves for value in curve]
    if not present(values):
        return None
    metric = text(found.get("metric"))
    words = METRICS.get(metric, (sentence_case(metric or "metric"), ""))[0]
    ends = [step for _, steps, _ in curves for step in steps]
    axes = Axes(exact_range([0.0, *ends]), fitting(values), 220, "step", f"{words}, validation rows")
    steps = sorted(set(ends))
    columns = [_at(steps, at, curve) for _, at, curve in curves]
    readings["arms"] = line_readings(steps, axes.x, columns, axis="step", linked=False)
    marks = [
        [frame.line(at, curve, axes, style), frame.dots(zip(at, curve, strict=True), axes, style)]
        for (_, at, curve), style in zip(curves, _STYLES, strict=False)
    ]
    crosses = [
        cross_at(step, axes) for arm, *_ in curves if (step := number(arm.get("diverged_at"))) is not None
    ]
    keys = [
        Key("dash" if "dash" in style else "line", style, _words(arm), _resting(arm, curve), i)
        for i, ((arm, _, curve), style) in enumerate(zip(curves, _STYLES, strict=False))
    ]
    keys += [Key("cross", "broken", "Diverged here")] if crosses else []
    summary = " ".join(_spoken(arm, curve, words) for arm, _, curve in curves)
    drawn = frame.plot(axes, marks[::-1], summary=summary, over=crosses, hover="arms")
    title = f"{words} on the validation rows, by arm"
    return frame.figure_block("arms", title, frame.legend(keys), drawn)


def _at(wanted: list[float], steps: list[float], values: Numbers) -> Numbers:
    there = dict(zip(steps, values, strict=True))
    return [there.get(step) for step in wanted]


def _resting(arm: Json, curve: Numbers) -> str:
    step = number(arm.get("diverged_at"))
    return f"diverged at step {whole(step)}" if step is not None else figure(curve[-1] if curve else None)


def _spoken(arm: Json, curve: Numbers, words: str) -> str:
    there, step = present(curve), number(arm.get("diverged_at"))
    ended = f"diverged at step {whole(step)}" if step is not None else None
    course = f"{words} from {figure(there[0])} to {figure(there[-1])}" if there else None
    said = ", ".join(part for part in (course, ended) if part) or "nothing was measured"
    return sentence_case(_plain_words(arm)) + f": {said}."


# ------------------------------------------------------------------------------------------------- the table


def _table(found: Json, arms: list[Json]) -> Html:
    metrics = list(
        dict.fromkeys(key for arm in arms for key, value in _scores(arm).items() if value is not None)
    )
    shown = metrics[:4]
    part = {"validation": "validation rows", "train": "training rows"}.get(
        text(found.get("part")), "same rows"
    )
    head = ["Arm", "How it ended", *(METRICS.get(key, (sentence_case(key), ""))[0] for key in shown)]
    rows = [
        [_words(arm), _ended(arm), *(exact(_scores(arm).get(key)) for key in shown), exact(_largest(arm))]
        for arm in arms
    ]
    caption = f"Each arm on the {part}, in target units, and its largest gradient norm"
    note = tag("p", NOT_COMPARABLE, cls="note")
    squared = tag("p", _SQUARED, cls="note") if any(_squared(arm) for arm in _ran(arms)) else None
    return tag(
        "div",
        table([*head, "Largest gradient norm"], rows, caption=caption, cls="numbers statuses"),
        note,
        squared,
    )


def _scores(arm: Json) -> dict[str, float | None]:
    return {key: number(value) for key, value in mapping(arm.get("metrics")).items()}


def _squared(arm: Json) -> bool:
    return "huber" in items(arm.get("left_out"))


def _largest(arm: Json) -> float | None:
    _, norms = _pairs(arm, "gradient_norm")
    return max(present(norms), default=None)


def _ended(arm: Json) -> Child:
    if arm.get("status") != "ran":
        status = sentence_case(text(arm.get("status")) or "not run")
        reason = text(arm.get("reason"))
        return f"{status}: {shorten(reason, 200)}" if reason else status
    step = number(arm.get("diverged_at"))
    if step is not None:
        return tag("span", f"Diverged at step {whole(step)}", cls="status fail")
    taken = number(arm.get("steps"))
    held = "Stayed finite" + (f" for {count(int(taken), 'step')}" if taken is not None else "")
    return tag("span", held + (", when its time was over" if arm.get("cut_short") else ""), cls="status pass")


# ----------------------------------------------------------------------------------------- losses and digests


def _losses(arms: list[Json]) -> Html | None:
    drawn = [plot for i, arm in enumerate(_ran(arms)) if (plot := _loss(arm, i)) is not None]
    if not drawn:
        return None
    note = tag(
        "p", "Each arm has an axis of its own: losses under another scaling are other numbers.", cls="aside"
    )
    return tag("div", tag("h3", "Loss of each arm"), note, tag("div", drawn, cls="pair"))


def _loss(arm: Json, index: int) -> Html | None:
    steps, loss = _pairs(arm, "loss")
    if not present(loss):
        return None
    style = _STYLES[index % len(_STYLES)].split()[0]
    step = number(arm.get("diverged_at"))
    axes = Axes(exact_range([0.0, *steps, step or 0.0]), fitting(loss), 110, "step", "loss")
    marks = [frame.line(steps, loss, axes, style), frame.dots(zip(steps, loss, strict=True), axes, style)]
    summary = _spoken(arm, loss, "loss")
    over = cross_at(step, axes) if step is not None else None
    plot = frame.plot(axes, marks if len(steps) <= 30 else marks[0], summary=summary, over=over)
    return frame.figure_block(f"arm-{index}", escape(_words(arm)), plot)


def _digests(found: Json) -> Html | None:
    told = [
        (words, tag("code", shorten(found[key], 80)))
        for words, key in (("First weights", "init_digest"), ("Batch order", "batch_order_digest"))
        if text(found.get(key))
    ]
    if not told:
        return absent("This report holds no digests of first weights and batch order.")
    caption = "sha256 of what every arm began with, worked out in each and the same in all"
    return table(("What", "sha256"), told, caption=caption, cls="pairs")
