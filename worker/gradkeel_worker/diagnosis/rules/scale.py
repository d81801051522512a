"""Inputs and targets that enter the model far from the size it expects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradkeel.contract import config as contract
from gradkeel.contract.states import Family, Severity
from gradkeel_worker.curvature.limits import local_stability_limit
from gradkeel_worker.diagnosis import remedies
from gradkeel_worker.diagnosis.case import INFLATED, Case
from gradkeel_worker.diagnosis.feed import ColumnFeed, TargetFeed
from gradkeel_worker.diagnosis.finding import Finding, Remedy
from gradkeel_worker.diagnosis.words import finite, listed, number, times

if TYPE_CHECKING:
    from gradkeel_worker.data import Prepared

Json = dict[str, Any]

UNEVEN = 100.0
"""RMS of a column over the median RMS beyond which one column rules the first layer."""
_SKEWED = 3.0
_SMALL, _LARGE = 0.1, 10.0


def feature_scale(case: Case) -> list[Finding]:
    """RMS about zero of a column as fed over the median RMS > 100, or predicted inflation > 10."""
    feed = case.feed
    if feed is None:
        return []
    large = [c for c in feed.columns if c.rms > INFLATED or c.rms_over_median > UNEVEN]
    if not large:
        return []
    large.sort(key=lambda column: -column.rms)
    guilty = case.cause == "inputs"
    unscaled = _is_unscaled(case, large) and not (case.cause == "outliers" and case.inputs_sound)
    return [
        Finding(
            rule="feature_scale",
            family=Family.DATA,
            severity=_severity(case, guilty, unscaled),
            confidence="high" if guilty and case.start is not None else "medium",
            explanation=_features_text(case, large, guilty),
            remedy=_features_remedy(case, guilty),
            evidence=_features_evidence(case, large),
            where={"column": large[0].source, "phase": "prepare"},
            also_consistent_with=_features_alternatives(case, guilty),
        )
    ]


def _severity(case: Case, guilty: bool, unscaled: bool) -> Severity:
    if guilty:
        return Severity.CRITICAL if case.lost or case.useless else Severity.WARNING
    return Severity.WARNING if unscaled else Severity.INFO


def _is_unscaled(case: Case, large: list[ColumnFeed]) -> bool:
    prepare = case.config.prepare
    return any(prepare.per_column.get(c.source, prepare.numeric).kind == "none" for c in large)


def _features_evidence(case: Case, large: list[ColumnFeed]) -> Json:
    assert case.feed is not None
    start = case.start
    found: Json = {
        "columns": len(large),
        "largest_rms": large[0].rms,
        "largest_rms_over_median": large[0].rms_over_median,
        "predicted_inflation": case.feed.inflation,
        "scale_ratio": finite(case.feed.scale_ratio),
        "rms_by_column": {c.name: c.rms for c in large[:20]},
        "lr": case.config.optimizer.lr,
    }
    if start is not None:
        found["largest_curvature_at_start"] = finite(start.curvature_as_fed)
        found["largest_curvature_with_scaled_inputs"] = finite(start.curvature_scaled_inputs)
        found |= _limits(case)
    return found


def _limits(case: Case) -> Json:
    """Local stability limits at the initial weights: SGD only."""
    start, optimizer = case.start, case.config.optimizer
    if start is None or not isinstance(optimizer, contract.SGD):
        return {}
    pairs = {
        "stability_limit_as_fed": start.curvature_as_fed,
        "stability_limit_with_scaled_inputs": start.curvature_scaled_inputs,
    }
    return {name: local_stability_limit(optimizer, value) for name, value in pairs.items() if value}


def _features_text(case: Case, large: list[ColumnFeed], guilty: bool) -> str:
    assert case.feed is not None
    largest = large[0]
    many = len(large) > 1
    text = (
        f"{listed([c.source for c in large])} {'reach' if many else 'reaches'} the model far larger than a "
        f"standardised column: the largest, “{largest.source}”, has a root mean square of "
        f"{number(largest.rms)} where 1 "
        f"is usual. The first layer's gradient is predicted to be about {times(case.feed.inflation)} larger "
        "than with "
        f"standardised columns, and the curvature about {times(case.feed.inflation**2)}."
    )
    if guilty:
        return (
            "Most likely cause of what went wrong: inputs that were not scaled. " + text + _limit_text(case)
        )
    if case.blown_up:
        return text + " Something else is the more likely cause of the trouble in this run."
    return text + " This run stayed numerically sound all the same; it is a risk, not a fault that was seen."


def _limit_text(case: Case) -> str:
    limits = _limits(case)
    if len(limits) < 2:
        return ""
    return (
        f" Measured on {case.start.rows if case.start else 0} rows at the initial weights: steps stay "
        "locally stable "
        f"below a learning rate of about {number(limits['stability_limit_as_fed'])} with the columns as "
        "they were fed, "
        f"and below {number(limits['stability_limit_with_scaled_inputs'])} with standardised columns; "
        f"the run used {number(case.config.optimizer.lr)}."
    )


def _features_alternatives(case: Case, guilty: bool) -> tuple[str, ...]:
    if not guilty:
        return ()
    found = ["a learning rate too high for inputs of this size"]
    target = case.feed.target if case.feed is not None else None
    if target is not None and target.rms > INFLATED:
        found.append("the target, which was not scaled either")
    return tuple(found)


def _features_remedy(case: Case, guilty: bool) -> Remedy:
    assert case.feed is not None
    if guilty:
        patch = remedies.mend_scales(case)
        return Remedy(_patch_words(patch), patch)
    patch = remedies.scale_all(case)
    return Remedy(_patch_words(patch), patch)


def _patch_words(patch: Json) -> str:
    """The patch in words, part by part."""
    prepare = patch.get("prepare", {})
    parts = []
    if prepare.get("numeric") or prepare.get("per_column"):
        parts.append("scale the numeric columns")
    if prepare.get("target"):
        parts.append(f"scale the target ({prepare['target']['kind']})")
    if patch.get("loss"):
        parts.append("use the Huber loss, whose gradient is bounded")
    if patch.get("clips"):
        parts.append("limit the gradient's norm")
    if patch.get("optimizer"):
        parts.append(f"lower the learning rate to {number(patch['optimizer'].get('lr'))}")
    text = ", ".join(parts) if parts else "no change of the config follows from this"
    return text[0].upper() + text[1:] + "."


# ---------------------------------------------------------------------------------------------------- target


def target_scale(case: Case) -> list[Finding]:
    """Regression: std as fed outside [0.1, 10], or a skew above 3."""
    target = case.feed.target if case.feed is not None else None
    if target is None or target.std == 0:
        return []
    if not _SMALL <= target.std <= _LARGE or target.rms > INFLATED * 10:
        return [_badly_scaled(case, target)]
    # the poisson loss predicts on a logarithmic scale already
    skewed = target.skew > _SKEWED and not isinstance(case.config.loss, contract.Poisson)
    return [_skewed(case, target)] if skewed else []


def _badly_scaled(case: Case, target: TargetFeed) -> Finding:
    guilty = case.cause == "target"
    unscaled = case.config.prepare.target.kind == "none"
    patch = remedies.mend_scales(case) if guilty else remedies.scale_all(case)
    if not unscaled and not guilty:
        patch = remedies.scale_target(case, _other_target(case))
    text = (
        f"The target reaches the loss with a standard deviation of {number(target.std)} and a mean of "
        f"{number(target.mean)}; the model starts near 0 with outputs of about 1, so its first errors are "
        "about "
        f"{number(target.rms)}. Under a squared error the gradient grows with the error; under a bounded "
        "loss the output "
        "needs many steps to travel so far."
        if target.std > _LARGE or target.rms > INFLATED
        else f"The target reaches the loss with a standard deviation of only {number(target.std)}: errors, "
        "and with them gradients, are tiny."
    )
    lead = "Most likely cause of what went wrong: a target that was not scaled. " if guilty else ""
    return Finding(
        rule="target_scale",
        family=Family.DATA,
        severity=_severity(case, guilty, unscaled),
        confidence="high" if guilty and case.start is not None else "medium",
        explanation=lead + text,
        remedy=Remedy(_patch_words(patch), patch),
        evidence=_target_evidence(case, target),
        where={"column": target.name, "phase": "prepare"},
        also_consistent_with=("a learning rate too high for errors of this size",) if guilty else (),
    )


def _other_target(case: Case) -> str:
    """For what a scaling left too wide: the logarithm where the targets allow it, else standard or robust."""
    prepared = case.evidence.prepared
    if case.config.prepare.target.kind != "log1p" and prepared is not None and _has_logarithm(prepared):
        return "log1p"
    return "standard" if case.config.prepare.target.kind != "standard" else "robust"


def _has_logarithm(prepared: Prepared) -> bool:
    return float(prepared.train.y_raw.min()) > -1


def _target_evidence(case: Case, target: TargetFeed) -> Json:
    found: Json = {
        "std_as_fed": target.std,
        "mean_as_fed": target.mean,
        "rms_as_fed": target.rms,
        "skew": target.skew,
        "scaling": case.config.prepare.target.kind,
    }
    if case.start is not None:
        found["gradient_norm_at_start"] = finite(case.start.gradient_as_fed)
        found["gradient_norm_with_scaled_target"] = finite(case.start.gradient_scaled_target)
    return found


def _skewed(case: Case, target: TargetFeed) -> Finding:
    prepared = case.evidence.prepared
    positive = prepared is not None and _has_logarithm(prepared)
    patch = remedies.scale_target(case, "log1p" if positive else "robust")
    advice = (
        "Train on the logarithm of the target (log1p). The model then aims at a typical value rather than "
        "at the mean."
        if positive
        else "Scale the target by its median and MAD (robust), so that the tail does not set its scale."
    )
    return Finding(
        rule="target_scale",
        family=Family.DATA,
        severity=Severity.INFO,
        confidence="medium",
        explanation=(
            f"The target has a long tail to the right (skewness {number(target.skew)}, 0 for a symmetric "
            "one): a few "
            "large targets weigh heavily in the fit."
        ),
        remedy=Remedy(advice, patch),
        evidence=_target_evidence(case, target),
        where={"column": target.name, "phase": "prepare"},
    )
