"""A finding: what is wrong, how it is known, and which change of the config would mend it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from gradkeel.contract.states import Family, Severity
from gradkeel_worker.diagnosis.confidence import told

Json = dict[str, Any]
Confidence = Literal["low", "medium", "high"]

RANK: dict[Severity, int] = {Severity.CRITICAL: 0, Severity.WARNING: 1, Severity.INFO: 2}
PLACES = ("layer", "parameter", "step", "epoch", "row", "line", "column", "phase")


@dataclass(frozen=True)
class Remedy:
    """What to change: in words, and as a merge patch against the submitted config."""

    text: str
    patch: Json


@dataclass(frozen=True)
class Finding:
    """One finding, before the report's order and links are known.

    ``evidence`` holds named numbers (None where a number is not finite) and short texts; ``where`` any of
    PLACES.
    """

    rule: str
    family: Family
    severity: Severity
    confidence: Confidence
    explanation: str
    remedy: Remedy
    evidence: Json = field(default_factory=dict)
    where: Json = field(default_factory=dict)
    also_consistent_with: tuple[str, ...] = ()
    consequences: tuple[str, ...] = ()

    def to_json(self) -> Json:
        return {
            "rule": self.rule,
            "family": str(self.family),
            "severity": str(self.severity),
            "confidence": told(self.rule, self.severity, self.confidence),
            "where": {place: self.where.get(place) for place in PLACES},
            "evidence": self.evidence,
            "explanation": self.explanation,
            "also_consistent_with": list(self.also_consistent_with),
            "consequences": list(self.consequences),
            "remedy": {"text": self.remedy.text, "patch": self.remedy.patch, "tried": None},
        }
