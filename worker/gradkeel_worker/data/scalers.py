"""Scaling of features and of the target: (x − center) / scale, after a logarithm or a fitted curve for some.

Every function takes the finite training values [n], n ≥ 1, as float64.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from gradkeel_worker.data.curves import CURVES, Curve, YeoJohnson, fit_power
from gradkeel_worker.data.table import Array, Floats

NORMAL_MAD = 1.4826
"""MAD of a normal distribution times this is its standard deviation."""
NORMAL_IQR = 1.349
"""IQR of a normal distribution divided by this is its standard deviation."""
DOMAIN_EDGE = -1.0
"""log1p takes values above this only."""
HEAVY_TAILS = 2.0
"""A target whose standard deviation is more than this many robust ones is heavy-tailed (normal: 1,
exponential: 1.4, Student t with 3 degrees of freedom: 1.5; 5 % of the values × 20: about 6)."""

_CenterScale = tuple[float, float]


def standard(values: Floats) -> _CenterScale:
    """Mean and standard deviation."""
    unit = _unit(values)
    small = values / unit
    return float(small.mean()) * unit, float(small.std()) * unit


def robust(values: Floats) -> _CenterScale:
    """Median and 1.4826 · MAD; where that is 0, IQR / 1.349; where that is 0, the standard deviation."""
    center = float(np.median(values))
    for scale in (_mad, _iqr):
        if (size := scale(values)) > 0:
            return center, size
    return center, standard(values)[1]


def minmax(values: Floats) -> _CenterScale:
    """Smallest value and range."""
    low = float(values.min())
    return low, float(values.max()) - low


def maxabs(values: Floats) -> _CenterScale:
    """0 and the largest size."""
    return 0.0, float(np.abs(values).max())


def unscaled(values: Floats) -> _CenterScale:
    """No scaling, or a logarithm or quantiles, whose results are used as they are."""
    return 0.0, 1.0


NUMERIC_SCALERS: dict[str, Callable[[Floats], _CenterScale]] = {
    "standard": standard,
    "robust": robust,
    "minmax": minmax,
    "maxabs": maxabs,
    "quantile": unscaled,
    "power": standard,
    "log1p": unscaled,
    "signed_log1p": unscaled,
    "none": unscaled,
}
"""Kind → function(values, bent where the kind has a curve) → center and scale."""


@dataclass(frozen=True)
class Scaling:
    """(curve(x) − center) / scale; without a curve, x itself or its logarithm is scaled."""

    center: float
    scale: float
    curve: Curve | None = None


def fit_scaler(block: Any, values: Floats) -> Scaling:
    """Fit the scaler of a config block; the scale of constant values is 1, and nothing bends them."""
    constant = np.ptp(values) == 0
    curve = CURVES[block.kind](block, values) if block.kind in CURVES and not constant else None
    bent = values if curve is None else curve(values)
    center, scale = NUMERIC_SCALERS[block.kind](bent)
    # Rounding alone gives the deviation of equal values a size, and everything else would blow up by it.
    return Scaling(center, scale if not constant and 0 < scale < np.inf else 1.0, curve)


def log1p(values: Array) -> Array:
    """log(1 + x); NaN where x < −1."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.log1p(values)


def signed_log1p(values: Array) -> Array:
    """sign(x) · log(1 + |x|)."""
    return np.sign(values) * np.log1p(np.abs(values))


LOGARITHMS: dict[str, Callable[[Array], Array]] = {"log1p": log1p, "signed_log1p": signed_log1p}
"""Scalers that are a function of the cell alone."""


def _unit(values: Floats) -> float:
    """1, or the largest size where squares would overflow or vanish."""
    largest = float(np.abs(values).max())
    return largest if largest > 1e100 or 0 < largest < 1e-100 else 1.0


def _mad(values: Floats) -> float:
    return NORMAL_MAD * float(np.median(np.abs(values - np.median(values))))


def _iqr(values: Floats) -> float:
    low, high = np.quantile(values, [0.25, 0.75])
    return float(high - low) / NORMAL_IQR


