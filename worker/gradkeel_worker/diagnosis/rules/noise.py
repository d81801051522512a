"""Gradients whose noise is far larger than what a batch averages out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gradkeel.contract.states import Family, Severity
from gradkeel_worker.diagnosis import remedies
from gradkeel_worker.diagnosis.case import Case
from gradkeel_worker.diagnosis.finding import Finding, Remedy
from gradkeel_worker.diagnosis.words import finite, number, plural, times

Array = np.ndarray[Any, Any]

NOISY = 10.0
"""Noise scale over batch size."""
_FEWEST, _FEWEST_ANGLES = 3, 50
_SERIES, _PARTS = "noise_scale", "gradient_noise"


@dataclass(frozen=True)
class Noise:
    """Gradient noise scale (infinite where there was noise and no signal), of how many checks, and how many
    of those saw no signal. ``series``: what it was taken from.
    """

    scale: float
    checks: int
    unseen: int
    series: str


def noisy_gradient(case: Case) -> list[Finding]:
    """Gradient noise scale above 10 × the batch size, by its median after warm-up, or for batches that cannot
    be cut by the angles between successive gradients; full tier, info only.
    """
    batch, noise = case.config.budget.batch_size, _by_parts(case) or _by_angles(case)
    if noise is None or noise.scale <= NOISY * batch:
        return []
    return [
        Finding(
            rule="noisy_gradient",
            family=Family.GRADIENT,
            severity=Severity.INFO,
            confidence="medium" if noise.checks >= 2 * _FEWEST else "low",
            explanation=(
                f"{_seen(noise, batch)} Single steps then point mostly at random, and progress comes from "
                "averaging many of them. That is usual near the end of a fit and no fault by itself."
            ),
            remedy=Remedy("Larger batches, if steps should be less random.", remedies.larger_batch(case)),
            evidence={
                "noise_scale": finite(noise.scale),
                "batch_size": batch,
                "noise_over_batch": finite(noise.scale / batch),
                "threshold": NOISY,
                "checks": noise.checks,
                "checks_without_a_signal": noise.unseen,
                "series": noise.series,
            },
            where={"phase": "train"},
            also_consistent_with=(
                "a run that has converged, where the gradient itself goes to 0",
                "columns that say little about the target",
            ),
        )
    ]


def _seen(noise: Noise, batch: int) -> str:
    rows = plural(batch, "row")
    if np.isinf(noise.scale):
        return f"In {plural(noise.checks, 'check')} the gradient of {rows} could not be told from its noise."
    bound = " or more" if noise.series == "cosine" else ""
    return (
        "The gradient noise scale, the batch size at which noise and signal of a step are alike, was "
        f"{number(noise.scale)}{bound} in {plural(noise.checks, 'check')}: {times(noise.scale / batch)} the "
        f"{rows} of a batch."
    )


def _by_parts(case: Case) -> Noise | None:
    """The median of the measured noise scales."""
    sparse = case.evidence.readings.sparse
    if _SERIES not in sparse:
        return None
    steps, values, _ = sparse[_SERIES]
    scales = np.asarray(values, np.float64)[:, 0]
    if _PARTS in sparse:
        _, parts, names = sparse[_PARTS]
        scales = np.where(np.isnan(scales) & (parts[:, names.index("trace")] > 0), np.inf, scales)
    late = scales[np.asarray(steps) >= case.config.schedule.warmup_steps]
    late = late[late > 0]
    if len(late) < _FEWEST:
        return None
    return Noise(float(np.median(late)), len(late), int(np.isinf(late).sum()), _SERIES)


def _by_angles(case: Case) -> Noise | None:
    """From the mean cosine c between successive gradients of b rows: their product is |G|² on average, their
    squared length |G|² + tr Σ / b, so that the noise scale is b (1 / c − 1). Two standard errors are added to
    c, which makes it a lower bound; where c itself lies below one, the signal was not seen.
    """
    cosines = case.evidence.readings.cosine[case.course.settled : case.course.sound]
    cosines = cosines[np.isfinite(cosines)]
    if len(cosines) < _FEWEST_ANGLES:
        return None
    mean, error = float(cosines.mean()), float(cosines.std() / np.sqrt(len(cosines)))
    scale = case.config.budget.batch_size * (1 / max(mean + 2 * error, 1e-300) - 1)
    unseen = mean + 2 * error < 1 / (1 + NOISY) and mean < error
    return Noise(float("inf") if unseen else max(scale, 0.0), len(cosines), 0, "cosine")
