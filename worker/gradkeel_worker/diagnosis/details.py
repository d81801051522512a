"""What the report tells of a fit beside its metrics, and what the validation part decides on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from gradkeel_worker.data.decision import Decision
from gradkeel_worker.diagnosis.calibration import calibrate
from gradkeel_worker.diagnosis.classification import classification_details, threshold_details
from gradkeel_worker.diagnosis.importance import importance
from gradkeel_worker.diagnosis.residuals import residual_details

if TYPE_CHECKING:
    from gradkeel_worker.data import Part, Prepared

Array = np.ndarray[Any, Any]
Json = dict[str, Any]


def decide(prepared: Prepared, predicted: dict[str, Array], seed: int) -> tuple[Decision, Json]:
    """A classifier's temperature and threshold, and the blocks ``calibration`` and ``threshold``.

    ``predicted``: the model's own probabilities for the validation and the test part. Whatever the config
    leaves alone is still reported. Regression: nothing to decide.
    """
    if prepared.task not in ("binary", "multiclass") or not predicted:
        return Decision(), {}
    output = prepared.config.output
    actual = _answered(prepared.validation, prepared.validation.y_raw)
    found = calibrate(actual, _answered(prepared.validation, predicted["validation"]), seed)
    applied = output.calibrate == found["kind"] and found["better"]
    decision = Decision(temperature=found["temperature"] if applied else None)
    blocks: Json = {"calibration": found | {"applied": applied}}
    if prepared.task == "binary":
        parts = _told(prepared, predicted, decision)
        blocks["threshold"] = threshold_details(parts, output.threshold, seed)
        decision = replace(decision, threshold=_chosen(blocks["threshold"]))
    return decision, blocks


def _chosen(block: Json | None) -> float | None:
    """The threshold that is applied; None where it is one half, which is the likelier class."""
    choices = [] if block is None else block["choices"]
    applied = [one["threshold"] for one in choices if one["applied"] and one["kind"] != "half"]
    return applied[0] if applied else None


def _told(
    prepared: Prepared, predicted: dict[str, Array], decision: Decision
) -> dict[str, tuple[Array, Array]]:
    parts = {"validation": prepared.validation, "test": prepared.test}
    return {
        name: (_answered(part, part.y_raw), decision.probabilities(_answered(part, predicted[name])))
        for name, part in parts.items()
    }


def _answered(part: Part, values: Array) -> Array:
    """The values of rows without a NaN among their inputs."""
    return np.asarray(values[part.finite_rows()])


def detail(
    model: nn.Module,
    prepared: Prepared,
    part: Part,
    predicted: Array,
    predict: Callable[[nn.Module, Part, Prepared], Array],
    seed: int,
) -> Json:
    """The blocks of the part that the model is judged on: ``classification`` or ``residuals``, and
    ``importance``. ``predicted``: what is told for the part, by ``predict``."""
    told = _answered(part, predicted)
    actual = _answered(part, part.y_raw)
    blocks: Json = {
        "importance": importance(model, prepared, part, lambda p: predict(model, p, prepared), seed)
    }
    if prepared.task == "regression" and prepared.output_names is None:
        blocks["residuals"] = residual_details(actual, told)
    elif (classes := prepared.classes) is not None:
        blocks["classification"] = classification_details(actual, told, prepared.decision, classes, seed)
    return blocks
