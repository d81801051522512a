"""Predictions and metrics of the returned model and of the baselines, in target units."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from gradkeel_worker.data.decision import Decision
from gradkeel_worker.diagnosis.baselines import Baselines, fit_baselines
from gradkeel_worker.diagnosis.block import answers_of
from gradkeel_worker.diagnosis.details import decide, detail
from gradkeel_worker.diagnosis.evidence import Evaluation, Metrics
from gradkeel_worker.diagnosis.forecasts import naive_forecasts, scale_of_changes
from gradkeel_worker.diagnosis.intervals import intervals_of
from gradkeel_worker.diagnosis.metrics import (
    CLASSIFICATION,
    REGRESSION,
    classification_metrics,
    quantile_metrics,
    regression_metrics,
    row_log_loss,
    targets_metrics,
)
from gradkeel_worker.diagnosis.pinball import pinball_losses
from gradkeel_worker.diagnosis.sampling import sample

if TYPE_CHECKING:
    from gradkeel_worker.data import Part, Prepared

Array = np.ndarray[Any, Any]
_CHUNK = 16_384
_FEWEST = 256
_SEEN_ROWS = 4_096
"""Training rows that the returned model is judged on."""
_METRICS_OF_TASK = {"regression": REGRESSION, "quantile": ("pinball",)}


@torch.no_grad()
def outputs(model: nn.Module, part: Part) -> Array:
    """The model's raw outputs float64 [n, out] for a part, in eval mode; the model's mode is left as it
    was.
    """
    training = model.training
    model.eval()
    step = max(_FEWEST, _CHUNK // part.length)
    chunks = [model(*map(torch.from_numpy, part.fed(slice(i, i + step)))) for i in range(0, len(part), step)]
    model.train(training)
    if not chunks:
        return np.zeros((0, 1))
    return torch.cat(chunks).reshape(len(part), -1).double().numpy()


def predict(model: nn.Module, part: Part, prepared: Prepared) -> Array:
    """Predictions in target units float64 [n], or [n, outputs] of several targets or quantiles, or
    probabilities float64 [n, classes], as ``prepared``'s decision has them told.
    """
    raw = outputs(model, part) if len(part.rows) else np.zeros((0, prepared.outputs))
    if prepared.classes is None:
        return np.asarray(prepared.in_target_units(raw), np.float64)
    return prepared.decision.probabilities(_probabilities(raw))


def _probabilities(raw: Array) -> Array:
    if raw.shape[1] == 1:
        positive = 1.0 / (1.0 + np.exp(-np.clip(raw[:, 0], -700, 700)))
        return np.stack([1.0 - positive, positive], axis=1)
    shifted = np.exp(raw - raw.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def _metrics(prepared: Prepared, part: Part, predicted: Array) -> Metrics:
    kept = part.finite_rows()
    found = score(prepared, part.y_raw[kept], predicted[kept])
    return found | _scaled(found, scale_of_changes(prepared))


def metrics_on(model: nn.Module, prepared: Prepared, part: Part) -> Metrics:
    """Metrics of a model, on the CPU, on a part's rows, in target units."""
    return _metrics(prepared, part, predict(model, part, prepared))


def score(prepared: Prepared, actual: Array, predicted: Array) -> Metrics:
    """The task's metrics of predictions, as ``predict`` gives them, for values as ``Part.y_raw`` holds
    them."""
    if prepared.classes is not None:
        return classification_metrics(actual, predicted, prepared.decision)
    if prepared.levels:
        return quantile_metrics(actual, predicted, prepared.levels)
    if prepared.output_names is not None:
        return targets_metrics(actual, predicted, prepared.output_names, prepared.target_spread())
    return regression_metrics(actual, predicted)


