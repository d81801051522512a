"""The gradient-health report, put together."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any

import numpy as np

from gradkeel.contract import config as contract
from gradkeel.contract.report import DETAILS, empty_report
from gradkeel.contract.resolve import resolve, to_json
from gradkeel_worker.diagnosis.case import Case
from gradkeel_worker.diagnosis.evidence import Evidence
from gradkeel_worker.diagnosis.finding import Finding
from gradkeel_worker.diagnosis.order import arrange, verdict_of
from gradkeel_worker.diagnosis.pinball import MEDIAN
from gradkeel_worker.diagnosis.repaired import asked_after, with_repairs
from gradkeel_worker.diagnosis.rules import RULES
from gradkeel_worker.diagnosis.rules.clipping import role_of
from gradkeel_worker.diagnosis.series import numbers, series_of
from gradkeel_worker.diagnosis.summary import summarise
from gradkeel_worker.diagnosis.words import plural
from gradkeel_worker.engine.readings import Readings

Json = dict[str, Any]
Array = np.ndarray[Any, Any]

log = logging.getLogger(__name__)

MAX_BYTES = 5_000_000
_SAMPLED_PREDICTIONS = 500
_MAX_COLUMNS = 500
_MAX_INTERVENTIONS = 1_000
_FROM_OUTSIDE = frozenset(
    ("max_seconds", "deadline", "cancelled", "worker_lost", "out_of_memory", "internal")
)


def diagnose(evidence: Evidence) -> Json:
    """The report: every fixed key of the contract, JSON-safe, at most MAX_BYTES long."""
    case = Case(evidence)
    judged, failed = _judge(case)
    findings = arrange(judged, case)
    verdict = verdict_of(findings, case) if case.course.length or findings else None
    report = empty_report(verdict=verdict, summary=summarise(verdict, findings, case))
    report |= {
        "findings": [finding.to_json() for finding in findings],
        "series": series_of(evidence.readings),
        "clipping": [_clip(case, clip) for clip in evidence.readings.clipping],
        "interventions": [_intervention(one) for one in evidence.readings.interventions[:_MAX_INTERVENTIONS]],
        "gradient_check": case.measured.gradient_check,
        "curvature": case.curvature.report,
        "data": _data(case),
        "counterfactual": evidence.counterfactual,
        "fit": _fit(case),
        "cost": _cost(evidence.readings, evidence.study_seconds | _seconds_of_curvature(case)),
        "provenance": _provenance(case, failed),
    }
    return _bounded(_plain(report))


def _judge(case: Case) -> tuple[list[Finding], list[str]]:
    """Every rule's findings, and a note for each rule that failed: a report exists even then."""
    findings: list[Finding] = []
    failed: list[str] = []
    for name, rule in RULES.items():
        try:
            findings += rule(case)
        except Exception as error:
            log.exception("rule %s failed", name)
            failed.append(f"rule {name} could not be judged: {type(error).__name__}: {error}")
    return findings, failed


def partial_report(
    readings: Readings,
    config: contract.TrainConfig,
    submitted: Json,
    status: str,
    error: Json | None = None,
    *,
    profile: Json | None = None,
    provenance: Json | None = None,
    seconds: float | None = None,
) -> Json:
    """The report of a job whose child is gone, from the readings it left. Needs no torch.

    ``status``: diverged, cancelled, deadline, out_of_memory, worker_lost, bad_data or internal.
    """
    asked = asked_after(submitted, readings.repairs)
    report = diagnose(
        Evidence(
            config=_with_a_rate(config if asked == submitted else resolve(asked)),
            submitted=asked,
            readings=readings,
            status=status,
            profile=profile,
            error=error,
            provenance=provenance or {},
            seconds=seconds,
        )
    )
    return with_repairs(report, submitted, readings.repairs)


def _with_a_rate(config: contract.TrainConfig) -> contract.TrainConfig:
    """A run that ended before its learning rate was found took no step: the rules read the default."""
    if config.optimizer.lr != "auto":  # type: ignore[comparison-overlap]
        return config
    return replace(config, optimizer=type(config.optimizer)())


