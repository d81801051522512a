"""Gradients or losses that grow out of all proportion."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradkeel.contract.states import Family, Severity
from gradkeel_worker.diagnosis import remedies
from gradkeel_worker.diagnosis.case import Case
from gradkeel_worker.diagnosis.course import DEPTH_RATIO, EARLY_STEPS, Explosion
from gradkeel_worker.diagnosis.finding import Finding, Remedy
from gradkeel_worker.diagnosis.words import finite, number, times

Json = dict[str, Any]

_CAUSES = {
    "inputs": "inputs that were not scaled",
    "target": "a target that was not scaled",
    "init": "weights that start far too large",
    "outliers": "a few outlying rows that make up most of the gradient",
    "lr": "a learning rate above what the model and the data allow",
    "data_cell": "a cell of the data that is not a finite number",
    "domain": "an operation outside its domain",
    "precision": "numbers that do not fit into fp16",
}
_ALTERNATIVES = {
    "inputs": ("a learning rate too high for inputs of this size",),
    "target": ("a learning rate too high for errors of this size",),
    "outliers": ("a learning rate slightly too high", "a heavy-tailed target"),
    "init": ("a learning rate too high for weights of this size",),
    "lr": ("an initialisation that starts too large",),
}


def exploding_gradient(case: Case) -> list[Finding]:
    """The norm above 10 × its running median and growing; loss or norm × 100 within 10 steps; the loss's
    excess over
    the best constant doubling five times; a sudden jump to infinity; or norms that grow geometrically with
    depth.
    """
    explosion = case.explosion or _jump(case)
    if explosion is not None and case.cause not in ("data_cell", "domain", "precision"):
        return [_exploded(case, explosion)]
    return _with_depth(case)


def _jump(case: Case) -> Explosion | None:
    """A non-finite loss or gradient within the first steps that neither the data nor a domain explains."""
    bad = case.course.first_bad
    if bad is None or not 0 < bad <= EARLY_STEPS:
        return None
    return Explosion(bad, "to_infinity", float("inf"))


def _exploded(case: Case, explosion: Explosion) -> Finding:
    cause = case.cause or "lr"
    readings, at = case.evidence.readings, explosion.index
    return Finding(
        rule="exploding_gradient",
        family=Family.GRADIENT,
        severity=Severity.CRITICAL if case.lost or case.useless else Severity.WARNING,
        confidence=_confidence(case, explosion),
        explanation=_text(case, explosion, cause),
        remedy=_remedy(case, cause),
        evidence=_evidence(case, explosion, cause),
        where={
            "step": int(readings.steps[at]),
            "epoch": int(readings.epoch[at]),
            "layer": _largest_layer(case, at),
            "phase": "train",
        },
        also_consistent_with=_ALTERNATIVES.get(cause, ()),
    )


def _confidence(case: Case, explosion: Explosion) -> Any:
    if case.lost or explosion.sign.startswith("early"):
        return "high"
    return "medium"


def _largest_layer(case: Case, at: int) -> str | None:
    norms = case.evidence.readings.layer_norm
    if at >= len(norms) or not np.isfinite(norms[at]).any():
        return None
    return case.evidence.readings.layers[
        int(np.nanargmax(np.where(np.isfinite(norms[at]), norms[at], np.nan)))
    ]


def _evidence(case: Case, explosion: Explosion, cause: str) -> Json:
    course, readings = case.course, case.evidence.readings
    norms = course.norms[np.isfinite(course.norms)]
    found: Json = {
        "sign": explosion.sign,
        "most_likely_cause": cause,
        "growth": finite(explosion.factor),
        "first_loss": finite(float(readings.loss[0])),
        "first_norm": finite(float(readings.global_norm[0])),
        "largest_finite_loss": finite(float(course.losses.max())) if len(course.losses) else None,
        "largest_finite_norm": finite(float(norms.max())) if len(norms) else None,
        "loss_of_best_constant": finite(case.constant_loss),
        "lr": case.config.optimizer.lr,
        "series": "global_norm",
    }
    if case.stable_lr is not None:
        found["stability_limit_with_scaled_inputs"] = finite(case.stable_lr)
    if course.first_ratio is not None:
        found["first_update_ratio"] = finite(course.first_ratio)
    if case.feed is not None:
        found["predicted_inflation"] = finite(case.feed.inflation)
    return found


_SIGNS = {
    "early_loss": "the loss grew {factor} within the first {early} steps",
    "early_norm": "the gradient's norm grew {factor} within the first {early} steps",
    "running_median": "from step {step} on the gradient's norm stood {factor} above its median and grew",
    "doubling": "from step {step} on the loss's distance from the best constant doubled five times in a row",
    "to_infinity": "the run left the range of finite numbers at step {step}, after so few steps",
}


def _text(case: Case, explosion: Explosion, cause: str) -> str:
    step = int(case.evidence.readings.steps[explosion.index])
    factor = times(explosion.factor) if np.isfinite(explosion.factor) else ""
    seen = _SIGNS[explosion.sign].format(factor=factor, step=step, early=EARLY_STEPS)
    end = _ending(case)
    return f"The gradient exploded: {seen}. {end} Most likely cause: {_CAUSES[cause]}."


def _ending(case: Case) -> str:
    bad = case.course.first_bad
    if bad is not None:
        return f"At step {int(case.evidence.readings.steps[bad])} it was no longer a finite number."
    if case.lost:
        return "Training was lost."
    if case.useless:
        return "Training went on to the end, but its result is no better than a constant."
    return "Training recovered."


def _remedy(case: Case, cause: str) -> Remedy:
    if cause in ("inputs", "target"):
        return Remedy("Scale what is fed, and bound the gradient.", remedies.mend_scales(case))
    if cause == "init":
        return Remedy("Use he initialisation.", remedies.he(case))
    if cause == "outliers":
        patch = remedies.stabilise(case, remedies.winsorize(case))
        return Remedy("Limit the outlying values and bound the gradient.", patch)
    if case.lr_is_high or case.lost or case.course.first_bad is not None:
        lr = remedies.calmer_lr(case)
        return Remedy(f"Lower the learning rate to {number(lr)}.", remedies.set_lr(lr))
    limit = remedies.norm_percentile(case)
    patch = remedies.norm_clip(case, limit)
    return Remedy(
        f"Clip the gradient's norm at {number(limit)}, the 90th percentile before the onset.", patch
    )


# ----------------------------------------------------------------------------------- growth with depth


def _with_depth(case: Case) -> list[Finding]:
    """Size-normalised norms that grow by a factor of 2 or more a layer towards the input, 10⁴ in all."""
    growth = depth_growth(case)
    if growth is None or case.useless is False:
        return []
    total, step, layers = growth
    names = case.evidence.readings.layers
    patch = remedies.relu_and_he(case)
    return [
        Finding(
            rule="exploding_gradient",
            family=Family.GRADIENT,
            severity=Severity.CRITICAL if case.useless else Severity.WARNING,
            confidence="medium",
            explanation=(
                f"From the output towards the input the gradient grows by about {times(step)} a layer, "
                f"{times(total)} over "
                f"{layers} layers. Most likely cause: the initialisation or the depth of the net; no single "
                "learning rate "
                "fits all its layers."
            ),
            remedy=Remedy("Use he initialisation, and normalisation in a deep net.", patch),
            evidence={
                "sign": "depth",
                "most_likely_cause": "depth",
                "growth": total,
                "growth_per_layer": step,
            },
            where={"layer": names[0] if names else None, "phase": "train"},
            also_consistent_with=("inputs that were not scaled",),
        )
    ]


def depth_growth(case: Case) -> tuple[float, float, int] | None:
    """(first over last, median factor a layer, layers); None where norms do not grow so with depth."""
    norms = case.course.normalised_norms[: EARLY_STEPS * 3]
    inner = [i for i, name in enumerate(case.evidence.readings.layers) if not name.startswith("embeddings")]
    if not norms.size or len(inner) < 5:
        return None
    middle = np.median(norms[:, inner], axis=0)
    if not (np.isfinite(middle).all() and (middle > 0).all()):
        return None
    steps = middle[:-1] / middle[1:]
    total = float(middle[0] / middle[-1])
    if total < DEPTH_RATIO or float(np.median(steps)) < 2:
        return None
    return total, float(np.median(steps)), len(inner)