def row_losses(prepared: Prepared, actual: Array, predicted: Array) -> Array:
    """Loss of each row [n], of which the leading metric is the mean or, for numbers, the mean's root;
    arguments as of ``score``."""
    if prepared.classes is not None:
        return row_log_loss(actual, predicted)
    if prepared.levels:
        return np.asarray(pinball_losses(actual, predicted, prepared.levels).mean(axis=1))
    scale = prepared.target_spread() if prepared.output_names is not None else np.ones(1)
    return np.asarray((((predicted - actual).reshape(len(actual), -1) / scale) ** 2).mean(axis=1))


def _scaled(found: Metrics, scale: float | None) -> Metrics:
    """mase, for forecasts: the mean absolute error over the mean change from row to row in training."""
    if scale is None:
        return {}
    return {"mase": None if found["mae"] is None else found["mae"] / scale}


def _constant_metrics(prepared: Prepared, part: Part, baseline: Baselines) -> Metrics:
    """The best constant for each metric: the mean for rmse and r2, the median for mae, the class shares
    else.
    """
    metrics = _metrics(prepared, part, baseline.constant)
    if baseline.constant_mae is not None:
        medians = _metrics(prepared, part, baseline.constant_mae)
        metrics |= {name: medians[name] for name in ("mae", "scaled_mae", "mase") if name in medians}
        for name, of_target in (metrics.get("targets") or {}).items():
            of_target["mae"] = medians["targets"][name]["mae"]
    return metrics


def evaluate(
    model: nn.Module | None, prepared: Prepared, seed: int = 0, *, detailed: bool = True
) -> Evaluation:
    """Metrics of model and baselines. Without a model only the baselines are judged.

    The baselines are compared on the test part, or on the validation part where there is no test part. A
    classifier's temperature and threshold are decided here, on the validation part. ``detailed`` asks for
    what the report tells beside the metrics.
    """
    plain = replace(prepared, decision=Decision())
    parts = {"validation": prepared.validation, "test": prepared.test}
    fitted, earlier = fit_baselines(prepared, seed), naive_forecasts(prepared)
    judged = "test" if len(prepared.test.rows) else "validation"
    raw = {name: predict(model, part, plain) for name, part in parts.items()} if model else {}
    decision, blocks = decide(plain, raw, seed)
    prepared = replace(prepared, decision=decision)
    predicted = {name: decision.probabilities(given) for name, given in raw.items()}
    if model is not None and detailed and len(parts[judged].rows):
        blocks |= detail(model, prepared, parts[judged], predicted[judged], predict, seed)
    answered: list[tuple[Part, Array]] = []
    seen: dict[str, dict[str, Array]] = {}
    residuals: dict[str, Array] = {}
    if model is not None and detailed:
        part = prepared.train.take(sample(len(prepared.train.rows), _SEEN_ROWS, seed))
        answered = [(part, predict(model, part, prepared))]
        seen, residuals = _on_training_rows(prepared, part, answered[0][1], predicted)
    names = _METRICS_OF_TASK.get(prepared.task, CLASSIFICATION)
    nothing: Metrics = dict.fromkeys(names, None)
    return Evaluation(
        metrics={
            name: _metrics(prepared, part, predicted[name]) if name in predicted and len(part.rows) else None
            for name, part in parts.items()
        },
        baselines={
            "constant": _constant_metrics(plain, parts[judged], fitted[judged]),
            "ridge": _metrics(plain, parts[judged], fitted[judged].ridge),
            **{
                name: _metrics(plain, parts[judged], guess) for name, guess in earlier.get(judged, {}).items()
            },
        }
        if len(parts[judged].rows)
        else {"constant": nothing, "ridge": nothing},
        predictions=_table(prepared, prepared.test, predicted["test"]) if "test" in predicted else {},
        errors=_row_errors(
            prepared, parts[judged], predicted.get(judged), fitted[judged], earlier.get(judged, {})
        ),
        part=judged,
        intervals=intervals_of(prepared, predicted),
        held_out=_together(
            [
                _row_errors(prepared, part, predicted.get(name), fitted[name], earlier.get(name, {}))
                for name, part in parts.items()
                if len(part.rows)
            ]
        ),
        answers=answers_of(prepared, [*zip(parts.values(), predicted.values(), strict=False), *answered]),
        seen=seen,
        residuals=residuals,
        decision=decision,
        details=blocks,
    )


