"""A model that starts far from where training can begin."""

from __future__ import annotations

import numpy as np

from gradkeel.contract import config as contract
from gradkeel.contract.states import Family, Severity
from gradkeel_worker.diagnosis import remedies
from gradkeel_worker.diagnosis.case import INFLATED, Case
from gradkeel_worker.diagnosis.finding import Finding, Remedy
from gradkeel_worker.diagnosis.words import finite, number, times

FAR_OFF = 2.0
"""First loss over that of the best constant."""
_SMALL, _LARGE = 0.1, 10.0
_OUTPUT = "output"


def poor_initialisation(case: Case) -> list[Finding]:
    """A first loss above twice that of the best constant, a layer whose activations start with a standard
    deviation outside [0.1, 10], or units of a layer that all start alike.
    """
    excess, odd = _excess(case), _odd_layers(case)
    if not (excess is not None and excess > FAR_OFF) and not odd and not case.starts_alike:
        return []
    cause = _cause(case)
    return [
        Finding(
            rule="poor_initialisation",
            family=Family.GRADIENT,
            severity=_severity(case, cause),
            confidence="medium" if cause in ("init", "alike") else "low",
            explanation=_text(case, cause),
            remedy=_remedy(case, cause),
            evidence={
                "initial_loss": finite(_first_loss(case)),
                "loss_of_best_constant": finite(case.constant_loss),
                "initial_loss_over_constant": finite(excess),
                "threshold": FAR_OFF,
                "most_likely_cause": cause,
                "activation_std": {name: finite(std) for name, std in odd.items()},
                "series": "activation_std",
            },
            where={"layer": next(iter(odd), None), "step": 0, "phase": "train"},
            also_consistent_with=_ALTERNATIVES[cause],
        )
    ]


def _first_loss(case: Case) -> float | None:
    """Loss of the initial weights: on a sample, else that of the first batch."""
    if case.measured.initial_loss is not None:
        return case.measured.initial_loss
    return float(case.course.losses[0]) if case.course.sound else None


def _excess(case: Case) -> float | None:
    """First loss over that of the best constant; None where either is unknown or the constant's is not
    positive.
    """
    first, constant = _first_loss(case), case.constant_loss
    if first is None or constant is None or not constant > 0:
        return None
    return first / constant


def _odd_layers(case: Case) -> dict[str, float]:
    """Layers whose activations start too small or too large; an output may well start small."""
    found: dict[str, float] = case.evidence.readings.initial.get("activation_std") or {}
    return {
        name: std
        for name, std in found.items()
        if np.isfinite(std) and (std > _LARGE or (std < _SMALL and name != _OUTPUT))
    }


def _cause(case: Case) -> str:
    """alike, init, bias, inputs, target, classes or unknown."""
    if case.starts_alike:
        return "alike"
    if remedies.has_odd_init(case):
        return "init"
    if abs(case.config.model.bias_init) > 1:
        return "bias"
    feed = case.feed
    if feed is not None and feed.inflation > INFLATED:
        return "inputs"
    target = feed.target if feed is not None else None
    if target is not None and (target.rms > INFLATED or abs(target.mean) > target.std):
        return "target"
    return "classes" if case.task in ("binary", "multiclass") else "unknown"


_CAUSES = {
    "alike": "the initialisation (constant), by which all units of a layer start alike and so stay alike",
    "init": "the initialisation ({init}), which starts the weights at a size that does not fit the layers",
    "bias": "biases that start far from 0",
    "inputs": "inputs that were not scaled, which no initialisation expects",
    "target": "a target that is fed far from the 0 that the model starts at",
    "classes": "classes of very different size: the model starts by giving each about the same chance",
    "unknown": "not clear from what was measured; the depth of the net, or many inputs that are mostly 0",
}
_ALTERNATIVES = {
    "alike": (),
    "init": ("inputs that were not scaled", "a net too deep for this initialisation"),
    "bias": ("inputs that were not scaled",),
    "inputs": ("an initialisation that is too wide",),
    "target": ("an initialisation that is too wide",),
    "classes": ("an initialisation that is too wide",),
    "unknown": ("an initialisation too narrow or too wide for this net",),
}


def _severity(case: Case, cause: str) -> Severity:
    """Only weights of a size of their own are blamed for a run that came to nothing, or lost units."""
    if cause not in ("alike", "init"):
        return Severity.INFO
    if case.lost or (case.useless and case.linear_finds_more):
        return Severity.CRITICAL
    harmed = case.strained or case.blown_up or _behind_a_line(case)
    return Severity.WARNING if harmed or cause == "alike" else Severity.INFO


def _behind_a_line(case: Case) -> bool:
    """Whether a linear model does clearly better on the same rows."""
    gain = next(iter(case.gains.get("ridge", {}).values()), None)
    return gain is not None and gain.high < 0


def _text(case: Case, cause: str) -> str:
    excess, odd = _excess(case), _odd_layers(case)
    seen = []
    if excess is not None and excess > FAR_OFF:
        seen.append(
            f"Before the first step the loss was {number(_first_loss(case))}, {times(excess)} that of the "
            f"best constant ({number(case.constant_loss)}): the first steps go into undoing that."
        )
    if odd:
        name, std = max(odd.items(), key=lambda one: abs(np.log(max(one[1], 1e-300))))
        seen.append(
            f"The activations of {name} start with a standard deviation of {number(std)}, where 0.1 to 10 "
            "passes signals and gradients on."
        )
    if not seen:
        seen.append("All units of a layer start with the same weights, so that a layer does the work of one.")
    words = _CAUSES[cause].format(init=case.config.model.init.kind)
    end = "" if case.useless is not False else " The run learnt all the same."
    return f"{' '.join(seen)} Most likely cause: {words}.{end}"


def _remedy(case: Case, cause: str) -> Remedy:
    if cause == "inputs":
        return Remedy("Scale what is fed.", remedies.scale_all(case))
    if cause == "target":
        kind = "power" if case.config.prepare.target.kind == "log1p" else None
        return Remedy("Scale the target, so that its mean is near 0.", remedies.scale_target(case, kind))
    if cause == "bias":
        return Remedy("Let biases start at 0.", remedies.zero_bias(case))
    if cause == "classes":
        return Remedy("Nothing has to be changed: the first steps set it right.", {})
    if cause == "unknown" and not isinstance(case.config.model, contract.MLP | contract.ResNet):
        return Remedy("Use he initialisation.", remedies.he(case))
    if cause == "unknown":
        return Remedy(
            "Use he initialisation, with layer normalisation in a deep net.", remedies.relu_and_he(case)
        )
    return Remedy("Use he initialisation.", remedies.he(case))
