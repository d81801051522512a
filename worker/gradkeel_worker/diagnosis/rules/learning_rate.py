"""Steps too large or too small for the weights they move."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradkeel.contract.curvature import PLACES
from gradkeel.contract.states import Family, Severity
from gradkeel_worker.diagnosis import remedies
from gradkeel_worker.diagnosis.case import Case
from gradkeel_worker.diagnosis.finding import Finding, Remedy
from gradkeel_worker.diagnosis.words import finite, number, percent, times

Json = dict[str, Any]

TOO_HIGH = 1e-1
_SUSPECT = 3e-2
TOO_LOW = 1e-5
_HARDLY = 0.05
"""Share of their size that weights have to be moved by, all steps added up, to have gone anywhere."""
_FEWEST_STEPS = 5


def lr_too_high(case: Case) -> list[Finding]:
    """The cause of an explosion, or update ratio > 0.1, or while the loss rises above 0.03 or above the local
    stability limit, where the curvature was measured."""
    guilty = case.cause == "lr"
    if case.cause not in (None, "lr") or not (guilty or _large_steps(case)):
        return []
    if not guilty and case.outliers_pull and not case.lr_is_high:
        return []
    lr = remedies.calmer_lr(case)
    return [
        Finding(
            rule="lr_too_high",
            family=Family.GRADIENT,
            severity=Severity.CRITICAL if case.lost or case.useless else Severity.WARNING,
            confidence=_confidence(case, guilty),
            explanation=_high_text(case, guilty),
            remedy=Remedy(f"Lower the learning rate to {number(lr)}.", remedies.set_lr(lr)),
            evidence=_high_evidence(case),
            where=_high_place(case),
            also_consistent_with=("an initialisation that starts too large", "a loss with a steep tail"),
        )
    ]


def _confidence(case: Case, guilty: bool) -> Any:
    ratio = case.course.first_ratio or 0.0
    if guilty and (ratio > TOO_HIGH or case.lr_is_high):
        return "high"
    return "medium" if guilty or (case.typical_ratio or 0) > TOO_HIGH else "low"


def _large_steps(case: Case) -> bool:
    ratio = case.typical_ratio
    if case.course.sound < _FEWEST_STEPS:
        return False
    # By itself that is no fault: training on all rows at once hovers there, and a steep start may be left.
    if case.course.rising and case.curvature.above_limit:
        return True
    return ratio is not None and (ratio > TOO_HIGH or (ratio > _SUSPECT and case.course.rising))


def _high_evidence(case: Case) -> Json:
    found: Json = {
        "lr": case.config.optimizer.lr,
        "median_update_ratio": finite(case.typical_ratio),
        "first_update_ratio": finite(case.course.first_ratio),
        "threshold": TOO_HIGH,
        "loss_rising": case.course.rising,
        "customary_lr": case.customary_lr,
        "series": "update_ratio",
    }
    if case.stable_lr is not None:
        found["stability_limit_at_start"] = finite(case.stable_lr)
        found["lr_over_limit"] = finite(case.config.optimizer.lr / case.stable_lr)
    for place, record in case.curvature.against_limit.items():
        found[f"lr_over_limit_at_{place}"] = finite(record["lr_over_limit"])
    return found


def _high_place(case: Case) -> Json:
    readings, explosion = case.evidence.readings, case.explosion
    at = explosion.index if explosion is not None else 0
    if not len(readings.steps):
        return {"phase": "train"}
    return {"step": int(readings.steps[at]), "epoch": int(readings.epoch[at]), "phase": "train"}


def _high_text(case: Case, guilty: bool) -> str:
    lr, first = number(case.config.optimizer.lr), case.course.first_ratio
    ratio = first if guilty else case.typical_ratio
    moved = (
        f" {'The first step' if guilty else 'A typical step'} changed a layer by {percent(ratio)} of the "
        "size "
        "its weights had afterwards; about 0.1 % is usual (a rule of thumb, not a target)."
        if ratio is not None
        else ""
    )
    limit = (
        f" Measured at the initial weights, steps stay locally stable below a learning rate of about "
        f"{number(case.stable_lr)}."
        if case.stable_lr is not None
        else ""
    )
    if guilty:
        return f"Most likely cause of what went wrong: a learning rate of {lr}, too high here.{moved}{limit}"
    rising = " The loss rose again during the run." if case.course.rising else ""
    return f"The learning rate of {lr} is probably too high.{moved}{rising}{_limit_text(case)}"


def _limit_text(case: Case) -> str:
    """Where steps were longer than settle there, and which ones would."""
    above = case.curvature.above_limit
    if not above:
        return ""
    place = min(above, key=lambda each: float(above[each]["local_stability_limit"]))
    limit = number(above[place]["local_stability_limit"])
    return f" By the curvature measured {PLACES[place]}, steps settle below a learning rate of about {limit}."


def lr_too_low(case: Case) -> list[Finding]:
    """Update ratio < 1e-5, or < 1e-4 in a run that came to nothing and in all its steps could not move the
    weights by 5 %; and the gradient norm not shrinking.
    """
    ratio = _largest_typical_ratio(case)
    if ratio is None or not 0 < ratio < _limit(case, ratio) or case.course.shrinking or case.blown_up:
        return []
    if case.cause == "lr" or case.course.sound < _FEWEST_STEPS or not (case.typical_norm or 0) > 0:
        return []
    return [
        Finding(
            rule="lr_too_low",
            family=Family.GRADIENT,
            severity=Severity.CRITICAL if case.useless else Severity.WARNING,
            confidence="high" if ratio < TOO_LOW / 5 else "medium",
            explanation=(
                f"A typical step changed the weights by {number(ratio)} of their size, about "
                f"{times(1e-3 / ratio)} less than "
                "the usual 0.001 (a rule of thumb, not a target), and the gradient did not get smaller: "
                "the run hardly "
                f"moved. Most likely cause: {_low_cause(case)}."
            ),
            remedy=_low_remedy(case),
            evidence={
                "median_update_ratio": ratio,
                "threshold": _limit(case, ratio),
                "moved_at_most": ratio * case.course.sound,
                "lr": case.config.optimizer.lr,
                "median_norm": finite(case.typical_norm),
                "clips_leave_little": case.starved,
                "estimated": not case.course.ratios.size,
                "series": "update_ratio" if case.course.ratios.size else "clipped_norm",
            },
            where={"phase": "train"},
            also_consistent_with=(
                "a clip limit far below the gradient's norm",
                "a run that had already converged",
            ),
        )
    ]


def _limit(case: Case, ratio: float) -> float:
    """The update ratio below which the learning rate is too low for this run."""
    hardly_moved = case.useless is True and ratio * case.course.sound < _HARDLY
    return 10 * TOO_LOW if hardly_moved else TOO_LOW


def _largest_typical_ratio(case: Case) -> float | None:
    """The median update ratio of the layer that moves most: where even that one stands still, nothing
    moves. Where none was read, an estimate for the whole net.
    """
    ratios = case.course.ratios[case.course.settled :]
    columns = [c[np.isfinite(c)] for c in ratios.T] if ratios.size else []
    medians = [float(np.median(c)) for c in columns if len(c)]
    return max(medians) if medians else case.estimated_ratio


def _low_remedy(case: Case) -> Remedy:
    if case.starved:
        limit = remedies.norm_percentile(case)
        return Remedy(f"Clip the norm at {number(limit)}.", remedies.norm_clip(case, limit))
    lr = remedies.bolder_lr(case)
    return Remedy(f"Raise the learning rate to {number(lr)}.", remedies.set_lr(lr))


def _low_cause(case: Case) -> str:
    if case.starved:
        return (
            "a clip whose limit is far below the gradient's norm, so that hardly anything of each step is "
            "left"
        )
    return f"a learning rate of {number(case.config.optimizer.lr)}, too low here"
