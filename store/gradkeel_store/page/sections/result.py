"""What the model is worth: its metrics beside baselines that anybody could have."""

from __future__ import annotations

from gradkeel_store.page.charts.bars import bar_cell
from gradkeel_store.page.markup import Child, Html, table, tag
from gradkeel_store.page.scales import linear
from gradkeel_store.page.sections.scores import Scores, baseline_scores, headline, model_scores
from gradkeel_store.page.sections.section import Section, absent
from gradkeel_store.page.source import Number, View, mapping, number, numbers
from gradkeel_store.page.wording import METRICS, exact, figure, sentence_case

_BASELINES = {"constant": "Always the same answer", "ridge": "Linear model (ridge)"}


def result_section(view: View) -> Section:
    """Bars of the metric that speaks first, then every metric of every part."""
    scores, baselines = model_scores(view), baseline_scores(view)
    lead = (
        "A model is worth something when it beats answers that need no training. “Always the same answer” is the best constant "
        "guess; the linear model is what a straight line through the same data gives."
    )
    if not scores:
        return Section("result", "Result", lead, absent("No metrics were computed: there was no usable model to evaluate."))
    return Section("result", "Result beside the baselines", lead, [_bars(view), _all_metrics(scores, baselines), _remarks(view)])


def _bars(view: View) -> Html | None:
    best = headline(view)
    if best is None:
        return None
    entries: list[tuple[str, Number, str]] = [("This model", best.model, "accent")]
    for key, parts in baseline_scores(view).items():
        entries.append((_baseline_name(key), parts.get(best.part, {}).get(best.metric), "quiet"))
    scale = linear([value for _, value, _ in entries], zero=True, pad=0.0)
    rows = [(words, bar_cell(value, scale, cls), exact(value)) for words, value, cls in entries]
    way = METRICS[best.metric][1]
    caption = f"{best.words} on the {best.part} part, {way} is better"
    return tag("figure", tag("figcaption", tag("h3", caption)), table(("", "", best.words), rows, caption=caption, cls="bars unheaded"), cls="chart")


def _baseline_name(key: str) -> str:
    return _BASELINES.get(key) or sentence_case(key)


def _all_metrics(scores: dict[str, Scores], baselines: dict[str, dict[str, Scores]]) -> Html:
    parts = list(scores)
    names = [metric for metric in METRICS if any(metric in scores[part] for part in parts)]
    names += sorted({metric for part in parts for metric in scores[part]} - set(names))
    columns: list[tuple[str, dict[str, Scores]]] = [("This model", scores), *((_baseline_name(key), value) for key, value in baselines.items())]
    shown = [(words, part, given[part]) for words, given in columns for part in parts if part in given]
    head: list[Child] = ["Metric", *(f"{words}, {part}" for words, part, _ in shown)]
    rows = [[_metric_name(metric), *(exact(given.get(metric)) for _, _, given in shown)] for metric in names]
    return table(head, rows, caption="Every metric of every part, in the target's own units", cls="numbers")


def _metric_name(metric: str) -> list[Child]:
    words, way = METRICS.get(metric, (sentence_case(metric), ""))
    return [words, tag("span", f" {way} is better", cls="unit") if way else None]


def _remarks(view: View) -> Html | None:
    fit = view.part("fit")
    said = [_gain(fit.get("gain")), _residual(number(fit.get("mean_residual"))), _behind(view)]
    lines = [tag("p", line) for line in said if line]
    return tag("div", lines, cls="remarks") if lines else None


def _gain(gain: object) -> str | None:
    given = mapping(gain)
    value = next((number(given[key]) for key in ("value", "mean", "estimate", "gain") if number(given.get(key)) is not None), number(gain))
    if value is None:
        return None
    bounds = numbers(given.get("interval")) or numbers([given.get("low", given.get("lower")), given.get("high", given.get("upper"))])
    low, high = bounds if len(bounds) == 2 else (None, None)
    interval = f" (bootstrap interval {figure(low)} to {figure(high)})" if low is not None and high is not None else ""
    doubt = " The interval contains zero: the gain may be chance." if low is not None and high is not None and low <= 0 <= high else ""
    over = f" over {given['over']}" if isinstance(given.get("over"), str) else " over the best constant"
    return f"Gain{over}: {figure(value)}{interval}.{doubt}"


def _residual(mean: Number) -> str | None:
    if mean is None:
        return None
    return f"Mean residual (what the model misses on average, in target units): {figure(mean)}. Near zero is good; losses such as Huber do not aim at the mean."


def _behind(view: View) -> str | None:
    best, ridge = headline(view), baseline_scores(view).get("ridge", {})
    linear_score = ridge.get(best.part, {}).get(best.metric) if best else None
    if best is None or linear_score is None:
        return None
    lower = METRICS[best.metric][1] == "lower"
    beaten = linear_score < best.model if lower else linear_score > best.model
    if not beaten:
        return None
    return f"The linear model does better here ({figure(linear_score)} against {figure(best.model)}): on this data the simpler model is the better choice."