# ------------------------------------------------------------------------------------------------- the parts


def _clip(case: Case, clip: Json) -> Json:
    fired = np.asarray(clip.get("fired", ()), bool)
    coefficients = np.asarray(clip.get("coefficients", ()), np.float64)
    finite = coefficients[np.isfinite(coefficients)]
    return {
        "kind": clip["kind"],
        "limit": clip.get("limit"),
        "fired_steps": int(fired.sum()),
        "fraction": float(fired.mean()) if len(fired) else 0.0,
        "median_coefficient": float(np.median(finite)) if len(finite) else None,
        "role": role_of(case, clip),
    }


def _intervention(one: Json) -> Json:
    return {
        "step": one.get("step"),
        "action": str(one.get("action", "")),
        "reason": str(one.get("reason", "")),
        "effect": None if one.get("effect") is None else str(one["effect"]),
    }


def data_of(evidence: Evidence) -> Json | None:
    """The report's ``data`` alone: the columns as they lie in the file and as the model is fed them."""
    data: Json | None = _plain(_data(Case(evidence)))
    return data


def _data(case: Case) -> Json | None:
    feed, profile = case.feed, case.evidence.profile
    if feed is None and profile is None:
        return None
    columns = {one["name"]: _profiled(one) for one in (profile or {}).get("columns", ())[:_MAX_COLUMNS]}
    for one in feed.columns[:_MAX_COLUMNS] if feed is not None else ():
        fed = {"rms": one.rms, "mean": one.mean, "std": one.std, "rms_over_median": one.rms_over_median}
        columns.setdefault(one.source, {}).setdefault("as_fed", {})[one.name] = fed
    target = feed.target if feed is not None else None
    return {
        "columns": columns,
        "scale_ratio": (profile or {}).get("scale_ratio") or (feed.scale_ratio if feed is not None else None),
        "scale_ratio_as_fed": feed.scale_ratio if feed is not None else None,
        "gradient_inflation": _inflation(case),
        "gradient_inflation_unscaled": _unscaled_inflation(case, profile),
        "predicted_inflation": feed.inflation if feed is not None else None,
        "target": None
        if target is None
        else {"name": target.name, "mean": target.mean, "std": target.std, "skew": target.skew},
        "rows": _row_counts(case),
    }


def _profiled(column: Json) -> Json:
    kept = ("type", "missing", "distinct", "min", "max", "mean", "std", "skew", "outliers", "nonfinite")
    return {name: column.get(name) for name in kept}


def _inflation(case: Case) -> Json:
    """By column, the factor on its first-layer gradient beside a standardised column: its RMS as fed."""
    return {one.name: one.rms for one in case.feed.columns[:_MAX_COLUMNS]} if case.feed is not None else {}


def _unscaled_inflation(case: Case, profile: Json | None) -> Json:
    """The same had the column been fed as it stands in the file."""
    used = {one.source for one in case.feed.columns} if case.feed is not None else None
    left_out = {*case.config.targets, *case.config.columns.exclude}
    found = {}
    for column in (profile or {}).get("columns", ()):
        mean, std = column.get("mean"), column.get("std")
        if (
            column.get("type") == "numeric"
            and None not in (mean, std)
            and (column["name"] in used if used is not None else column["name"] not in left_out)
        ):
            found[column["name"]] = float(np.hypot(mean, std))
    return dict(list(found.items())[:_MAX_COLUMNS])


def _row_counts(case: Case) -> Json | None:
    prepared = case.evidence.prepared
    if prepared is None:
        return None
    return {name: len(getattr(prepared, name).rows) for name in ("train", "validation", "test")}


