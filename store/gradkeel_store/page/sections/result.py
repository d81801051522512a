"""What the model is worth: its metrics beside baselines that anybody could have."""

from __future__ import annotations

from dataclasses import dataclass

from gradkeel_store.page.charts.bars import HEAD, bar_cell
from gradkeel_store.page.markup import Child, Html, table, tag
from gradkeel_store.page.scales import linear
from gradkeel_store.page.sections.scores import PARTS, Scores, baseline_scores, headline, model_scores
from gradkeel_store.page.sections.section import Section, absent
from gradkeel_store.page.source import Number, View, mapping, number, numbers, records
from gradkeel_store.page.wording import METRICS, brief, exact, figure, sentence_case

_SHOWN_FOLDS = 20
_FOLDS_LEAD = (
    "Each fold’s model was trained without the fold’s rows and judged on them alone. It is another model "
    "than the one of this report, which was trained on the training part."
)
_OVER = {
    "constant": "the best constant",
    "ridge": "the linear model",
    "naive": "the last known value",
    "seasonal_naive": "the value one season back",
}
_BASELINES = {
    "constant": "Always the same answer",
    "ridge": "Linear model (ridge)",
    "naive": "The last known value (naive)",
    "seasonal_naive": "The value one season back",
}


def result_section(view: View) -> Section:
    """Bars of the metric that speaks first, then every metric of every part."""
    scores, baselines = model_scores(view), baseline_scores(view)
    lead = (
        "A model is worth something when it beats answers that need no training. “Always the "
        "same answer” is the best constant "
        "guess; the linear model is what a straight line through the same data gives."
    )
    if not scores:
        nothing = absent("No model was evaluated, so there are no metrics of one.")
        return Section(
            "result", "Result", lead, [nothing, _all_metrics(scores, baselines)] if baselines else nothing
        )
    return Section(
        "result",
        "Result beside the baselines",
        lead,
        [_bars(view), _all_metrics(scores, baselines), _remarks(view), _folds(view)],
    )


def _bars(view: View) -> Html | None:
    best = headline(view)
    if best is None:
        return None
    entries: list[tuple[str, Number, str]] = [("This model", best.model, "accent")]
    for key, parts in baseline_scores(view).items():
        entries.append((baseline_name(key), parts.get(best.part, {}).get(best.metric), "quiet"))
    scale = linear([value for _, value, _ in entries], zero=True, pad=0.0)
    rows = [(words, bar_cell(value, scale, cls), exact(value)) for words, value, cls in entries]
    way = METRICS[best.metric][1]
    caption = f"{best.words} on the {best.part} part, {way} is better"
    return tag(
        "figure",
        tag("figcaption", tag("h3", caption)),
        table(("Answer", HEAD, best.words), rows, caption=caption, cls="bars unheaded"),
        cls="chart",
    )


def baseline_name(key: str) -> str:
    """What a baseline is called on the page."""
    return _BASELINES.get(key) or sentence_case(key)


def _all_metrics(scores: dict[str, Scores], baselines: dict[str, dict[str, Scores]]) -> Html:
    columns: list[tuple[str, dict[str, Scores]]] = [("This model", scores)]
    columns += [(baseline_name(key), given) for key, given in baselines.items()]
    shown = [(words, part, given[part]) for words, given in columns for part in PARTS if part in given]
    every = {metric for _, _, given in shown for metric in given}
    names = [metric for metric in METRICS if metric in every] + sorted(every - set(METRICS))
    head: list[Child] = ["Metric", *(f"{words}, {part}" for words, part, _ in shown)]
    rows = [[_metric_name(metric), *(exact(given.get(metric)) for _, _, given in shown)] for metric in names]
    return table(head, rows, caption="Every metric of every part, in the target’s own units", cls="numbers")


