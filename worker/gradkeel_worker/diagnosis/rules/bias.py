"""Predictions that are too high, or too low, by their mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gradkeel.contract import config as contract
from gradkeel.contract.states import Family, Severity
from gradkeel_worker.diagnosis import remedies
from gradkeel_worker.diagnosis.case import Case
from gradkeel_worker.diagnosis.finding import Finding, Remedy
from gradkeel_worker.diagnosis.words import finite, number, percent, plural

Array = np.ndarray[Any, Any]

ERRORS = 4.0
"""Standard errors that the mean residual has to lie from 0."""
SHARE = 0.1
"""And its size over the standard deviation of the residuals."""
_HARMFUL = 0.05
"""Share of the RMSE that taking the mean residual off would save, from which on it is a warning."""
_BOUNDED = ("huber", "smooth_l1", "mae", "log_cosh")
_MOSTLY_ONE_VALUE = 0.3


@dataclass(frozen=True)
class Bias:
    """Mean residual (prediction − actual) of one target on held-out rows, in target units, with its standard
    error; the residuals' root mean square; and the mean residual on training rows.
    """

    target: str
    mean: float
    error: float
    rmse: float
    rows: int
    on_training: float
    on_training_error: float
    column: int

    @property
    def far(self) -> bool:
        spread = np.sqrt(max(self.rmse**2 - self.mean**2, 0.0))
        return abs(self.mean) > ERRORS * self.error and abs(self.mean) > SHARE * spread

    @property
    def costs(self) -> float:
        """Share of the RMSE that taking the mean residual off would save."""
        return 1 - float(np.sqrt(max(1 - (self.mean / self.rmse) ** 2, 0.0))) if self.rmse > 0 else 0.0

    @property
    def in_training_too(self) -> bool:
        """Whether the model is off in the same direction on the rows it was fitted to."""
        same = self.mean * self.on_training > 0
        return same and abs(self.on_training) > max(0.3 * abs(self.mean), 2 * self.on_training_error)


def biased_predictions(case: Case) -> list[Finding]:
    """Regression: the mean residual on held-out rows more than 4 standard errors, and more than a tenth of
    the residuals' standard deviation, from 0.
    """
    if case.useless and case.blown_up:
        return []
    far = [one for one in _biases(case) if one.far]
    return [_finding(case, max(far, key=lambda one: one.costs))] if far else []


def _biases(case: Case) -> list[Bias]:
    evaluation = case.evidence.evaluation
    residuals = evaluation.residuals if evaluation is not None else {}
    held, seen = residuals.get("held_out", np.zeros(0)), residuals.get("train", np.zeros(0))
    if len(held) < 2 or len(seen) < 2:
        return []
    pairs = zip(held.reshape(len(held), -1).T, seen.reshape(len(seen), -1).T, strict=True)
    found = [
        _bias(name, k, *pair) for k, (name, pair) in enumerate(zip(case.config.targets, pairs, strict=True))
    ]
    return [one for one in found if one is not None]


def _bias(name: str, column: int, held: Array, seen: Array) -> Bias | None:
    held, seen = held[np.isfinite(held)], seen[np.isfinite(seen)]
    if len(held) < 2 or len(seen) < 2:
        return None
    size = float(np.abs(held).max()) or 1.0  # squares of huge numbers must not overflow
    scaled = held / size
    return Bias(
        target=name,
        mean=float(scaled.mean()) * size,
        error=float(scaled.std(ddof=1) / np.sqrt(len(held))) * size,
        rmse=float(np.sqrt(np.mean(scaled**2))) * size,
        rows=len(held),
        on_training=float((seen / size).mean()) * size,
        on_training_error=float((seen / size).std(ddof=1) / np.sqrt(len(seen))) * size,
        column=column,
    )


def _finding(case: Case, bias: Bias) -> Finding:
    cause = _cause(case, bias)
    return Finding(
        rule="biased_predictions",
        family=Family.FIT,
        severity=_severity(bias, cause),
        confidence="high" if abs(bias.mean) > 2 * ERRORS * bias.error else "medium",
        explanation=_text(case, bias, cause),
        remedy=_remedy(case, cause),
        evidence={
            "mean_residual": bias.mean,
            "standard_error": bias.error,
            "rmse": bias.rmse,
            "rmse_without_it": finite(bias.rmse * (1 - bias.costs)),
            "mean_residual_on_training_rows": bias.on_training,
            "rows": bias.rows,
            "most_likely_cause": cause,
            "share_at_the_commonest_value": _share_of_one_value(case, bias),
            "loss": case.config.loss.kind,
            "target_scaling": case.config.prepare.target.kind,
        },
        where={"column": bias.target, "phase": "diagnose"},
        also_consistent_with=_alternatives(cause),
    )


def _severity(bias: Bias, cause: str) -> Severity:
    """A warning where it costs accuracy that the fit itself could have had."""
    return Severity.WARNING if bias.costs >= _HARMFUL and cause != "drift" else Severity.INFO


def _share_of_one_value(case: Case, bias: Bias) -> float | None:
    """Share of the training targets that have the commonest value."""
    prepared = case.evidence.prepared
    if prepared is None:
        return None
    y = prepared.train.y_raw.reshape(len(prepared.train.rows), -1)[:, bias.column]
    return float(np.unique(y, return_counts=True)[1].max() / len(y))


def _cause(case: Case, bias: Bias) -> str:
    """drift, transform, inflated, loss or unfinished."""
    if not bias.in_training_too:
        return "drift"
    if case.config.prepare.target.kind in ("log1p", "power"):
        return "transform"
    if case.config.loss.kind in _BOUNDED and not case.evidence.custom_loss:
        return "inflated" if (_share_of_one_value(case, bias) or 0) > _MOSTLY_ONE_VALUE else "loss"
    return "unfinished"


_CAUSES = {
    "drift": "held-out rows that differ from the training rows, on which the model is far less off",
    "transform": "the target's transform ({target}): a model of the transformed target aims at a typical "
    "value, which lies below the mean where the tail is to the right",
    "inflated": "a target of which {share} have one and the same value: the {loss} loss aims near the "
    "median, which is close to that value",
    "loss": "the {loss} loss, which aims between median and mean: where the errors have one long tail, that "
    "is not the mean",
    "unfinished": "a fit that had not come to its end, or that something held back",
}


def _alternatives(cause: str) -> tuple[str, ...]:
    if cause == "drift":
        return ("a model that learnt its training rows by heart", "a split by time or by group")
    return ("held-out rows that differ from the training rows",)


def _text(case: Case, bias: Bias, cause: str) -> str:
    words = _CAUSES[cause].format(
        target=case.config.prepare.target.kind,
        loss=case.config.loss.kind,
        share=percent(_share_of_one_value(case, bias) or 0.0),
    )
    kind = "high" if bias.mean > 0 else "low"
    return (
        f"On {plural(bias.rows, 'row')} that took no part in fitting, predictions of “{bias.target}” are too "
        f"{kind} by {number(abs(bias.mean))} on average (standard error {number(bias.error)}); taking that "
        f"off would lower the RMSE from {number(bias.rmse)} to {number(bias.rmse * (1 - bias.costs))}. Most "
        f"likely cause: {words}. It matters where predictions are added up or averaged."
    )


def _remedy(case: Case, cause: str) -> Remedy:
    if cause == "drift":
        return Remedy("Look at how the parts were split; no change of the config follows from this.", {})
    if cause == "unfinished":
        return Remedy("Train longer.", remedies.train_longer(case))
    if cause in ("transform", "inflated") and remedies.takes_poisson(case):
        return Remedy(
            "Use the poisson loss, which aims at the mean and keeps predictions above 0.",
            remedies.poisson(case),
        )
    if isinstance(case.config.loss, contract.MSE):
        return Remedy("Scale the target without bending it (standard).", remedies.scale_target(case))
    return Remedy("Train again with the squared error, which aims at the mean.", remedies.mse(case))
