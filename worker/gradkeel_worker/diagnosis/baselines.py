"""The two things every model is held against: the best constant, and a linear model with an L2 penalty.

Both are fitted on the training part's *prepared* features, standardised once more, so that a job without
scaling
still meets an honest opponent. Categories enter as one column per level.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge

from gradkeel_worker.data.storage import ROWS_AT_ONCE
from gradkeel_worker.diagnosis.sampling import sample

if TYPE_CHECKING:
    from gradkeel_worker.data import Part, Prepared

Array = np.ndarray[Any, Any]

MAX_LEVELS = 60
"""One-hot columns per category at most (the most frequent levels; rarer ones are all zero)."""
MAX_FITTED_ROWS = 20_000
"""Rows used to fit ridge; more would hardly move it and would cost seconds."""
MAX_LOGISTIC_ROWS = 6_000
"""The same for logistic regression, which is iterative."""
RIDGE_ALPHA = 1.0
LOGISTIC_C = 1.0


@dataclass(frozen=True)
class Baselines:
    """Predictions of the baselines for every row of a part, by name (constant, ridge).

    Regression: float64 [n], or [n, targets], in target units. Classes: probabilities float64 [n, classes].
    Quantiles: float64 [n, levels]; the constants are those of the training part, and ``ridge`` is moved by
    the quantiles of its own training residuals.
    ``constant_mae`` is the best constant for the absolute error (the median), regression only.
    """

    constant: Array
    ridge: Array
    constant_mae: Array | None = None


@dataclass(frozen=True)
class _Design:
    """Standardised features with categories one-hot, as fitted on the training part."""

    center: Array
    scale: Array
    levels: tuple[Array, ...]

    @classmethod
    def fit(cls, part: Part) -> _Design:
        center, scale = np.zeros(part.x.shape[1]), np.ones(part.x.shape[1])
        for j in range(part.x.shape[1] if len(part.x) else 0):
            column = _finite(part.x[:, j])
            center[j], scale[j] = column.mean(), column.std()
        levels = tuple(_frequent(part.c[:, k]) for k in range(part.c.shape[1]))
        return cls(center, np.where(scale > 0, scale, 1.0), levels)

    def __call__(self, part: Part, rows: Array | slice) -> Array:
        """Some rows of the features, float64 [n, width]."""
        blocks = [(_finite(part.x[rows]) - self.center) / self.scale]
        blocks += [
            (part.c[rows, k, None] == levels[None]).astype(np.float64) for k, levels in enumerate(self.levels)
        ]
        return np.hstack(blocks)

    def answers(self, part: Part, predict: Callable[[Array], Array]) -> Array:
        """What ``predict`` says of every row's features, which are made some rows at a time."""
        chunks = range(0, max(len(part.rows), 1), ROWS_AT_ONCE)
        return np.concatenate([predict(self(part, slice(start, start + ROWS_AT_ONCE))) for start in chunks])


def _finite(x: Array) -> Array:
    """float64 copy with NaN and infinities as 0: under ``propagate`` a baseline must still answer."""
    return np.nan_to_num(np.asarray(x, np.float64), nan=0.0, posinf=0.0, neginf=0.0)


def _frequent(codes: Array) -> Array:
    values, counts = np.unique(codes, return_counts=True)
    return values[np.argsort(-counts, kind="stable")[:MAX_LEVELS]]


def fit_baselines(prepared: Prepared, seed: int = 0) -> dict[str, Baselines]:
    """Fit both baselines on the training part; predictions for the validation and the test part by name.

    Cost: about 20 ms for 1,000 rows, a second for 50,000 × 50 with 7 classes.
    """
    design = _Design.fit(prepared.train)
    most = MAX_FITTED_ROWS if prepared.classes is None else MAX_LOGISTIC_ROWS
    rows = sample(len(prepared.train.rows), most, seed)
    x, y = design(prepared.train, rows), prepared.train.y_raw
    parts = {"validation": prepared.validation, "test": prepared.test}
    if prepared.levels:
        return _quantiles(x, y[rows], y, prepared.levels, design, parts)
    if prepared.classes is None:
        return _regression(x, y[rows], y, design, parts)
    return _classification(x, y[rows], y, len(prepared.classes), design, parts)


def _regression(
    x: Array, y: Array, every_y: Array, design: _Design, parts: dict[str, Part]
) -> dict[str, Baselines]:
    center, median = every_y.mean(axis=0), np.median(every_y, axis=0)
    predict = _fit_ridge(x, y, every_y)
    return {
        name: Baselines(
            constant=_repeated(center, len(part.rows)),
            ridge=design.answers(part, predict),
            constant_mae=_repeated(median, len(part.rows)),
        )
        for name, part in parts.items()
    }


def _fit_ridge(x: Array, y: Array, every_y: Array) -> Callable[[Array], Array]:
    """Ridge regression of y [n] or [n, targets]. Each target is scaled by its standard deviation, so that an
    exotic unit (1e-12, 1e12) costs no accuracy.
    """
    center, spread = every_y.mean(axis=0), np.asarray(every_y.std(axis=0))
    scale = np.where(spread == 0, 1.0, spread)
    ridge = Ridge(alpha=RIDGE_ALPHA).fit(x, (y - center) / scale)

    def predict(features: Array) -> Array:
        if not len(features):
            return _repeated(center, 0)
        return np.asarray(ridge.predict(features) * scale + center)

    return predict


def _repeated(row: Array, n: int) -> Array:
    """The same number, or numbers, in every row."""
    return np.tile(row, (n, *(1,) * np.ndim(row)))


def _quantiles(
    x: Array,
    y: Array,
    every_y: Array,
    levels: tuple[float, ...],
    design: _Design,
    parts: dict[str, Part],
) -> dict[str, Baselines]:
    """A line with parallel ones beside it: what quantiles are where the spread is the same everywhere."""
    line = _fit_ridge(x, y, every_y)
    shift, constant = np.quantile(y - line(x), levels), np.quantile(every_y, levels)
    return {
        name: Baselines(
            constant=_repeated(constant, len(part.rows)),
            ridge=design.answers(part, line)[:, None] + shift,
        )
        for name, part in parts.items()
    }


def _classification(
    x: Array, y: Array, every_y: Array, classes: int, design: _Design, parts: dict[str, Part]
) -> dict[str, Baselines]:
    prior = np.bincount(every_y, minlength=classes) / max(len(every_y), 1)
    linear = _fit_logistic(x, y) if len(np.unique(y)) > 1 else None

    def predict(features: Array) -> Array:
        return _probabilities(linear, features, classes, prior)

    return {
        name: Baselines(
            constant=np.tile(prior, (len(part.rows), 1)),
            ridge=design.answers(part, predict),
        )
        for name, part in parts.items()
    }


def _fit_logistic(x: Array, y: Array) -> LogisticRegression:
    with warnings.catch_warnings():
        # A baseline that has not fully converged after 200 iterations is good enough to be compared with.
        warnings.simplefilter("ignore")
        return LogisticRegression(C=LOGISTIC_C, max_iter=200).fit(x, y)


def _probabilities(linear: LogisticRegression | None, x: Array, classes: int, prior: Array) -> Array:
    """Probabilities [n, classes]; classes without a training row get 0."""
    if linear is None or len(x) == 0:
        return np.tile(prior, (len(x), 1))
    result = np.zeros((len(x), classes))
    result[:, linear.classes_] = linear.predict_proba(x)
    return result
