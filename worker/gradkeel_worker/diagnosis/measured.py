"""What was measured on the model besides the readings. Plain numbers: rules need no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gradkeel_worker.diagnosis.evidence import Origin

Json = dict[str, Any]

AGREEMENT = 1e-5
"""Largest relative error of central differences in float64: they reach about 1e-9 on smooth code, a wrong
backward never does.
"""


@dataclass(frozen=True)
class Start:
    """The model at its initial weights, on ``rows`` training rows.

    ``curvature_…`` is the largest eigenvalue of the Gauss–Newton matrix of the loss (2/n·σ² of the Jacobian
    times the
    loss's own second derivative), ``gradient_…`` the norm of the whole gradient; as fed, with every numeric
    column
    standardised, with the target standardised, and with both.
    """

    rows: int
    weight_norm: float
    curvature_as_fed: float | None
    curvature_scaled_inputs: float | None
    gradient_as_fed: float | None
    gradient_scaled_inputs: float | None
    gradient_scaled_target: float | None
    gradient_scaled_both: float | None


@dataclass(frozen=True)
class OutlierShare:
    """Share of the outlying rows in Σ‖gᵢ‖, and of the rows; ``position`` is the row with the largest
    gradient, ``largest_share`` the share of the rows that lie far out in one and the same input.
    """

    share: float
    share_of_rows: float
    largest_share: float
    rows: int
    position: int
    column: int
    z: float
    in_target: float


@dataclass(frozen=True)
class CurvatureStudy:
    """What ``health.curvature`` found: the report's part, why something is missing, seconds it took."""

    report: Json | None = None
    notes: tuple[str, ...] = ()
    seconds: float | None = None

    @property
    def against_limit(self) -> dict[str, Json]:
        """The record of each place, start and end, whose learning rate can be held against a limit."""
        end = self.report or {}
        places = {"start": end.get("start") or {}, "end": end}
        return {name: one for name, one in places.items() if one.get("lr_over_limit") is not None}

    @property
    def above_limit(self) -> dict[str, Json]:
        """Of those, where steps were longer than settle there."""
        return {name: one for name, one in self.against_limit.items() if one["lr_over_limit"] > 1}


@dataclass(frozen=True)
class Measured:
    """None where something was not measured; ``notes`` say why. ``weight_norm``: of all weights as they
    started.
    """

    gradient_check: Json | None = None
    origin: Origin | None = None
    start: Start | None = None
    outliers: OutlierShare | None = None
    weight_norm: float | None = None
    initial_loss: float | None = None
    """Loss of the initial weights on a sample of training rows, in eval mode."""
    one_batch: Json | None = None
    """Whether the model fits a few rows: ``one_batch.fit_one_batch``. In the full tier, or where training
    went wrong."""
    notes: tuple[str, ...] = ()
