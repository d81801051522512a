"""Clips that decide the length of most steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradkeel.contract.patch import combine, replace_block
from gradkeel.contract.states import Family, Severity
from gradkeel_worker.diagnosis import remedies
from gradkeel_worker.diagnosis.case import CLIPS_DOMINATE, Case
from gradkeel_worker.diagnosis.course import finite_median
from gradkeel_worker.diagnosis.finding import Finding, Remedy
from gradkeel_worker.diagnosis.words import number, percent

Json = dict[str, Any]

_IDLE = 0.001
_STARVING = 0.1
_MILD = 0.5
"""Share of the steps' length above which a clip is a brake and no fault."""


def role_of(case: Case, clip: Json) -> str:
    """idle, safety_net or step_size_limiter (SGD), batch_reweighter (optimizers that divide by the
    gradient's size).
    """
    fired = np.asarray(clip.get("fired", ()), bool)
    if not len(fired) or float(fired.mean()) < _IDLE:
        return "idle"
    if case.adaptive:
        return "batch_reweighter"
    return "step_size_limiter" if case.fired_share(clip) > CLIPS_DOMINATE else "safety_net"


def clipping_dominates(case: Case) -> list[Finding]:
    """SGD: more than 30 % of the steps clipped after warm-up (warning; info where it is seen to have done no
    harm); Adam-like optimizers: info.
    """
    shares = [(case.fired_share(clip), clip) for clip in case.evidence.readings.clipping]
    return [_finding(case, clip, share) for share, clip in shares if share > CLIPS_DOMINATE][:1]


def _finding(case: Case, clip: Json, share: float) -> Finding:
    normalises = clip["kind"] == "normalize"
    kept = np.asarray(clip.get("coefficients", ()), np.float64)[case.course.settled : case.course.sound]
    norms = case.course.norms[case.course.settled :]
    return Finding(
        rule="clipping_dominates",
        family=Family.GRADIENT,
        severity=_severity(case, clip),
        confidence="high" if share > 0.5 else "medium",
        explanation=_text(case, clip, share),
        remedy=_remedy(case, clip),
        evidence={
            "fraction_clipped": share,
            "threshold": CLIPS_DOMINATE,
            "limit": clip.get("limit"),
            "median_coefficient": finite_median(kept),
            "kept_length": _kept_length(case, clip),
            "median_norm": finite_median(norms),
            "norm_percentile_90": remedies.norm_percentile(case),
            "series": "clip_coefficient",
        },
        where={"phase": "train"},
        also_consistent_with=() if normalises else _alternatives(case),
    )


def _severity(case: Case, clip: Json) -> Severity:
    """A warning where it took more than half of the steps' length, or where something blew up."""
    if case.adaptive or clip["kind"] == "normalize":
        return Severity.INFO
    if case.useless and (case.starved or case.cause in ("inputs", "target")):
        return Severity.CRITICAL
    kept = _kept_length(case, clip)
    mild = kept > _MILD or (kept > _STARVING and _did_no_harm(case))
    blew_up = case.explosion is not None or case.lost  # a broken cell's NaN is none of the clip's business
    return Severity.INFO if mild and not blew_up else Severity.WARNING


def _did_no_harm(case: Case) -> bool:
    """Whether the model is better than a constant and not clearly worse than a linear model."""
    return case.useless is False and case.learnt is not False and not case.behind_linear


def _kept_length(case: Case, clip: Json) -> float:
    """Length of all steps after warm-up over what it would have been without the clip."""
    settled = slice(case.course.settled, case.course.sound)
    norms = case.evidence.readings.global_norm[settled]
    kept = np.asarray(clip.get("coefficients", ()), np.float64)[settled]
    whole = float(norms.sum())
    return float((kept * norms).sum() / whole) if whole > 0 else 1.0


def _alternatives(case: Case) -> tuple[str, ...]:
    if case.adaptive:
        return ()
    return (
        "gradients that are large for another reason: unscaled data, a high learning rate, outlying rows",
    )


def _text(case: Case, clip: Json, share: float) -> str:
    if clip["kind"] == "normalize":
        settle = (
            " At a constant learning rate every step then has the same length, so that the run cannot "
            "settle at its end."
            if case.config.schedule.kind == "constant" and not case.adaptive
            else ""
        )
        return (
            "The gradient is normalised at every step: the learning rate alone sets the step's "
            f"length.{settle}"
        )
    limit = number(clip.get("limit"))
    seen = (
        f"The {clip['kind']} clip at {limit} changed the gradient in {percent(share)} of the steps after "
        "warm-up"
    )
    if case.adaptive:
        return (
            f"{seen}. {case.config.optimizer.kind} divides by the gradient's own size, so that a constant "
            "factor hardly "
            "changes its steps; what is left is that batches with large gradients count for less."
        )
    if _severity(case, clip) is Severity.INFO:
        kept = _kept_length(case, clip)
        strength = "no stronger than halving it" if kept > _MILD else "without harm that can be seen"
        return (
            f"{seen}. The steps kept {percent(kept)} of their length: the clip acts as a brake on the "
            f"learning rate, {strength}."
        )
    if case.starts_alike:
        return (
            f"{seen}. Most likely cause: the initialisation (constant), under which all units of a layer "
            "pull the same way."
        )
    if case.starts_far_off:
        init = case.config.model.init.kind
        return (
            f"{seen}. The first loss was {number(float(case.course.losses[0]))}, where the best constant has "
            f"{number(case.constant_loss)}. Most likely cause: the initialisation ({init}), which starts "
            "too wide."
        )
    return (
        f"{seen}: it, and not the learning rate, sets the length of most steps. Most likely cause: a limit "
        "below the "
        f"usual norm of the gradient (median {number(case.typical_norm)})."
    )


def _remedy(case: Case, clip: Json) -> Remedy:
    if clip["kind"] == "normalize":
        if case.config.schedule.kind == "constant":
            patch = replace_block(case.evidence.submitted, ("schedule",), {"kind": "cosine"})
            return Remedy("Let the learning rate fall along a cosine, so that the run can settle.", patch)
        return Remedy("Use a norm clip in its place.", remedies.norm_clip(case))
    if case.starts_alike or case.starts_far_off:
        return Remedy("Use he initialisation.", remedies.he(case))
    limit = remedies.norm_percentile(case)
    patch = remedies.norm_clip(case, limit)
    if clip["kind"] != "norm":
        kept = [one for one in patch["clips"] if one["kind"] != clip["kind"]]
        patch = combine(patch, {"clips": kept})
    return Remedy(
        f"Clip the norm at {number(limit)}, the 90th percentile of the norms that were measured.", patch
    )
