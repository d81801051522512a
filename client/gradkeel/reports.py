"""The gradient-health report as an object."""

from __future__ import annotations

from typing import Any

from gradkeel import display
from gradkeel.contract.states import Verdict
from gradkeel.documents import Document, Field, many, mapping, optional, text, texts


class Finding(Document):
    """One finding: which rule fired, where, on what evidence, and the change of the config that mends it."""

    rule = Field(text)
    family = Field(text)
    severity = Field(text)
    confidence = Field(text)
    where = Field(mapping)
    evidence = Field(mapping)
    explanation = Field(text)
    also_consistent_with = Field(texts)
    consequences = Field(texts)
    remedy = Field(mapping)

    @property
    def patch(self) -> dict[str, Any] | None:
        """A JSON merge patch against the submitted config, or None where no change of it would help."""
        return self.remedy.get("patch") or None


class Report(Document):
    """A job's report; ``report["series"]`` reaches every key of its JSON."""

    verdict = Field(optional(Verdict))
    summary = Field(text)
    findings = Field(many(Finding))

    def _html(self) -> str:
        listed = [
            (found.rule, found.severity, _place(found.where), found.explanation, found.patch)
            for found in self.findings
        ]
        heads = ["finding", "severity", "where", "what it means", "change of the config"]
        studies = [
            (words, told)
            for words, study in (
                ("without its stabilizers", self.counterfactual),
                ("curvature", self.curvature),
            )
            if (told := (study or {}).get("summary"))
        ]
        summary = display.facts([("summary", self.summary), *studies])
        return display.card(
            "Report", (self.verdict,), summary, display.table(heads, listed) if listed else ""
        )

    def __repr__(self) -> str:
        rules = ", ".join(found.rule for found in self.findings) or "no findings"
        return f"<Report {self.verdict}: {rules}>"

    def __getitem__(self, key: str) -> Any:
        return self._raw[key]

    @property
    def counterfactual(self) -> dict[str, Any] | None:
        """The same training without its stabilizers: ``summary`` tells it, ``arms`` holds each one's metrics,
        losses and gradient norms; None where ``health.counterfactual`` was off."""
        found: dict[str, Any] | None = self._raw.get("counterfactual")
        return found

    @property
    def curvature(self) -> dict[str, Any] | None:
        """How sharply the loss bends at the end of training, and under ``start`` at its first weights:
        ``summary`` tells it, ``lr_over_limit`` holds the learning rate against the largest one whose steps
        settle there; None where ``health.curvature`` was off."""
        found: dict[str, Any] | None = self._raw.get("curvature")
        return found

    @property
    def preflight(self) -> list[dict[str, Any]]:
        """What a preflight found, an entry for each scaling and loss; empty in reports of trainings."""
        return list(self._raw.get("preflight") or ())

    @property
    def recommended(self) -> dict[str, Any] | None:
        """The entry of ``preflight`` to train with, and its ``patch`` of the config; None where there is
        none."""
        return next((entry for entry in self.preflight if entry.get("recommended")), None)

    @property
    def importance(self) -> list[dict[str, Any]]:
        """What each column is worth to the model, the most important first; empty where it was not measured.

        Each has ``column``, ``mean`` and ``sd`` of what the error gains when the column is shuffled, and
        ``gradient``, how far the output moves with it. ``report["fit"]["importance"]`` names the metric.
        """
        return list((self._fit.get("importance") or {}).get("columns") or ())

    @property
    def repairs(self) -> list[dict[str, Any]]:
        """What the job tried by itself, in order: ``rule``, ``text``, ``patch``, ``before``, ``after``,
        ``gained`` and ``status``, which is applied, reverted or refused, with the ``reason``."""
        return list(self._raw.get("repair") or ())

    @property
    def learning_curve(self) -> list[dict[str, Any]]:
        """A row an epoch (at most 500): epoch, step, train_loss, validation_loss and metric, as far as
        measured. ``pandas.DataFrame(report.learning_curve)`` makes a table of it."""
        return list(self._fit.get("learning_curve") or ())

    @property
    def _fit(self) -> dict[str, Any]:
        return self._raw.get("fit") or {}

    @property
    def remedy(self) -> Finding | None:
        """What to change first: the first finding with a patch, one that warns before one that only notes."""
        mendable = [finding for finding in self.findings if finding.patch]
        warning = (finding for finding in mendable if finding.severity != "info")
        return next(warning, mendable[0] if mendable else None)


def _place(where: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in where.items() if value is not None)
