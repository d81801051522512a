"""Scalings that bend a column, with parameters fitted on training values by scikit-learn and kept as plain
arrays."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri
from sklearn.preprocessing import PowerTransformer, QuantileTransformer

from gradkeel_worker.data.table import Array, Floats

END_SHARE = 1e-7
"""Share of a normal distribution that stands for the smallest training value, as in scikit-learn: −5.2."""
_SAME_POWER = 1e-9
"""A power so near to 0 or 2 counts as that: a difference of nearly equal numbers would lose its digits."""
_RESOLVED = 1e-8
"""Bent values that lie within such a share of their size have lost what told them apart."""


@dataclass(frozen=True)
class YeoJohnson:
    """((1 + x)^λ − 1) / λ for x ≥ 0 and −((1 − x)^(2−λ) − 1) / (2 − λ) below, with logarithms in their
    limits λ = 0 and 2 (Yeo & Johnson 2000)."""

    power: float

    def __call__(self, values: Array) -> Floats:
        """The bent values, [n]."""
        with np.errstate(over="ignore"):
            above = _bent(np.maximum(values, 0.0), self.power)
            return np.asarray(above - _bent(np.maximum(-values, 0.0), 2 - self.power))

    def inverse(self, bent: Array) -> Floats:
        """The values again, [n]; infinite at and NaN beyond the end of a curve (−1/λ where λ < 0)."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            above = _straight(np.maximum(bent, 0.0), self.power)
            return np.asarray(above - _straight(np.maximum(-bent, 0.0), 2 - self.power))

    def arrays(self) -> dict[str, Floats]:
        """What was fitted, by name."""
        return {"power": np.array([self.power])}


@dataclass(frozen=True, eq=False)
class QuantileTable:
    """The share of training values below a value, by straight lines between the table's entries; ``normal``:
    then the number that has this share of a normal distribution below it.

    ``at`` [k]: distinct values, rising. ``below``, ``above`` [k]: the share just below and just above each.
    At an entry it is the mean of the two, at the ends 0 and 1.
    """

    at: Floats
    below: Floats
    above: Floats
    normal: bool

    def __call__(self, values: Array) -> Floats:
        """The shares or normal numbers, [n]."""
        last = len(self.at) - 1
        known = np.where(np.isnan(values), self.at[0], values)
        i = np.clip(np.searchsorted(self.at, known, side="right") - 1, 0, last)
        j = np.minimum(i + 1, last)
        width = np.where(j > i, self.at[j] - self.at[i], 1.0)
        passed = np.clip((known - self.at[i]) / width, 0.0, 1.0)
        share = self.above[i] + passed * (self.below[j] - self.above[i])
        share = np.where(known == self.at[i], (self.below[i] + self.above[i]) / 2, share)
        share = np.where(known <= self.at[0], 0.0, np.where(known >= self.at[last], 1.0, share))
        bent = ndtri(np.clip(share, END_SHARE, 1 - END_SHARE)) if self.normal else share
        return np.where(np.isnan(values), np.nan, bent)

    def arrays(self) -> dict[str, Floats]:
        """What was fitted, by name."""
        return {"at": self.at, "below": self.below, "above": self.above}


Curve = YeoJohnson | QuantileTable


def fit_power(block: Any, values: Floats) -> YeoJohnson:
    """The power that makes the values most normal by likelihood; 1, which changes nothing, where there is no
    such power or float64 cannot tell its results apart. ``values``: [n], not all alike."""
    with np.errstate(all="ignore"):
        curve = YeoJohnson(_likeliest(values))
        bent = curve(values)
        told_apart = np.ptp(bent) > _RESOLVED * np.abs(bent).max()
    return curve if np.isfinite(bent).all() and told_apart else YeoJohnson(1.0)


def _likeliest(values: Floats) -> float:
    power = float(PowerTransformer(standardize=False).fit(values[:, None]).lambdas_[0])
    near = next((end for end in (0.0, 2.0) if abs(power - end) < _SAME_POWER), power)
    return near if np.isfinite(near) else 1.0


def fit_quantiles(block: Any, values: Floats) -> QuantileTable:
    """A table of ``block.n`` quantiles at most. ``values``: [n], not all alike."""
    count = min(block.n, len(values))
    fitted = QuantileTransformer(n_quantiles=count, subsample=None).fit(values[:, None])
    quantiles = np.maximum.accumulate(fitted.quantiles_[:, 0])
    at, first, times = np.unique(quantiles, return_index=True, return_counts=True)
    shares = np.asarray(fitted.references_, dtype=np.float64)
    return QuantileTable(at, shares[first], shares[first + times - 1], block.output == "normal")


CURVES: dict[str, Callable[[Any, Floats], Curve]] = {"power": fit_power, "quantile": fit_quantiles}
"""Kind of scaler → function(its block, training values) → the fitted curve."""


def _bent(size: Array, power: float) -> Floats:
    logarithm = np.log1p(size)
    return np.asarray(logarithm if power == 0 else np.expm1(power * logarithm) / power)


def _straight(size: Array, power: float) -> Floats:
    return np.asarray(np.expm1(size if power == 0 else np.log1p(power * size) / power))
