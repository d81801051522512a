"""Which finding comes first, what follows from what, and the verdict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from gradkeel.contract.states import Family, Severity, Verdict
from gradkeel_worker.diagnosis import remedies
from gradkeel_worker.diagnosis.case import Case
from gradkeel_worker.diagnosis.finding import RANK, Finding, Remedy
from gradkeel_worker.diagnosis.rules.quality import MIXED_TYPES

_NOT_MOVING = ("no_better_than_baseline", "biased_predictions", "loss_not_decreasing")
_IN_THE_FIT = (*_NOT_MOVING, "oscillation")

CONSEQUENCES: dict[str, tuple[str, ...]] = {
    "feature_scale": (
        "exploding_gradient",
        "non_finite",
        "lr_too_high",
        "saturated_activation",
        "dead_units",
        "clipping_dominates",
        "poor_initialisation",
        "spike",
        *_IN_THE_FIT,
    ),
    "target_scale": (
        "exploding_gradient",
        "non_finite",
        "clipping_dominates",
        "poor_initialisation",
        "spike",
        *_IN_THE_FIT,
    ),
    "outliers": (
        "exploding_gradient",
        "non_finite",
        "clipping_dominates",
        "dead_units",
        "spike",
        *_IN_THE_FIT,
    ),
    "lr_too_high": (
        "exploding_gradient",
        "non_finite",
        "dead_units",
        "saturated_activation",
        "clipping_dominates",
        "spike",
        *_IN_THE_FIT,
    ),
    "poor_initialisation": (
        "exploding_gradient",
        "non_finite",
        "saturated_activation",
        "dead_units",
        "vanishing_gradient",
        "lr_too_high",
        "lr_too_low",
        "clipping_dominates",
        *_IN_THE_FIT,
    ),
    "gradient_mismatch": ("exploding_gradient", "non_finite", "spike", *_IN_THE_FIT),
    "clipping_dominates": ("lr_too_low", *_NOT_MOVING),
    "saturated_activation": ("vanishing_gradient", "lr_too_low", *_NOT_MOVING),
    "dead_units": ("vanishing_gradient", "lr_too_low", *_NOT_MOVING),
    "vanishing_gradient": ("dead_units", "lr_too_low", *_NOT_MOVING),
    "lr_too_low": _NOT_MOVING,
    "exploding_gradient": ("non_finite", "spike", *_IN_THE_FIT),
    "non_finite": ("no_better_than_baseline", "biased_predictions"),
    "data_quality": ("no_better_than_baseline", "biased_predictions"),
    "overfit": ("no_better_than_baseline", "biased_predictions"),
}
"""What may follow from a finding. Data findings are linked only where the evidence names them as the
cause; of data_quality, that is a column of numbers which a broken cell turned into text.
"""

ROOTS = {
    "inputs": "feature_scale",
    "target": "target_scale",
    "init": "poor_initialisation",
    "outliers": "outliers",
    "lr": "lr_too_high",
}
"""Cause of an explosion → the rule whose finding explains it."""

_BLOCKED = {"saturated_activation", "dead_units", "vanishing_gradient"}
"""Findings that say why weights do not move, whatever the learning rate."""

_FAMILY = {Family.GRADIENT: 0, Family.FIT: 1, Family.DATA: 2}
_PRECEDENCE = (
    "gradient_mismatch",
    "feature_scale",
    "target_scale",
    "outliers",
    "poor_initialisation",
    "lr_too_high",
    "exploding_gradient",
    "non_finite",
    "clipping_dominates",
    "saturated_activation",
    "dead_units",
    "vanishing_gradient",
    "lr_too_low",
    "spike",
    "noisy_gradient",
    "overfit",
    "no_better_than_baseline",
    "loss_not_decreasing",
    "biased_predictions",
    "oscillation",
)
"""Causes before effects, among findings of equal severity."""


def arrange(findings: Iterable[Finding], case: Case) -> list[Finding]:
    """Most likely cause first, what follows from it next, then fit, then data; with the links between
    them.
    """
    listed = list(findings)
    root = _root(listed, case)
    linked = [_linked(finding, listed, is_cause=finding is root) for finding in listed]
    lead = linked[listed.index(root)] if root is not None else None
    mended = [_mended_with(finding, lead) for finding in linked]
    return sorted(mended, key=lambda one: _key(one, lead))


def _mended_with(finding: Finding, lead: Finding | None) -> Finding:
    """A consequence is mended by mending its cause: it proposes the cause's change, not one of its own."""
    if lead is None or finding is lead or finding.rule not in lead.consequences:
        return finding
    remedy = lead.remedy.text[0].lower() + lead.remedy.text[1:]
    text = f"Mend the first finding, the most likely cause of this one: {remedy}"
    return replace(finding, remedy=Remedy(text, lead.remedy.patch))