def _on_training_rows(
    prepared: Prepared, part: Part, told: Array, predicted: dict[str, Array]
) -> tuple[dict[str, dict[str, Array]], dict[str, Array]]:
    """Evaluation's ``seen`` and ``residuals``; ``told``: predictions of the training rows in ``part``."""
    seen = _losses(prepared, part, {"model": told} if np.isfinite(told).all() else {})
    if prepared.task != "regression":
        return seen, {}
    parts = {"validation": prepared.validation, "test": prepared.test}
    held_out = [predicted[name] - each.y_raw for name, each in parts.items()]
    return seen, {"train": told - part.y_raw, "held_out": np.concatenate(held_out)}


def _together(errors: list[dict[str, dict[str, Array]]]) -> dict[str, dict[str, Array]]:
    """The parts' per-row losses joined, for those (model, constant, ridge) that every part has."""
    if not errors:
        return {}
    return {
        metric: {
            name: np.concatenate([each[metric][name] for each in errors])
            for name in first
            if all(name in each[metric] for each in errors)
        }
        for metric, first in errors[0].items()
    }


def _table(prepared: Prepared, part: Part, predicted: Array) -> dict[str, Array]:
    if prepared.classes is None:
        return {"row": part.rows, **_series(part), "actual": part.y_raw, "prediction": predicted}
    labels = np.asarray(prepared.classes or (), object)
    return {
        "row": part.rows,
        **_series(part),
        "actual": labels[part.y_raw],
        "prediction": labels[prepared.decision.classes(predicted)],
        "probabilities": predicted,
    }


def _series(part: Part) -> dict[str, Array]:
    """Where each row stands in its series, for models over windows."""
    return {} if part.windows is None else part.windows.names()


def _row_errors(
    prepared: Prepared,
    part: Part,
    predicted: Array | None,
    baseline: Baselines,
    earlier: dict[str, Array],
) -> dict[str, dict[str, Array]]:
    """Per-row losses of everyone on the same rows; the model's are left out where a prediction is not
    finite.
    """
    everyone = {"constant": baseline.constant, "ridge": baseline.ridge, **earlier}
    if predicted is not None and np.isfinite(predicted).all():
        everyone["model"] = predicted
    return _losses(prepared, part, everyone, baseline.constant_mae)


def _losses(
    prepared: Prepared, part: Part, everyone: dict[str, Array], constant_mae: Array | None = None
) -> dict[str, dict[str, Array]]:
    """Per-row losses of everyone's predictions: metric → name → [n]. ``constant_mae``: the constant that the
    absolute error is judged by.
    """
    if prepared.classes is not None:
        named = {
            name: (prepared.decision if name == "model" else Decision()).classes(p)
            for name, p in everyone.items()
        }
        return {
            "log_loss": {name: row_log_loss(part.y_raw, p) for name, p in everyone.items()},
            "accuracy": {name: (k != part.y_raw).astype(np.float64) for name, k in named.items()},
        }
    if prepared.levels:
        losses = {name: pinball_losses(part.y_raw, p, prepared.levels) for name, p in everyone.items()}
        return {"pinball": {name: each.mean(axis=1) for name, each in losses.items()}}
    medians = everyone | ({"constant": constant_mae} if constant_mae is not None else {})
    if prepared.output_names is not None:
        scale = prepared.target_spread()
        return {
            "scaled_rmse": {
                name: (((p - part.y_raw) / scale) ** 2).mean(axis=1) for name, p in everyone.items()
            },
            "scaled_mae": {
                name: (np.abs(p - part.y_raw) / scale).mean(axis=1) for name, p in medians.items()
            },
        }
    return {
        "rmse": {name: (p - part.y_raw) ** 2 for name, p in everyone.items()},
        "mae": {name: np.abs(p - part.y_raw) for name, p in medians.items()},
    }
