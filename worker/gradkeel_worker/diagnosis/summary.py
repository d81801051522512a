"""The report's first paragraph, for a person who may never have heard of a gradient."""

from __future__ import annotations

from collections.abc import Sequence

from gradkeel.contract.states import Severity, Verdict
from gradkeel_worker.diagnosis.case import Case
from gradkeel_worker.diagnosis.finding import Finding
from gradkeel_worker.diagnosis.words import METRICS, number, plural

_VERDICTS = {
    Verdict.HEALTHY: "Training was numerically sound: none of the troubles with gradients that this report "
    "looks for was seen.",
    Verdict.STRAINED: "Training came to its end, but under strain.",
    Verdict.UNSTABLE: "Training was unstable, and its result should not be relied on before this is mended.",
    Verdict.DIVERGED: "Training diverged: its numbers grew without bound or stopped being numbers.",
}
_UNTIL_THEN = "Until then none of the troubles with gradients that this report looks for was seen"
_READINGS_ALONE = "; the readings were all there was to judge it by"
_STATUS = {
    "cancelled": "The job was cancelled",
    "deadline": "The job ran out of time",
    "out_of_memory": "The job ran out of memory",
    "worker_lost": "The job's worker was lost",
    "bad_data": "The job could not use the data, and ended",
    "internal": "The job ended with an internal error",
}

_TELLING = ("bad_data", "out_of_memory", "internal")
"""Endings whose error says more than that they came."""


def summarise(verdict: Verdict | None, findings: Sequence[Finding], case: Case) -> str:
    """Verdict, most likely cause with its remedy, and how the model compares."""
    sentences = [_opening(verdict, case)]
    lead = _lead(findings)
    if lead is not None:
        sentences.append(_named(lead))
        sentences.append(f"Proposed change: {_lowered(lead.remedy.text)}")
    others = sum(f is not lead and f.severity is not Severity.INFO for f in findings)
    if others:
        sentences.append(
            f"{plural(others, 'further finding')} {'is' if others == 1 else 'are'} listed below."
        )
    told = lead is not None and lead.rule == "no_better_than_baseline"
    return " ".join([*sentences, *([] if told else _comparison(case))])


def _opening(verdict: Verdict | None, case: Case) -> str:
    steps = case.course.length
    ended = _STATUS.get(case.evidence.status)
    if not steps or verdict is None:
        return f"{ended or 'The job ended'} before its first step{_why(case)}."
    if ended is None:
        return _VERDICTS[verdict]
    alone = _READINGS_ALONE if case.evidence.prepared is None else ""
    until = f"{_UNTIL_THEN}{alone}." if verdict is Verdict.HEALTHY else _VERDICTS[verdict]
    return f"{ended} after {plural(steps, 'recorded step')}{_why(case)}. {until}"


def _why(case: Case) -> str:
    """What the error says besides the kind of ending, where it does."""
    error = case.evidence.error or {}
    message = str(error.get("message") or "").strip().rstrip(".")
    return f": {message}" if message and case.evidence.status in _TELLING else ""


def _lead(findings: Sequence[Finding]) -> Finding | None:
    """The first finding that is more than information."""
    return next((finding for finding in findings if finding.severity is not Severity.INFO), None)


def _named(lead: Finding) -> str:
    """The finding's first two sentences."""
    sentences = lead.explanation.split(". ")
    text = ". ".join(sentences[:2])
    return text if text.endswith(".") else text + "."


def _lowered(text: str) -> str:
    return text[0].lower() + text[1:]


_BESIDE = {
    "constant": "always predicting one constant",
    "ridge": "a linear model",
    "naive": "the last known value",
    "seasonal_naive": "the value one season back",
}


def _comparison(case: Case) -> list[str]:
    """How the model does beside the baselines, in target units."""
    found = []
    for name, label in _BESIDE.items():
        gain = next(iter(case.gains.get(name, {}).items()), None)
        if gain is not None:
            found.append((gain[0], gain[1], label))
    if not found:
        return []
    metric, first = METRICS.get(found[0][0], found[0][0]), found[0][1]
    part = case.evidence.evaluation.part if case.evidence.evaluation is not None else "test"
    beside = " and ".join(f"{number(gain.baseline)} for {label}" for _, gain, label in found)
    return [f"On the {part} part its {metric} is {number(first.model)}, beside {beside}."]
