"""Rules: readings and data in, findings out. One function a rule; RULES has the contract's keys."""

from __future__ import annotations

from collections.abc import Callable

from gradkeel_worker.diagnosis.case import Case
from gradkeel_worker.diagnosis.finding import Finding
from gradkeel_worker.diagnosis.rules.baseline import no_better_than_baseline
from gradkeel_worker.diagnosis.rules.bias import biased_predictions
from gradkeel_worker.diagnosis.rules.clipping import clipping_dominates
from gradkeel_worker.diagnosis.rules.exploding import exploding_gradient
from gradkeel_worker.diagnosis.rules.leak import leak_suspect
from gradkeel_worker.diagnosis.rules.learning_rate import lr_too_high, lr_too_low
from gradkeel_worker.diagnosis.rules.mismatch import gradient_mismatch
from gradkeel_worker.diagnosis.rules.noise import noisy_gradient
from gradkeel_worker.diagnosis.rules.non_finite import non_finite
from gradkeel_worker.diagnosis.rules.outliers import outliers
from gradkeel_worker.diagnosis.rules.overfit import overfit
from gradkeel_worker.diagnosis.rules.progress import loss_not_decreasing, oscillation, spike
from gradkeel_worker.diagnosis.rules.quality import data_quality
from gradkeel_worker.diagnosis.rules.scale import feature_scale, target_scale
from gradkeel_worker.diagnosis.rules.start import poor_initialisation
from gradkeel_worker.diagnosis.rules.units import dead_units, saturated_activation
from gradkeel_worker.diagnosis.rules.vanishing import vanishing_gradient

RULES: dict[str, Callable[[Case], list[Finding]]] = {
    "non_finite": non_finite,
    "exploding_gradient": exploding_gradient,
    "vanishing_gradient": vanishing_gradient,
    "dead_units": dead_units,
    "saturated_activation": saturated_activation,
    "clipping_dominates": clipping_dominates,
    "lr_too_high": lr_too_high,
    "lr_too_low": lr_too_low,
    "gradient_mismatch": gradient_mismatch,
    "poor_initialisation": poor_initialisation,
    "spike": spike,
    "noisy_gradient": noisy_gradient,
    "feature_scale": feature_scale,
    "target_scale": target_scale,
    "outliers": outliers,
    "leak_suspect": leak_suspect,
    "data_quality": data_quality,
    "no_better_than_baseline": no_better_than_baseline,
    "biased_predictions": biased_predictions,
    "overfit": overfit,
    "loss_not_decreasing": loss_not_decreasing,
    "oscillation": oscillation,
}