def _fit(case: Case) -> Json | None:
    evaluation, readings = case.evidence.evaluation, case.evidence.readings
    folds = case.evidence.cross_validation
    if evaluation is None and not readings.epochs and folds is None:
        return None
    metrics = dict(evaluation.metrics) if evaluation is not None else {}
    predictions = evaluation.predictions if evaluation is not None else {}
    return {
        "metrics": metrics or None,
        "baselines": dict(evaluation.baselines) if evaluation is not None else None,
        "gain": _gain(case),
        "mean_residual": _mean_residual(case, predictions),
        "best_epoch": readings.best_epoch,
        "epochs": len(readings.epochs),
        "seconds": case.evidence.seconds,
        "intervals": evaluation.intervals if evaluation is not None else None,
        "part": evaluation.part if evaluation is not None else None,
        "stopped_by": readings.stopped_by,
        "learning_curve": _learning_curve(readings),
        "predictions_sample": _sampled(case, predictions),
        "sample_of": _sample_of(case),
        "worst_target": worst_target(metrics.get("test") or metrics.get("validation")),
        "loss_of_best_constant": case.constant_loss,
        "checks": _checks(case),
        "cross_validation": folds,
        **dict.fromkeys(DETAILS),
        **(evaluation.details if evaluation is not None else {}),
    }


def _checks(case: Case) -> Json:
    """Before the first step: the loss beside the best constant's, and whether one batch can be fitted."""
    loss, constant = case.measured.initial_loss, case.constant_loss
    ratio = loss / constant if loss is not None and constant is not None and constant > 0 else None
    start = None if loss is None else {"loss": loss, "best_constant": constant, "ratio": ratio}
    return {"initial_loss": start, "one_batch": case.measured.one_batch}


def _gain(case: Case) -> Json | None:
    """Gain over each baseline by metric, with 95 % bootstrap intervals; positive means the model is
    better.
    """
    if not case.gains:
        return None
    return {
        name: {metric: gain.to_json() for metric, gain in each.items()} for name, each in case.gains.items()
    }


def _mean_residual(case: Case, predictions: dict[str, Array]) -> float | None:
    """Mean of prediction − actual on the test part, in target units; regression with one target only."""
    predicted = predictions.get("prediction", np.zeros(0))
    if case.task != "regression" or predicted.ndim > 1 or not len(predicted):
        return None
    return float(np.mean(predicted - predictions["actual"]))


def _sampled(case: Case, predictions: dict[str, Array]) -> list[Any]:
    """Up to 500 pairs, evenly spread over the test part.

    Numbers: [actual, predicted], of several those that ``sample_of`` names. Classes: [actual class,
    probability given to it].
    """
    predictions = _of_one(case, predictions)
    count = len(predictions.get("actual", ()))
    some = np.linspace(0, count - 1, min(count, _SAMPLED_PREDICTIONS)).astype(np.int64)
    if not count:
        return []
    actual = predictions["actual"][some].tolist()
    if "probabilities" not in predictions:
        return [list(pair) for pair in zip(actual, numbers(predictions["prediction"][some]), strict=True)]
    prepared = case.evidence.prepared
    index = {label: k for k, label in enumerate(prepared.classes or ())} if prepared is not None else {}
    chosen = [
        row[index[label]] for label, row in zip(actual, predictions["probabilities"][some], strict=True)
    ]
    return [list(pair) for pair in zip(actual, numbers(np.array(chosen)), strict=True)]


def _sampled_output(case: Case) -> int | None:
    """Which of several outputs is shown: the target that is predicted worst, or the level nearest to the
    median.
    """
    prepared, evaluation = case.evidence.prepared, case.evidence.evaluation
    if prepared is None or prepared.output_names is None:
        return None
    if prepared.levels:
        return int(np.argmin(np.abs(np.array(prepared.levels) - MEDIAN)))
    worst = worst_target((evaluation.metrics if evaluation is not None else {}).get("test"))
    return 0 if worst is None else prepared.output_names.index(worst)


