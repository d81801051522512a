"""A model that is no better than a constant, or than a linear model."""

from __future__ import annotations

from typing import Any

from gradkeel.contract import config as contract
from gradkeel.contract.patch import set_value
from gradkeel.contract.states import Family, Severity
from gradkeel_worker.diagnosis import remedies
from gradkeel_worker.diagnosis.case import Case
from gradkeel_worker.diagnosis.finding import Finding, Remedy
from gradkeel_worker.diagnosis.gain import Gain
from gradkeel_worker.diagnosis.words import METRICS, number, plural

Json = dict[str, Any]

_FEW_ROWS = 30
_LINEAR = {"regression": "ridge regression", "quantile": "ridge regression moved to each quantile"}


def no_better_than_baseline(case: Case) -> list[Finding]:
    """The test metrics within their bootstrap interval of the best constant (critical), or of ridge (info).

    A small test part cannot tell a fair model from a constant: validation rows must not tell them apart
    either.
    """
    over_constant, over_ridge = case.gains.get("constant", {}), case.gains.get("ridge", {})
    lucky = not case.answers_alike and any(gain.certain for gain in over_constant.values())
    if over_constant and case.useless and not lucky:
        return [_like_constant(case, over_constant)]
    if (found := _like_naive(case)) is not None:
        return [found]
    if over_ridge and not _main(over_ridge)[1].certain:
        return [_like_ridge(case, *_main(over_ridge))]
    return []


_NAIVE = {"naive": "the last known value", "seasonal_naive": "the value one season back"}


def _earlier_values(case: Case) -> str:
    """How forecasts by an earlier value do, as a sentence."""
    each = [
        f"{words} gives {number(_main(case.gains[name])[1].baseline)}"
        for name, words in _NAIVE.items()
        if case.gains.get(name)
    ]
    return f" As a forecast, {', '.join(each)}." if each else ""


def _like_naive(case: Case) -> Finding | None:
    """A forecast that an earlier value of the series does as well as: by the one that does best."""
    over = {name: _main(case.gains[name]) for name in _NAIVE if case.gains.get(name)}
    if not over:
        return None
    name, (metric, gain) = min(over.items(), key=lambda entry: entry[1][1].baseline)
    if gain.certain:
        return None
    better = gain.high < 0
    says = "is better" if better else "does as well, as far as so many rows can tell"
    return Finding(
        rule="no_better_than_baseline",
        family=Family.FIT,
        severity=Severity.WARNING,
        confidence="high" if better and gain.rows >= _FEW_ROWS else "medium",
        explanation=(
            f"On {plural(gain.rows, 'row')} that took no part in fitting, {_NAIVE[name]} {says}: "
            f"{_words(metric)} {number(gain.baseline)} against the model's {number(gain.model)} (gain "
            f"{number(gain.value)}, 95 % interval {number(gain.low)} to {number(gain.high)}). Take that "
            "value as the forecast, or look for what the model lacks: a window that holds a whole season, "
            "columns that tell of the future, a target that is a change instead of a level."
        ),
        remedy=Remedy("Try a longer window: this one shows the model little of the past.", _longer(case)),
        evidence=_evidence(case, metric, gain, name),
        where={"phase": "diagnose"},
        also_consistent_with=("a series that drifts beyond its training values", "too few rows to tell"),
    )


def _longer(case: Case) -> Json:
    """Twice the window, where the config with it is accepted."""
    model = case.config.model
    assert isinstance(model, contract.Windowed)
    patch = set_value(("model", "window"), min(2 * model.window, 10_000))
    return patch if remedies.is_accepted(case.evidence.submitted, patch) else {}


def _main(each: dict[str, Gain]) -> tuple[str, Gain]:
    """The leading metric: rmse or log_loss."""
    return next(iter(each.items()))


def _words(metric: str) -> str:
    return METRICS.get(metric, metric)


def _evidence(case: Case, metric: str, gain: Gain, baseline: str) -> Json:
    evaluation = case.evidence.evaluation
    return {
        "baseline": baseline,
        "metric": metric,
        "model": gain.model,
        "baseline_metric": gain.baseline,
        "gain": gain.value,
        "gain_low": gain.low,
        "gain_high": gain.high,
        "rows": gain.rows,
        "part": evaluation.part if evaluation is not None else None,
    }


