"""The columns and the target as the model is fed them: how large, how uneven, how far out their outliers
lie.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from gradkeel_worker.data import Prepared

Array = np.ndarray[Any, Any]
_SAMPLE = 50_000
"""Rows that statistics of the whole are taken from at most; outliers are looked for in every row."""

FAR_OUT = 8.0
"""Robust z beyond which a value is an outlier."""

FEW_ROWS = 0.25
"""Share of the rows beyond which they are no outliers but a part of the data."""

STRETCHED = 3.0
"""Standard deviation over the robust one beyond which outliers set it; 5 % of the values × 20 make it 6."""


@dataclass(frozen=True)
class ColumnFeed:
    """One input column as fed. ``rms`` is about zero: it is the factor on this column's first-layer
    gradient. ``core_rms`` is that of its values that are not outliers.
    """

    name: str
    source: str
    rms: float
    mean: float
    std: float
    rms_over_median: float
    core_rms: float


@dataclass(frozen=True)
class TargetFeed:
    """A numeric target as fed, in prepared units: of several the one whose scale is most amiss.
    ``stretched``: a few outliers set its standard deviation.
    """

    name: str
    mean: float
    std: float
    rms: float
    skew: float
    heavy: bool
    stretched: bool


@dataclass(frozen=True)
class Feed:
    """Numeric columns as fed; indicators and one-hot columns are never larger than 1 and are left out."""

    columns: tuple[ColumnFeed, ...]
    target: TargetFeed | None

    @property
    def inflation(self) -> float:
        """Factor on the first layer's gradient beside standardised inputs: the root mean square over
        columns.
        """
        return _root_mean_square([c.rms for c in self.columns])

    @property
    def core_inflation(self) -> float:
        """The same without the outliers of each column."""
        return _root_mean_square([c.core_rms for c in self.columns])

    @property
    def scale_ratio(self) -> float | None:
        """Largest over smallest RMS of a column that is not all zero."""
        sizes = [c.rms for c in self.columns if c.rms > 0]
        return max(sizes) / min(sizes) if sizes else None


def _root_mean_square(sizes: list[float]) -> float:
    return float(np.sqrt(np.mean(np.square(sizes)))) if sizes else 1.0


def feed_of(prepared: Prepared) -> Feed:
    """Statistics of the training part. Non-finite values are skipped."""
    part = prepared.train
    rows = np.linspace(0, len(part.rows) - 1, min(_SAMPLE, len(part.rows))).astype(np.int64)
    numeric = [(j, one) for j, one in enumerate(prepared.inputs) if one.role in ("value", "datetime")]
    stats = [(one, *moments(part.x[rows, j]), _core_rms(part.x[rows, j])) for j, one in numeric]
    sizes = [rms for _, _, _, rms, _ in stats if rms > 0]
    median = float(np.median(sizes)) if sizes else 1.0
    columns = tuple(
        ColumnFeed(one.name, one.source, rms, mean, std, rms / median if median > 0 else 1.0, core)
        for one, mean, std, rms, core in stats
    )
    return Feed(columns, _worst_target(prepared) if prepared.classes is None else None)


def moments(values: Array) -> tuple[float, float, float]:
    """Mean, standard deviation and RMS of the finite values, computed at a safe scale."""
    finite = np.asarray(values[np.isfinite(values)], np.float64)
    if not len(finite):
        return 0.0, 0.0, 0.0
    return float(finite.mean()), float(finite.std()), float(np.sqrt(np.mean(finite**2)))


def _core_rms(values: Array) -> float:
    """RMS of the values within FAR_OUT robust standard deviations of the median."""
    return moments(values[np.abs(robust_z(values)) <= FAR_OUT])[2]


def _center_and_scale(finite: Array) -> tuple[float, float]:
    """Median and 1.4826 · MAD, with IQR / 1.349, then the standard deviation, where those are 0."""
    center = float(np.median(finite))
    low, high = np.quantile(finite, [0.25, 0.75])
    scales = (1.4826 * np.median(np.abs(finite - center)), (high - low) / 1.349, finite.std())
    return center, float(next((s for s in scales if s > 0), np.inf))


def robust_z(values: Array) -> Array:
    """(x − median) / (1.4826 · MAD) with IQR / 1.349, then the standard deviation, where those are 0; NaN as
    0.
    """
    x = np.asarray(values, np.float64)
    finite = x[np.isfinite(x)]
    if not len(finite):
        return np.zeros(len(x))
    center, scale = _center_and_scale(finite)
    return np.asarray(np.nan_to_num((x - center) / scale, nan=0.0, posinf=0.0, neginf=0.0))


def _worst_target(prepared: Prepared) -> TargetFeed:
    """A stretched target before any other, then the one furthest from a size of 1."""
    unit = 1.0 if prepared.reference is None else prepared.reference.spread
    y = prepared.aims().reshape(len(prepared.train.rows), -1) / unit
    each = [_target_feed(name, y[:, i]) for i, name in enumerate(prepared.config.targets)]
    return max(
        each, key=lambda target: (target.stretched, abs(np.log(target.rms)) if target.rms > 0 else 0.0)
    )


def _target_feed(name: str, values: Array) -> TargetFeed:
    mean, std, rms = moments(values)
    y = np.asarray(values[np.isfinite(values)], np.float64)
    skew = float(np.mean(((y - mean) / std) ** 3)) if std > 0 else 0.0
    far = float(np.mean(np.abs(robust_z(y)) > FAR_OUT)) if len(y) else 0.0
    stretched = 0 < far <= FEW_ROWS and std > STRETCHED * _center_and_scale(y)[1]
    return TargetFeed(name, mean, std, rms, skew, heavy=far > 0, stretched=stretched)


@dataclass(frozen=True)
class OutlyingRows:
    """Rows of the training part with a value far out: positions, the largest |robust z| and where it is.

    ``column[i]`` is the input's position, −1 for the target, −2 and so on for further ones.
    """

    positions: Array
    z: Array
    column: Array


def outlying_rows(prepared: Prepared) -> OutlyingRows:
    """Rows whose value in a numeric column, or in a numeric target, has |robust z| > FAR_OUT."""
    part = prepared.train
    worst = np.zeros(len(part.rows))
    where = np.full(len(part.rows), -1, np.int64)
    columns = [(j, part.x[:, j]) for j, one in enumerate(prepared.inputs) if one.role == "value"]
    if prepared.classes is None:
        targets = prepared.aims().reshape(len(part.rows), -1)
        columns += [(-1 - k, targets[:, k]) for k in range(targets.shape[1])]
    for j, values in columns:
        z = np.abs(robust_z(values))
        where = np.where(z > worst, j, where)
        worst = np.maximum(worst, z)
    positions = np.flatnonzero(worst > FAR_OUT)
    return OutlyingRows(positions, worst[positions], where[positions])
