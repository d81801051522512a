"""Hidden units that no longer react: dead on every row, or saturated."""

from __future__ import annotations

from gradkeel.contract.patch import combine
from gradkeel.contract.states import Family, Severity
from gradkeel_worker.diagnosis import remedies
from gradkeel_worker.diagnosis.case import Case
from gradkeel_worker.diagnosis.finding import Finding, Remedy
from gradkeel_worker.diagnosis.units import MOST_UNITS, affected_units
from gradkeel_worker.diagnosis.words import listed, percent


def _severity(case: Case) -> Severity:
    """Critical where the run came to nothing and could have come to more."""
    lost = case.lost or (case.useless and case.linear_finds_more)
    return Severity.CRITICAL if lost else Severity.WARNING


def dead_units(case: Case) -> list[Finding]:
    """More than half of a layer's units inactive on every row, at three checks in a row."""
    layers = affected_units(case.evidence.readings, "dead_fraction")
    if not layers:
        return []
    name, step, share = max(layers, key=lambda one: one[2])
    start = step <= case.course.warmup + 1 or remedies.has_odd_init(case)
    return [
        Finding(
            rule="dead_units",
            family=Family.GRADIENT,
            severity=_severity(case),
            confidence="medium",
            explanation=(
                f"{percent(share)} of the units of {name} put out 0 on every row that was looked at, from "
                f"step {step} on, "
                f"and so learn nothing (layers affected: {listed([n for n, _, _ in layers])}). Most likely "
                "cause: "
                f"{_dead_cause(case, start)}."
            ),
            remedy=_dead_remedy(case, start),
            evidence={"share": share, "threshold": MOST_UNITS, "layers": len(layers), "from_step": step},
            where={"layer": name, "step": step, "phase": "train"},
            also_consistent_with=(
                "inputs that were not scaled",
                "a learning rate that was too high for a while",
            ),
        )
    ]


def _dead_cause(case: Case, start: bool) -> str:
    if getattr(case.config.model, "bias_init", 0.0) < 0:
        return "biases that start below 0"
    return (
        "the initial weights or unscaled inputs" if start else "a step that was too large and pushed them off"
    )


def _dead_remedy(case: Case, start: bool) -> Remedy:
    patch = remedies.leaky_relu(case)
    if start or case.config.model.bias_init < 0:
        text = "Use leaky_relu, which keeps a small gradient, with biases that start at 0"
        return Remedy(text + (" and he initialisation." if remedies.has_odd_init(case) else "."), patch)
    lr = remedies.one_digit(case.config.optimizer.lr / 10)
    return Remedy("Use leaky_relu and a tenth of the learning rate.", combine(patch, remedies.set_lr(lr)))


def saturated_activation(case: Case) -> list[Finding]:
    """More than half of a layer's units saturated, at three checks in a row."""
    layers = affected_units(case.evidence.readings, "saturated_fraction")
    if not layers:
        return []
    name, step, share = max(layers, key=lambda one: one[2])
    unscaled = case.feed is not None and case.feed.inflation > 10
    patch = remedies.mend_scales(case) if unscaled else remedies.relu_and_he(case)
    cause = (
        "inputs that were not scaled"
        if unscaled
        else "weights that start, or have become, too large for this activation"
    )
    return [
        Finding(
            rule="saturated_activation",
            family=Family.GRADIENT,
            severity=_severity(case),
            confidence="medium",
            explanation=(
                f"{percent(share)} of the activations of {name} lay at their flat ends from step {step} on, "
                "where almost no "
                f"gradient passes. Most likely cause: {cause}."
            ),
            remedy=Remedy("Scale what is fed." if unscaled else "Use relu with he initialisation.", patch),
            evidence={"share": share, "threshold": MOST_UNITS, "layers": len(layers), "from_step": step},
            where={"layer": name, "step": step, "phase": "train"},
            also_consistent_with=("an initialisation that is too wide", "a learning rate that is too high"),
        )
    ]