def _folds(view: View) -> Html | None:
    """Scores of a cross-validation: mean and deviation, then fold by fold."""
    found = mapping(view.part("fit").get("cross_validation"))
    folds = records(found.get("per_fold"))
    if not folds:
        return None
    spreads = {metric: mapping(spread) for metric, spread in mapping(found.get("metrics")).items()}
    spreads = {metric: spread for metric, spread in spreads.items() if "mean" in spread}  # not by output
    numbered = [(number(fold.get("fold")), mapping(fold.get("metrics"))) for fold in folds[:_SHOWN_FOLDS]]
    head: list[Child] = ["Metric", "Mean", "Standard deviation", *(f"Fold {brief(i)}" for i, _ in numbered)]
    rows: list[list[Child]] = [
        [
            _metric_name(metric),
            exact(number(spread.get("mean"))),
            exact(number(spread.get("sd"))),
            *(exact(number(given.get(metric))) for _, given in numbered),
        ]
        for metric, spread in spreads.items()
    ]
    lost = [brief(value) for value in numbers(found.get("failed"))]
    return tag(
        "div",
        tag("h3", "Cross-validation"),
        tag("p", _FOLDS_LEAD),
        tag("p", f"Training diverged in fold {', '.join(lost)}; no mean counts it.") if lost else None,
        table(head, rows, caption=f"Scores on the rows held out, {len(folds)} folds", cls="numbers"),
    )


def metric_words(metric: str) -> str:
    """A metric as people call it."""
    return METRICS[metric][0] if metric in METRICS else sentence_case(metric)


def _metric_name(metric: str) -> list[Child]:
    way = METRICS.get(metric, ("", ""))[1]
    return [metric_words(metric), tag("span", f" {way} is better", cls="unit") if way else None]


def _remarks(view: View) -> Html | None:
    fit = view.part("fit")
    said = [*_gains(view), _residual(number(fit.get("mean_residual"))), _behind(view)]
    lines = [tag("p", line) for line in said if line]
    return tag("div", lines, cls="remarks") if lines else None


@dataclass(frozen=True)
class Gain:
    """How much better than a baseline, with the bounds of its bootstrap interval."""

    over: str
    metric: str
    value: float
    low: Number
    high: Number

    @property
    def sentence(self) -> str:
        """The gain in words, and whether it may be chance."""
        metric = f" in {METRICS.get(self.metric, (sentence_case(self.metric), ''))[0]}" if self.metric else ""
        if self.low is None or self.high is None:
            return f"Gain over {self.over}{metric}: {brief(self.value)}."
        chance = " The interval contains zero, so this may be chance." if self.low <= 0 <= self.high else ""
        bounds = f"95\u00a0% bootstrap interval {brief(self.low)} to {brief(self.high)}"
        return f"Gain over {self.over}{metric}: {brief(self.value)} ({bounds}).{chance}"


def gains(given: object, over: str = "constant", metric: str = "") -> list[Gain]:
    """The gains of a report: one alone, or by baseline, by metric, or both."""
    whole = mapping(given)
    value = number(whole.get("value"))
    if value is not None:
        low, high = [*numbers(whole.get("interval")), None, None][:2]
        named = _OVER.get(over) or sentence_case(over)
        return [
            Gain(named, metric, value, number(whole.get("low")) or low, number(whole.get("high")) or high)
        ]
    found: list[Gain] = []
    for key, inner in whole.items():
        found += gains(inner, over, key) if key in METRICS else gains(inner, key, metric)
    return found


def _gains(view: View) -> list[str]:
    best, found = headline(view), gains(view.part("fit").get("gain"))
    first = [gain for gain in found if best and gain.metric in ("", best.metric)] or found
    return [gain.sentence for gain in first[:4]]


def _residual(mean: Number) -> str | None:
    if mean is None:
        return None
    return (
        f"Mean residual (prediction minus truth, on average, in target units): {figure(mean)}. Near "
        "zero is good; losses such as Huber do not aim at the mean."
    )


def _behind(view: View) -> str | None:
    best, ridge = headline(view), baseline_scores(view).get("ridge", {})
    linear_score = ridge.get(best.part, {}).get(best.metric) if best else None
    if best is None or linear_score is None:
        return None
    lower = METRICS[best.metric][1] == "lower"
    beaten = linear_score < best.model if lower else linear_score > best.model
    if not beaten:
        return None
    scores = f"({figure(linear_score)} against {figure(best.model)})"
    if _beaten_by_chance(view, best.metric):
        return f"The linear model is a little ahead here {scores}, by no more than chance may explain."
    return f"The linear model does better here {scores}: on this data the simpler model is the better choice."


def _beaten_by_chance(view: View, metric: str) -> bool:
    """Whether the interval of the gain over the linear model is unknown, or contains zero."""
    over = [gain for gain in gains(view.part("fit").get("gain")) if gain.over == _OVER["ridge"]]
    gain = next((one for one in over if one.metric == metric), None)
    return gain is None or gain.low is None or gain.high is None or gain.low <= 0 <= gain.high