@dataclass(frozen=True)
class TargetTransform:
    """How targets become what the model predicts, and back. ``kind``: standard, robust, log1p, power or none.

    ``link`` "log": outputs are logarithms of scaled targets (kind none, for the poisson loss).
    ``power``, ``lower``, ``upper`` are of kind power. Its curve may have an end, beyond which no target lies:
    outputs are limited to what belongs to targets one range of the training targets beyond them.
    """

    kind: str
    center: float = 0.0
    scale: float = 1.0
    power: float = 1.0
    lower: float = -np.inf
    upper: float = np.inf
    link: Literal["identity", "log"] = "identity"

    def forward(self, y: Array) -> Floats:
        """Target units to the model's."""
        values = np.asarray(y, dtype=np.float64)
        if self.kind == "log1p":
            return log1p(values)
        bent = YeoJohnson(self.power)(values) if self.kind == "power" else values
        return (bent - self.center) / self.scale

    def inverse(self, z: Array) -> Floats:
        """The model's units to target units, in float64."""
        values = np.asarray(z, dtype=np.float64)
        if self.kind == "log1p":
            return np.expm1(values)
        straight = (np.exp(values) if self.link == "log" else values) * self.scale + self.center
        if self.kind != "power":
            return straight
        return YeoJohnson(self.power).inverse(np.clip(straight, self.lower, self.upper))

    def arrays(self) -> dict[str, Array]:
        """What was fitted, by name."""
        names = ("center", "scale", *(("power", "lower", "upper") if self.kind == "power" else ()))
        return {name: np.array([getattr(self, name)]) for name in names}


@dataclass(frozen=True)
class TargetTransforms:
    """Several targets, each scaled on its own: the columns of y [n, targets] and of z the same."""

    each: tuple[TargetTransform, ...]

    @property
    def kind(self) -> str:
        """That of all of them; "auto" where the targets' tails decided differently."""
        kinds = {transform.kind for transform in self.each}
        return kinds.pop() if len(kinds) == 1 else "auto"

    @property
    def link(self) -> str:
        return self.each[0].link

    def forward(self, y: Array) -> Floats:
        """Target units to the model's, [n, targets]."""
        return np.stack([one.forward(y[:, i]) for i, one in enumerate(self.each)], axis=1)

    def inverse(self, z: Array) -> Floats:
        """The model's units to target units, [n, targets], in float64."""
        return np.stack([one.inverse(z[:, i]) for i, one in enumerate(self.each)], axis=1)

    def arrays(self) -> dict[str, Array]:
        """What was fitted, by the target's place and name."""
        return {f"{i}.{name}": a for i, one in enumerate(self.each) for name, a in one.arrays().items()}


TARGET_SCALERS: dict[str, Callable[[Floats], _CenterScale]] = {
    "standard": standard,
    "robust": robust,
    "power": standard,
    "log1p": unscaled,
    "none": unscaled,
}


def fit_target(kind: str, values: Floats) -> TargetTransform:
    """Fit on training targets; kind "auto" decides between robust and standard here."""
    chosen = _by_tails(values) if kind == "auto" else kind
    if chosen == "power":
        return _fit_power_target(values)
    center, scale = TARGET_SCALERS[chosen](values)
    return TargetTransform(chosen, center, scale if scale > 0 and np.isfinite(scale) else 1.0)


def fit_rate(values: Floats) -> TargetTransform:
    """For the poisson loss: targets of 0 or more, divided by their mean; outputs are logarithms of those."""
    return TargetTransform("none", scale=float(values.mean()), link="log")


def _fit_power_target(values: Floats) -> TargetTransform:
    curve = fit_power(None, values) if np.ptp(values) > 0 else YeoJohnson(1.0)
    center, scale = TARGET_SCALERS["power"](curve(values))
    reach = float(np.ptp(values))
    low, high = curve(np.array([values.min() - reach, values.max() + reach]))
    return TargetTransform(
        "power",
        center,
        scale if 0 < scale < np.inf else 1.0,
        curve.power,
        lower=float(low) if curve.power > 2 else -np.inf,
        upper=float(high) if curve.power < 0 else np.inf,
    )


AUTO_REASONS = {
    "robust": f"auto: the training targets' standard deviation is over {HEAVY_TAILS:g} robust ones",
    "standard": f"auto: the training targets' standard deviation is within {HEAVY_TAILS:g} robust ones",
    "none": "auto: the loss takes the target in its own unit, or as classes",
    "auto": "auto: each of the targets as its own tails ask for, and those differ",
}


def _by_tails(values: Floats) -> str:
    heavy = standard(values)[1] > HEAVY_TAILS * robust(values)[1]
    return "robust" if heavy else "standard"