def _like_constant(case: Case, each: dict[str, Gain]) -> Finding:
    metric, gain = _main(each)
    few, linear = gain.rows < _FEW_ROWS, case.linear_finds_more
    return Finding(
        rule="no_better_than_baseline",
        family=Family.FIT,
        severity=Severity.WARNING if few and gain.value > 0 else Severity.CRITICAL,
        confidence="low" if few else "high",
        explanation=(
            f"On {plural(gain.rows, 'row')} that took no part in fitting, the model's {_words(metric)} is "
            f"{number(gain.model)}; always "
            f"predicting one constant gives {number(gain.baseline)}. {_gain(gain)}{_alike(case)} Most likely "
            f"cause: {_cause(case, linear)}.{_earlier_values(case)}"
        ),
        remedy=_remedy(case, linear),
        evidence=_evidence(case, metric, gain, "constant"),
        where={"phase": "diagnose"},
        also_consistent_with=_alternatives(linear, few),
    )


def _alike(case: Case) -> str:
    return " The model gives nearly the same answer for every row." if case.answers_alike else ""


def _gain(gain: Gain) -> str:
    """What the bootstrap interval says of a gain that is not certain: nothing, or a loss."""
    told = f"{number(gain.value)} (95 % interval {number(gain.low)} to {number(gain.high)})"
    if gain.high < 0:
        return f"With a gain of {told} the model does worse than that."
    return f"The gain of {told} cannot be told from none."


def _cause(case: Case, linear: bool) -> str:
    if case.starts_alike:
        return "the initialisation (constant): all units of a layer start alike, and so stay alike"
    if case.starts_far_off:
        return (
            f"the initialisation ({case.config.model.init.kind}), whose first loss was "
            f"{number(float(case.course.losses[0]))} where the best constant has {number(case.constant_loss)}"
        )
    if linear:
        return "the training, since a linear model on the same columns does better than the constant"
    return "the columns say little about the target; a linear model finds hardly more"


def _alternatives(linear: bool, few: bool) -> tuple[str, ...]:
    found = (
        ["a run that ended too early"] if linear else ["targets that were shuffled or belong to other rows"]
    )
    return (*found, "too few rows to tell") if few else tuple(found)


def _remedy(case: Case, linear: bool) -> Remedy:
    if case.starts_alike or case.starts_far_off:
        return Remedy("Use he initialisation.", remedies.he(case))
    if not linear:
        text = "Look at the data first. A linear model is enough to see whether there is anything to learn."
        return Remedy(text, remedies.linear_model(case))
    return Remedy(
        "Train longer with AdamW, whose steps do not depend on the gradient's size.",
        remedies.train_longer(case),
    )


def _like_ridge(case: Case, metric: str, gain: Gain) -> Finding:
    name = _LINEAR.get(case.task, "logistic regression")
    better = "does as well, as far as so many rows can tell" if gain.high > 0 else "does better"
    if case.starts_alike:
        close, severity = f"Most likely cause: {_cause(case, True)}.", Severity.WARNING
        remedy = Remedy("Use he initialisation.", remedies.he(case))
    else:
        close, severity = (
            "The relation may be close to linear, or the rows too few for more.",
            Severity.INFO,
        )
        text = "A linear model may do: it is smaller and easier to explain."
        remedy = Remedy(text, remedies.linear_model(case))
    return Finding(
        rule="no_better_than_baseline",
        family=Family.FIT,
        severity=severity,
        confidence="medium",
        explanation=(
            f"On {plural(gain.rows, 'row')} that took no part in fitting, {name} {better}: {_words(metric)} "
            f"{number(gain.baseline)} against the model's {number(gain.model)} (gain {number(gain.value)}, "
            "95 % interval "
            f"{number(gain.low)} to {number(gain.high)}). {close}"
        ),
        remedy=remedy,
        evidence=_evidence(case, metric, gain, "ridge"),
        where={"phase": "diagnose"},
        also_consistent_with=("too few rows to tell the two apart",),
    )
