"""Autograd and finite differences that disagree: a wrong backward."""

from __future__ import annotations

from typing import Any

from gradkeel.contract.states import Family, Severity
from gradkeel_worker.diagnosis import remedies
from gradkeel_worker.diagnosis.case import Case
from gradkeel_worker.diagnosis.finding import Finding, Remedy
from gradkeel_worker.diagnosis.measured import AGREEMENT
from gradkeel_worker.diagnosis.words import finite, listed, number, plural

Json = dict[str, Any]


def gradient_mismatch(case: Case) -> list[Finding]:
    """The gradient check fails for a parameter."""
    check = case.measured.gradient_check or {}
    failed = {n: r for n, r in check.get("parameters", {}).items() if r["status"] == "fail"}
    if not failed:
        return []
    worst = max(failed, key=lambda name: _size(failed[name]))
    culprits: list[Json] = check.get("culprits") or []
    return [
        Finding(
            rule="gradient_mismatch",
            family=Family.GRADIENT,
            severity=Severity.CRITICAL,
            confidence="high",
            explanation=f"{_disagreement(check, failed, worst)} {_blame(culprits)}",
            remedy=Remedy(
                f"Correct the backward of {_named(culprits)}. No change of the config mends it; with a lower "
                "learning rate a wrong direction does its harm more slowly.",
                remedies.set_lr(remedies.one_digit(case.config.optimizer.lr / 10)),
            ),
            evidence=_evidence(check, failed, worst, culprits),
            where=_where(culprits, worst),
            also_consistent_with=("a function with a jump, which has no derivative there",),
        )
    ]


def _disagreement(check: Json, failed: Json, worst: str) -> str:
    total = plural(len(check["parameters"]), "parameter tensor")
    share = f"all {total}" if len(failed) == len(check["parameters"]) > 1 else f"{len(failed)} of {total}"
    result = failed[worst]
    return (
        f"In float64, autograd and finite differences disagree for {share}; the worst is {worst}, off by "
        f"{number(result['relative_error'])} of its size at h = {number(result['h'])}."
    )


def _blame(culprits: list[Json]) -> str:
    """What the check of single layers found, and no more."""
    if not culprits:
        return (
            "Most likely cause: a backward of a module or loss of your own that is not the derivative of its "
            "forward. Checked one by one, no layer was found to be wrong, nor the loss."
        )
    return (
        "Each layer and the loss were then checked by themselves, on what they were fed: "
        f"{_told(culprits)}. Nothing else was found wrong. Most likely cause: a backward that is not the "
        "derivative of its forward."
    )


def _told(culprits: list[Json]) -> str:
    return "; ".join(_one(culprit) for culprit in culprits[:4])


def _one(culprit: Json) -> str:
    factor, of_loss = culprit["factor"], culprit["what"] == "loss"
    name = "the loss" if of_loss else f"{culprit['name']} ({culprit['kind']})"
    own = [each for each in culprit["with_respect_to"] if each != "input"]
    to = ["the predictions" if of_loss else "its input"] * ("input" in culprit["with_respect_to"])
    to += [listed(own)] if own else []
    size = (
        f"off by up to {number(culprit['relative_error'])} of its size"
        if factor is None or finite(factor) is None
        else f"{number(factor)} times what finite differences give"
    )
    return f"the derivative of {name} in {' and in '.join(to)} is {size}"


def _named(culprits: list[Json]) -> str:
    names = ["the loss" if one["what"] == "loss" else str(one["name"]) for one in culprits[:4]]
    return " and of ".join(names) or "the custom module or loss"


def _evidence(check: Json, failed: Json, worst: str, culprits: list[Json]) -> Json:
    found: Json = {
        "failed_parameters": len(failed),
        "checked_parameters": len(check["parameters"]),
        "relative_error": finite(failed[worst]["relative_error"]),
        "h": failed[worst]["h"],
        "threshold": AGREEMENT,
    }
    if culprits:
        found["wrong_backward_of"] = [one["name"] for one in culprits]
        found["autograd_over_measured"] = culprits[0]["factor"]
    return found


def _where(culprits: list[Json], worst: str) -> Json:
    """The first culprit; without one, the parameter that is furthest off."""
    if not culprits:
        return {"parameter": worst, "layer": worst.rpartition(".")[0] or worst, "phase": "diagnose"}
    first = culprits[0]
    own = [name for name in first["with_respect_to"] if name != "input"]
    parameter = f"{first['name']}.{own[0]}" if len(own) == 1 and len(first["with_respect_to"]) == 1 else None
    return {"parameter": parameter, "layer": first["name"], "phase": "diagnose"}


def _size(result: Json) -> float:
    error = finite(result["relative_error"])
    return float("inf") if error is None else error