def _root(findings: list[Finding], case: Case) -> Finding | None:
    """The finding that explains the others: the named cause's, else the first gradient finding that can.

    A column lost to a broken cell explains a model that learnt nothing, and leads where nothing else does.
    """
    named = ROOTS.get(case.cause or "")
    for finding in findings:
        if finding.rule == named:
            return finding
    lost_column = next(filter(_is_lost_column, findings), None)
    if lost_column is not None and case.useless and not case.blown_up:
        return lost_column
    gradient = [f for f in findings if f.family is Family.GRADIENT and f.severity is not Severity.INFO]
    rules = {finding.rule for finding in gradient}
    slow = next((f for f in gradient if f.rule == "lr_too_low"), None)
    if slow is not None and not case.starved and not case.blown_up and not rules & _BLOCKED:
        return slow
    if "vanishing_gradient" in rules and remedies.has_odd_init(case) and case.config.model.bias_init >= 0:
        # Units that are off on every row are what weights too small for the depth leave behind.
        gradient = [finding for finding in gradient if finding.rule != "dead_units"]
    other = lost_column or _scale(findings) or _memorised(findings, case)
    return min(gradient, key=_cause_rank, default=other)


def _scale(findings: list[Finding]) -> Finding | None:
    """What is fed at a wrong size explains an unsteady or poor fit, where nothing else is seen to."""
    fit = {f.rule for f in findings if f.family is Family.FIT and f.severity is not Severity.INFO}
    return next(
        (
            finding
            for finding in findings
            if finding.rule in ("feature_scale", "target_scale", "outliers")
            and finding.severity is not Severity.INFO
            and fit.intersection(CONSEQUENCES[finding.rule])
        ),
        None,
    )


def _memorised(findings: list[Finding], case: Case) -> Finding | None:
    """A fit by heart explains a model that is of no use on other rows."""
    return next((f for f in findings if f.rule == "overfit" and case.useless), None)


def _is_lost_column(finding: Finding) -> bool:
    return finding.evidence.get("issue") == MIXED_TYPES and finding.confidence == "high"


def _cause_rank(finding: Finding) -> tuple[int, int]:
    place = _PRECEDENCE.index(finding.rule) if finding.rule in _PRECEDENCE else len(_PRECEDENCE)
    return place, RANK[finding.severity]


def _linked(finding: Finding, every: list[Finding], *, is_cause: bool) -> Finding:
    """The finding with the rules among the others that may follow from it."""
    silent = finding.family is not Family.GRADIENT and not is_cause
    present = {other.rule for other in every if other.severity is not Severity.INFO or other is finding}
    follow = () if silent or finding.severity is Severity.INFO else CONSEQUENCES.get(finding.rule, ())
    return replace(finding, consequences=tuple(rule for rule in follow if rule in present))


def _key(finding: Finding, lead: Finding | None) -> tuple[int, int, int, int]:
    follows = lead is not None and finding.rule in lead.consequences and finding.family is Family.GRADIENT
    group = 0 if finding is lead else 1 if follows else 2 + _FAMILY[finding.family]
    return group, RANK[finding.severity], *_cause_rank(finding)


def verdict_of(findings: Iterable[Finding], case: Case) -> Verdict:
    """healthy, strained, unstable or diverged; gradient findings alone set it."""
    gradient = [finding.severity for finding in findings if finding.family is Family.GRADIENT]
    if case.lost or (case.course.first_bad is not None and case.evidence.model is None):
        return Verdict.DIVERGED
    if Severity.CRITICAL in gradient:
        return Verdict.UNSTABLE
    return Verdict.STRAINED if Severity.WARNING in gradient else Verdict.HEALTHY