def _of_one(case: Case, predictions: dict[str, Array]) -> dict[str, Array]:
    """The predictions of the output that is shown."""
    shown = _sampled_output(case)
    if shown is None or not predictions:
        return predictions
    actual = predictions["actual"]
    return {
        "actual": actual[:, shown] if actual.ndim > 1 else actual,
        "prediction": predictions["prediction"][:, shown],
    }


def _sample_of(case: Case) -> str | None:
    shown = _sampled_output(case)
    if shown is None or case.evidence.prepared is None:
        return None
    return (case.evidence.prepared.output_names or ())[shown]


def worst_target(metrics: Json | None) -> str | None:
    """The target whose r2 is lowest; None where there is one target only."""
    each = (metrics or {}).get("targets") or {}
    scored = {name: of_target["r2"] for name, of_target in each.items() if of_target["r2"] is not None}
    return min(scored, key=lambda name: scored[name]) if scored else None


def _learning_curve(readings: Readings) -> list[Json]:
    """Training and validation loss by epoch, at most 500 points."""
    epochs = readings.epochs
    some = np.linspace(0, len(epochs) - 1, min(len(epochs), 500)).astype(int).tolist()
    kept = ("epoch", "step", "train_loss", "validation_loss", "metric")
    return [{key: epochs[i].get(key) for key in kept if key in epochs[i]} for i in some]


def _cost(readings: Readings, study_seconds: Json) -> Json:
    """Share of the training time that went into measuring, and the seconds of further studies."""
    total = readings.seconds_training
    share = readings.seconds_monitoring / total if total > 0 else None
    return {
        "monitoring_fraction": share,
        "by_probe": dict(readings.seconds_by_probe),
        "seconds_training": total,
        "studies": study_seconds,
    }


def _seconds_of_curvature(case: Case) -> Json:
    return {} if case.curvature.seconds is None else {"curvature": case.curvature.seconds}


def _provenance(case: Case, failed: list[str]) -> Json:
    evidence, config = case.evidence, case.config
    return {
        "seed": config.seed,
        "device": config.device,
        "precision": config.precision,
        "steps": case.course.length,
        "status": evidence.status,
        "error": None if evidence.status == "cancelled" else evidence.error,
        "rests_on": _rests_on(evidence),
        "config": to_json(config),
        "notes": [*evidence.readings.notes, *case.measured.notes, *case.curvature.notes, *failed],
        **evidence.provenance,
        "reproducible": _reproducible(evidence),
    }


def _rests_on(evidence: Evidence) -> list[str]:
    """What there was to judge the run by: a job whose process is gone has left readings alone, or nothing."""
    there = {
        f"readings of {plural(len(evidence.readings.steps), 'step')}": len(evidence.readings.steps) > 0,
        "the data set's profile": evidence.profile is not None,
        "the data as it was fed": evidence.prepared is not None,
        "the model that is returned": evidence.model is not None,
        "metrics of that model": evidence.evaluation is not None
        and any(evidence.evaluation.metrics.values()),
    }
    return [words for words, given in there.items() if given]


def _reproducible(evidence: Evidence) -> bool:
    """Whether the run's own config decided where it ended."""
    ended = evidence.readings.stopped_by, evidence.status
    decided = evidence.provenance.get("reproducible", True)
    return bool(decided) and not _FROM_OUTSIDE.intersection(ended)


# --------------------------------------------------------------------------------------------- JSON and size


def _plain(value: Any) -> Any:
    """JSON types only: numpy scalars unpacked, non-finite numbers null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def _bounded(report: Json) -> Json:
    """Thin out the series until the document fits. Everything else is bounded by construction."""
    while len(json.dumps(report)) > MAX_BYTES and len(report["series"]["steps"]) > 20:
        _halve(report["series"])
    return report


def _halve(series: Json) -> None:
    for name, values in series.items():
        if isinstance(values, list) and name not in ("nonfinite", "histogram_bins"):
            series[name] = values[::2]
    for layer in series["layers"].values():
        for name, values in layer.items():
            if isinstance(values, list):
                layer[name] = values[::2]
