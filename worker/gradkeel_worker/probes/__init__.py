"""Probes look at a step and change nothing. name → Probe; a tier has the probes of the tiers before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from gradkeel_worker.probes import activity, columns, direction, layers, noise, sharpness, spread, step
from gradkeel_worker.probes.work import Due, Work


@dataclass(frozen=True)
class Probe:
    """``look`` is called with the StepView at ``moment``: after backward and before clips ("measured"), or
    after the optimizer step ("stepped").

    ``shape``: at every step a "number" on the host, a "scalar" that may still lie on the device or one value
    per layer ("layers"); or whole "series" at some steps.
    """

    tier: Literal["economy", "standard", "full"]
    moment: Literal["measured", "stepped"]
    shape: Literal["number", "scalar", "layers", "series"]
    look: Callable[[Any], Any]
    needs: tuple[str, ...] = ()
    """Probes that have to be asked before it, at the same steps."""
    due: Callable[[Work], Due | None] = Work.regularly
    """Of series: at which steps, from the run's counted work; None where no call of it can be afforded."""


TIERS = ("economy", "standard", "full")

PROBES: dict[str, Probe] = {
    "loss": Probe("economy", "measured", "number", step.loss),
    "lr": Probe("economy", "measured", "number", step.lr),
    "global_norm": Probe("economy", "measured", "number", step.global_norm),
    "nonfinite": Probe("economy", "measured", "number", step.nonfinite),
    "layer_norm": Probe("standard", "measured", "layers", layers.layer_norm),
    "zero_fraction": Probe("standard", "measured", "series", activity.zero_fraction),
    "activation": Probe("standard", "measured", "series", activity.activation),
    "cosine": Probe("full", "measured", "scalar", direction.cosine),
    "gradient_noise": Probe("full", "measured", "series", noise.gradient_noise, due=noise.due),
    "gradient_histogram": Probe("full", "measured", "series", spread.gradient_histogram, due=spread.due),
    "weight_histogram": Probe("full", "measured", "series", spread.weight_histogram, due=spread.due),
    "input_gradient": Probe("full", "measured", "series", columns.input_gradient, due=columns.due),
    "lambda_max": Probe("full", "measured", "series", sharpness.lambda_max, due=sharpness.due_eigenvalue),
    "gauss_newton_lambda_max": Probe(
        "full", "measured", "series", sharpness.gauss_newton_lambda_max, due=sharpness.due_eigenvalue
    ),
    "preconditioned_lambda_max": Probe(
        "full", "measured", "series", sharpness.preconditioned_lambda_max, due=sharpness.due_preconditioned
    ),
    "hessian_trace": Probe("full", "measured", "series", sharpness.hessian_trace, due=sharpness.due_trace),
    "hessian_density": Probe(
        "full", "measured", "series", sharpness.hessian_density, due=sharpness.due_density
    ),
    "clipped_norm": Probe("economy", "stepped", "number", step.clipped_norm),
    "clip_coefficient": Probe("economy", "stepped", "number", step.clip_coefficient),
    "weight_norm": Probe("standard", "stepped", "layers", layers.weight_norm),
    "update_ratio": Probe("standard", "stepped", "layers", layers.update_ratio, needs=("weight_norm",)),
}


def of_tier(tier: str) -> tuple[str, ...]:
    """Names of the probes of a tier, in the table's order."""
    included = TIERS[: TIERS.index(tier) + 1]
    return tuple(name for name, probe in PROBES.items() if probe.tier in included)
