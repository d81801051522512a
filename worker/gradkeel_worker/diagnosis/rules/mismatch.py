"""Autograd and finite differences that disagree: a wrong backward."""

from __future__ import annotations

from typing import Any

from gradkeel.contract.states import Family, Severity
from gradkeel_worker.diagnosis import remedies
from gradkeel_worker.diagnosis.case import Case
from gradkeel_worker.diagnosis.finding import Finding, Remedy
from gradkeel_worker.diagnosis.words import finite, number, plural


def gradient_mismatch(case: Case) -> list[Finding]:
    """The gradient check fails for a parameter."""
    check = case.measured.gradient_check
    failed = {n: r for n, r in (check or {}).get("parameters", {}).items() if r["status"] == "fail"}
    if not failed:
        return []
    name, worst = max(failed.items(), key=lambda item: _size(item[1]))
    total = len((check or {})["parameters"])
    return [
        Finding(
            rule="gradient_mismatch",
            family=Family.GRADIENT,
            severity=Severity.CRITICAL,
            confidence="high",
            explanation=(
                f"In float64, autograd and finite differences disagree for {len(failed)} of "
                f"{plural(total, 'parameter tensor')}; the worst is {name}, off by "
                f"{number(worst['relative_error'])} of its "
                f"size at h = {number(worst['h'])}. Most likely cause: a backward of a module or loss of "
                "your own that is "
                "not the derivative of its forward."
            ),
            remedy=Remedy(
                "Correct the backward of the custom module or loss. No change of the config mends it; with "
                "a lower learning "
                "rate a wrong direction does its harm more slowly.",
                remedies.set_lr(remedies.one_digit(case.config.optimizer.lr / 10)),
            ),
            evidence={
                "failed_parameters": len(failed),
                "checked_parameters": total,
                "relative_error": finite(worst["relative_error"]),
                "h": worst["h"],
                "threshold": 1e-5,
            },
            where={"parameter": name, "layer": name.rpartition(".")[0] or name, "phase": "diagnose"},
            also_consistent_with=("a function with a jump, which has no derivative there",),
        )
    ]


def _size(result: dict[str, Any]) -> float:
    error = finite(result["relative_error"])
    return float("inf") if error is None else error
