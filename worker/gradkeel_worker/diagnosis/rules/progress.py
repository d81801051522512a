"""A loss that does not go down, swings to and fro, or leaps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradkeel.contract import config as contract
from gradkeel.contract.patch import set_value
from gradkeel.contract.states import Family, Severity
from gradkeel_worker.diagnosis import remedies
from gradkeel_worker.diagnosis.case import Case
from gradkeel_worker.diagnosis.finding import Finding, Remedy
from gradkeel_worker.diagnosis.rules.clipping import clipping_dominates
from gradkeel_worker.diagnosis.rules.learning_rate import lr_too_high, lr_too_low
from gradkeel_worker.diagnosis.rules.mismatch import gradient_mismatch
from gradkeel_worker.diagnosis.rules.start import poor_initialisation
from gradkeel_worker.diagnosis.rules.units import dead_units, saturated_activation
from gradkeel_worker.diagnosis.rules.vanishing import vanishing_gradient
from gradkeel_worker.diagnosis.swings import Fall, Spike, fall_of, spikes_of, swings_of
from gradkeel_worker.diagnosis.words import number, plural

Array = np.ndarray[Any, Any]

_FEWEST_STEPS = 20

# ------------------------------------------------------------------------------------- no way down

_HELD_BY: dict[Callable[[Case], list[Finding]], str] = {
    gradient_mismatch: "a gradient that is computed wrongly",
    poor_initialisation: "the initialisation",
    clipping_dominates: "a clip that leaves little of each step",
    vanishing_gradient: "a gradient that hardly reaches the first layer",
    saturated_activation: "units at the flat ends of their activation",
    dead_units: "units that put out 0 on every row",
    lr_too_high: "steps that are too large",
    lr_too_low: "steps that are too small",
}
"""Rules whose finding says why a loss does not go down, causes before effects."""


def loss_not_decreasing(case: Case) -> list[Finding]:
    """The training loss of the last quarter not below that of the first steps by more than its noise, in a
    run that did not get below the best constant.
    """
    if case.course.sound < _FEWEST_STEPS or case.blown_up or case.learnt or case.useless is False:
        return []
    fall = fall_of(case.course.losses)
    if fall.beyond_noise:
        return []
    held = next((f for rule in _HELD_BY for f in rule(case) if f.severity is not Severity.INFO), None)
    return [
        Finding(
            rule="loss_not_decreasing",
            family=Family.FIT,
            severity=Severity.WARNING,
            confidence="high" if fall.last > fall.first else "medium",
            explanation=_flat_text(case, fall, held),
            remedy=_flat_remedy(case, held),
            evidence={
                "first_loss": fall.first,
                "last_loss": fall.last,
                "standard_error": fall.error,
                "loss_of_best_constant": case.constant_loss,
                "held_by": held.rule if held is not None else None,
                "steps": case.course.sound,
                "series": "loss",
            },
            where={"phase": "train"},
            also_consistent_with=(
                "columns that say nothing about the target",
                "a run too short to tell progress from noise",
            ),
        )
    ]


def _flat_text(case: Case, fall: Fall, held: Finding | None) -> str:
    words = {rule.__name__: text for rule, text in _HELD_BY.items()}
    cause = words[held.rule] if held is not None else _unheld(case)
    return (
        f"The training loss did not go down: {number(fall.first)} in the first steps, {number(fall.last)} in "
        f"the last quarter of {plural(case.course.sound, 'step')}, where its noise alone makes differences "
        f"of about {number(2 * fall.error)}. Most likely cause: {cause}."
    )


def _unheld(case: Case) -> str:
    if case.linear_finds_more:
        return "the training, since a linear model on the same columns does clearly better"
    return "columns that say little about the target, since a linear model finds hardly more"


def _flat_remedy(case: Case, held: Finding | None) -> Remedy:
    if held is not None:
        return held.remedy
    if case.linear_finds_more:
        return Remedy("Train longer, with AdamW.", remedies.train_longer(case))
    return Remedy("Look at the data first; a linear model is enough for that.", remedies.linear_model(case))


# ------------------------------------------------------------------------------------ to and fro

_SWING = 0.1
"""Size of a swing that counts, over the loss of the best constant."""
_FEWEST_EPOCHS, _FEWEST_SWINGS = 12, 4
_WIDE = 0.25
_HEAVY = 0.95


def oscillation(case: Case) -> list[Finding]:
    """In the second half of the run, the validation loss swings to and fro four times or more, by a tenth of
    the best constant's loss or more each time.
    """
    part, values = _by_epoch(case)
    late = values[len(values) // 2 :]
    if len(values) < _FEWEST_EPOCHS or case.lost or case.course.explosion is not None:
        return []
    least = _SWING * (case.constant_loss or float(np.median(np.abs(values))))
    swings = swings_of(late, least) if least > 0 else np.zeros(0)
    if len(swings) < _FEWEST_SWINGS:
        return []
    return [_oscillates(case, part, swings, least)]


def _by_epoch(case: Case) -> tuple[str, Array]:
    """The loss after each epoch: on the validation rows, which stay the same, else on the training rows."""
    for part in ("validation", "train"):
        values = [one.get(f"{part}_loss") for one in case.evidence.readings.epochs]
        if values and all(value is not None and np.isfinite(value) for value in values):
            return part, np.array(values, np.float64)
    return "train", np.zeros(0)


def _oscillates(case: Case, part: str, swings: Array, least: float) -> Finding:
    size = float(np.median(swings)) / (least / _SWING)
    training = _training_swings(case, least)
    return Finding(
        rule="oscillation",
        family=Family.FIT,
        severity=Severity.WARNING if size > _WIDE and training else Severity.INFO,
        confidence="medium" if training else "low",
        explanation=(
            f"The {'validation' if part == 'validation' else 'training'} loss swings to and fro: "
            f"{plural(len(swings), 'swing')} in the second half of the run, by {number(size)} of the best "
            f"constant's loss each (median). {_swing_cause(case, training)}"
        ),
        remedy=_swing_remedy(case),
        evidence={
            "swings": len(swings),
            "training_loss_swings": training,
            "median_swing": float(np.median(swings)),
            "median_swing_over_constant": size,
            "threshold": _SWING,
            "lr": case.config.optimizer.lr,
            "median_update_ratio": case.typical_ratio,
            "series": "learning_curve",
        },
        where={"phase": "train"},
        also_consistent_with=(
            "steps that are too large" if _heavy(case) else "momentum that carries the weights too far",
            "batches too small to agree on a direction",
        ),
    )


def _heavy(case: Case) -> bool:
    """Whether momentum keeps more than 95 % of the last step."""
    optimizer = case.config.optimizer
    return isinstance(optimizer, contract.SGD) and optimizer.momentum > _HEAVY


def _swing_remedy(case: Case) -> Remedy:
    if _heavy(case):
        return Remedy("Lower the momentum to 0.9.", set_value(("optimizer", "momentum"), 0.9))
    lr = remedies.calmer_lr(case)
    return Remedy(f"Lower the learning rate to {number(lr)}.", remedies.set_lr(lr))


def _training_swings(case: Case, least: float) -> int:
    values = [one.get("train_loss") for one in case.evidence.readings.epochs]
    known = np.array([value for value in values if value is not None and np.isfinite(value)])
    return len(swings_of(known[len(known) // 2 :], least))


def _swing_cause(case: Case, training: int) -> str:
    if _heavy(case):
        return (
            f"Most likely cause: a momentum of {number(case.config.optimizer.momentum)}, which carries the "  # type: ignore[union-attr]
            "weights beyond the lowest point again and again."
        )
    if training:
        return "The training loss does too. Most likely cause: steps that are too large for this point."
    rows = len(case.evidence.prepared.validation.rows) if case.evidence.prepared is not None else 0
    return (
        "The mean training loss of the epochs does not: the weights move about a point that fits the "
        "training rows. Most likely cause: steps that are a little too large, seen by "
        f"{plural(rows, 'validation row')}."
    )


# ---------------------------------------------------------------------------------------- leaps

SPIKE = 6.0
_LEAP = 0.1
"""What a spike has to rise by at least, over the loss of the best constant."""
_LASTING = 4


def spike(case: Case) -> list[Finding]:
    """A loss more than 6 standard deviations above the mean of the 128 steps before it, and by a tenth of the
    best constant's loss or more. A warning where the loss stayed up and the leap was larger than that loss.
    """
    end = case.explosion.index if case.explosion is not None else case.course.sound
    losses = case.course.losses[:end]
    if len(losses) < _FEWEST_STEPS:
        return []
    unit = case.constant_loss or float(np.median(np.abs(losses)))
    found = spikes_of(losses, SPIKE, _LEAP * unit)
    return [_leapt(case, found, unit)] if found else []


def _leapt(case: Case, found: list[Spike], unit: float) -> Finding:
    worst = max(found, key=lambda one: (one.lasted >= _LASTING, one.value - one.mean))
    lasting = worst.lasted >= _LASTING
    readings, harmful = case.evidence.readings, lasting and worst.value - worst.mean > unit
    return Finding(
        rule="spike",
        family=Family.GRADIENT,
        severity=Severity.WARNING if harmful else Severity.INFO,
        confidence="medium" if lasting else "low",
        explanation=(
            f"At step {int(readings.steps[worst.index])} the loss leapt to {number(worst.value)}, "
            f"{number(worst.z)} standard deviations above the mean of the steps before it "
            f"({number(worst.mean)}); it took {plural(worst.lasted, 'step')} to come down. "
            f"{_more(found)}Most likely cause: {_leap_cause(case, lasting)}."
        ),
        remedy=_leap_remedy(case, lasting),
        evidence={
            "spikes": len(found),
            "z": worst.z if np.isfinite(worst.z) else None,
            "threshold": SPIKE,
            "loss": worst.value,
            "mean_before": worst.mean,
            "steps_until_down": worst.lasted,
            "series": "loss_z",
        },
        where={
            "step": int(readings.steps[worst.index]),
            "epoch": int(readings.epoch[worst.index]),
            "phase": "train",
        },
        also_consistent_with=("rows with wrong targets in one batch",)
        if lasting
        else ("a step that was too large and came right at once",),
    )


def _more(found: list[Spike]) -> str:
    return f"There were {len(found)} such leaps. " if len(found) > 1 else ""


def _leap_cause(case: Case, lasting: bool) -> str:
    if lasting:
        return "a step that was too large and threw the weights off: the loss of later batches was high too"
    if case.measured.outliers is not None:
        return "outlying rows in that batch: the next batch was as usual"
    return "rows in that batch that the model is far off on: the next batch was as usual"


def _leap_remedy(case: Case, lasting: bool) -> Remedy:
    if lasting and remedies.has_norm_clip(case):
        lr = remedies.calmer_lr(case)
        return Remedy(f"Lower the learning rate to {number(lr)}.", remedies.set_lr(lr))
    if not lasting and isinstance(case.config.loss, contract.MSE):
        return Remedy("Use the Huber loss: a far-off row then pulls no harder than a near one.", _huber(case))
    if remedies.has_norm_clip(case):
        return Remedy("Nothing has to be changed: a clip limits what such a batch can do.", {})
    limit = remedies.norm_percentile(case)
    return Remedy(f"Clip the gradient's norm at {number(limit)}.", remedies.norm_clip(case, limit))


def _huber(case: Case) -> dict[str, Any]:
    return {} if case.evidence.custom_loss else remedies.huber(case)
