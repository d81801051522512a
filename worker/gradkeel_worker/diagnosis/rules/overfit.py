"""A model that does better on the rows it was fitted to than on others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gradkeel.contract import config as contract
from gradkeel.contract.states import Family, Severity
from gradkeel_worker.diagnosis import remedies
from gradkeel_worker.diagnosis.case import Case
from gradkeel_worker.diagnosis.finding import Finding, Remedy
from gradkeel_worker.diagnosis.words import METRICS, number, percent, plural

Array = np.ndarray[Any, Any]

WORSE = 1.2
_MATTERS = 0.1
"""A gap below this share of the best constant's metric matters little, whatever the ratio."""
_BY_METRIC = ("mae", "log_loss", "scaled_mae", "pinball")
"""What a fit is judged by here: means over rows, so that no squared tail decides."""


@dataclass(frozen=True)
class Gap:
    """The returned model's metric on training rows and on held-out ones, the best constant's, and the
    standard error of the difference.
    """

    metric: str
    seen: float
    held_out: float
    constant: float
    error: float

    @property
    def wide(self) -> bool:
        """More than a fifth worse, beyond chance, and by what matters."""
        difference = self.held_out - self.seen
        return (
            self.held_out > WORSE * self.seen
            and difference > 2 * self.error
            and difference > _MATTERS * self.constant
        )


def overfit(case: Case) -> list[Finding]:
    """The returned model, in eval mode, more than 20 % worse on validation rows than on training rows, with a
    gap that had grown. A warning where a linear model is better for it, or a constant as good.
    """
    gap = gap_of(case)
    if gap is None or not gap.wide or _grew(case) is False:
        return []
    return [
        Finding(
            rule="overfit",
            family=Family.FIT,
            severity=_severity(case),
            confidence="high" if gap.held_out > 2 * gap.seen else "medium",
            explanation=_text(case, gap),
            remedy=_remedy(case),
            evidence={
                "metric": gap.metric,
                "training": gap.seen,
                "held_out": gap.held_out,
                "ratio": gap.held_out / gap.seen if gap.seen > 0 else None,
                "threshold": WORSE,
                "standard_error": gap.error,
                "best_constant": gap.constant,
                "best_epoch": case.evidence.readings.best_epoch,
                "parameters": sum(case.evidence.readings.layer_sizes) or None,
                "training_rows": _training_rows(case),
                "series": "learning_curve",
            },
            where={"epoch": case.evidence.readings.best_epoch, "phase": "train"},
            also_consistent_with=(
                "held-out rows that are of another kind than the training rows",
                "copies of the same rows within the training part",
            ),
        )
    ]


def gap_of(case: Case) -> Gap | None:
    """The gap by the first metric of _BY_METRIC that there is; None where one side is unknown."""
    evaluation = case.evidence.evaluation
    if evaluation is None:
        return None
    for metric in _BY_METRIC:
        seen = evaluation.seen.get(metric, {}).get("model")
        held = evaluation.held_out.get(metric, {})
        if seen is not None and "model" in held and min(len(seen), len(held["model"])) > 1:
            return _gap(metric, seen, held["model"], held["constant"])
    return None


def _gap(metric: str, seen: Array, held: Array, constant: Array) -> Gap:
    error = np.sqrt(seen.var() / len(seen) + held.var() / len(held))
    return Gap(metric, float(seen.mean()), float(held.mean()), float(constant.mean()), float(error))


def _grew(case: Case) -> bool | None:
    """Whether the validation loss moved away from the training loss on the way to the returned weights; None
    where that was not seen: without validation rows, or within fewer than three epochs.
    """
    best = case.evidence.readings.best_epoch or 0
    curve = [
        one["validation_loss"] - one["train_loss"]
        for one in case.evidence.readings.epochs[: best + 1]
        if one.get("validation_loss") is not None and one.get("train_loss") is not None
    ]
    if len(curve) < 3:
        return None
    third = len(curve) // 3
    return float(np.median(curve[-third:])) > float(np.median(curve[:third]))


def _severity(case: Case) -> Severity:
    behind = next(iter(case.held_out_gains.get("ridge", {}).values()), None)
    harmed = case.useless is True or (behind is not None and behind.high < 0)
    return Severity.WARNING if harmed else Severity.INFO


def _training_rows(case: Case) -> int | None:
    return None if case.evidence.prepared is None else len(case.evidence.prepared.train.rows)


def _text(case: Case, gap: Gap) -> str:
    words = METRICS.get(gap.metric, gap.metric)
    ratio = f", {percent(gap.held_out / gap.seen - 1)} more" if gap.seen > 0 else ""
    grew = ". During the run validation and training loss grew apart" if _grew(case) else ""
    text = (
        f"The returned model does better on the rows it was fitted to than on others: its {words} is "
        f"{number(gap.seen)} on training rows and {number(gap.held_out)} on rows that took no part in "
        f"fitting{ratio}{grew}."
    )
    if _severity(case) is Severity.INFO:
        return text + " It is useful on new rows all the same; only the training error promises too much."
    return f"{text} {_harm(case)} Most likely cause: {_cause(case)}."


def _harm(case: Case) -> str:
    if case.useless:
        return "On new rows it cannot be told from a constant."
    return "On new rows a linear model does better."


def _cause(case: Case) -> str:
    rows, weights = _training_rows(case), sum(case.evidence.readings.layer_sizes)
    if rows and weights > rows:
        return f"{plural(weights, 'parameter')} for {plural(rows, 'training row')}"
    if not case.config.budget.patience:
        return "training that went on to its last epoch, whatever the validation loss did"
    return "columns that let the model tell single rows apart"


def _remedy(case: Case) -> Remedy:
    if _severity(case) is Severity.WARNING and not isinstance(case.config.model, contract.Linear):
        patch = remedies.linear_model(case)
        if patch:
            return Remedy("Use a linear model, which has less room to learn rows by heart.", patch)
    return Remedy(
        "End the run early by patience, and hold the weights back: weight decay, dropout.",
        remedies.hold_back(case),
    )
