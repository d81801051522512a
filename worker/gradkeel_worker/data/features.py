"""Fitting the preparation of the feature columns, one column at a time, on training cells."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradkeel.contract.config import NumericScaler, Prepare, Standard
from gradkeel_worker.data import datetimes
from gradkeel_worker.data.categories import (
    ORDINAL,
    Encoding,
    filled_with_most_frequent,
    fit_encoding,
)
from gradkeel_worker.data.curves import CURVES
from gradkeel_worker.data.missing import fill_value
from gradkeel_worker.data.outliers import NO_LIMITS, fit_limits
from gradkeel_worker.data.preparation import CODE, VALUE, Preparation, Source, ValueInput, boolean_values
from gradkeel_worker.data.scalers import LOGARITHMS, Scaling, fit_scaler
from gradkeel_worker.data.table import BOOLEAN, CATEGORICAL, DATETIME, NUMERIC, Array, Floats, is_none

_LeftOut = dict[str, Any]


@dataclass(frozen=True)
class _FittedValue:
    input: ValueInput
    scaling: Scaling
    fill: float
    lower: float
    upper: float


@dataclass(frozen=True)
class _Fitted:
    """What one column became."""

    values: tuple[_FittedValue, ...] = ()
    encoding: Encoding | None = None
    indicator: bool = False


def fit_preparation(
    sources: Sequence[Source], cells: Mapping[str, Array], policy: Prepare, findings: list[dict[str, Any]]
) -> Preparation:
    """Fit every column. ``cells``: training cells by column, [n] each. Columns with nothing to tell are
    left out, with a finding."""
    used, fitted = [], []
    for source in sources:
        outcome = FITS[source.type](source, cells[source.name], policy)
        if isinstance(outcome, _Fitted):
            used.append(source)
            fitted.append(outcome)
        else:
            findings.append(outcome)
    return _assembled(used, fitted, policy)


def _assembled(sources: list[Source], fitted: list[_Fitted], policy: Prepare) -> Preparation:
    values = [value for column in fitted for value in column.values]
    numbers = {name: [getattr(value, name) for value in values] for name in ("fill", "lower", "upper")}
    numbers |= {name: [getattr(value.scaling, name) for value in values] for name in ("center", "scale")}
    arrays: dict[str, Any] = {name: np.array(column, dtype=np.float64) for name, column in numbers.items()}
    return Preparation(
        sources=tuple(sources),
        values=tuple(value.input for value in values),
        indicators=tuple(s.name for s, column in zip(sources, fitted, strict=True) if column.indicator),
        encodings=tuple(column.encoding for column in fitted if column.encoding is not None),
        missing=policy.missing.kind,
        curves=tuple(value.scaling.curve for value in values),
        **arrays,
    )


def _fit_numeric(source: Source, cells: Array, policy: Prepare) -> _Fitted | _LeftOut:
    observed = cells[np.isfinite(cells)]
    if nothing := _uninformative(source, observed, len(cells), policy):
        return nothing
    limits = fit_limits(policy.outliers, observed)
    value = _fit_value(source.name, source, VALUE, scaler_of(source.name, policy), observed, policy, limits)
    return _Fitted((value,), indicator=_indicated(policy, len(observed) < len(cells)))


def _fit_boolean(source: Source, cells: Array, policy: Prepare) -> _Fitted | _LeftOut:
    scaler = scaler_of(source.name, policy, besides=CURVES)
    numbers = boolean_values(cells)
    observed = numbers[~np.isnan(numbers)]
    if nothing := _uninformative(source, observed, len(cells), policy):
        return nothing
    value = _fit_value(source.name, source, VALUE, scaler, observed, policy)
    return _Fitted((value,), indicator=_indicated(policy, len(observed) < len(cells)))


def _fit_datetime(source: Source, cells: Array, policy: Prepare) -> _Fitted | _LeftOut:
    scaler = scaler_of(source.name, policy, besides={*LOGARITHMS, *CURVES})
    observed = cells[np.isfinite(cells)]
    parts = datetimes.varying(observed) if len(observed) else ()
    if not parts:
        return constant_or_empty(source.name, observed=len(observed) > 0)
    values = tuple(
        _fit_value(f"{source.name}.{part}", source, part, scaler, datetimes.part(observed, part), policy)
        for part in parts
    )
    return _Fitted(values, indicator=_indicated(policy, len(observed) < len(cells)))


def _fit_categorical(source: Source, cells: Array, policy: Prepare) -> _Fitted | _LeftOut:
    if is_none(cells).all():
        return constant_or_empty(source.name, observed=False)
    encoding = fit_encoding(policy.categorical, source.name, cells, source.missing_texts + source.markers)
    if policy.missing.kind == "most_frequent":
        encoding = filled_with_most_frequent(encoding, cells)
    codes = encoding.codes(cells)
    if len(np.unique(codes)) < 2:
        return _one_level(source, encoding, cells)
    if encoding.kind != ORDINAL:
        return _Fitted(encoding=encoding)
    value = _fit_value(source.name, source, CODE, Standard(), codes.astype(np.float64), policy)
    return _Fitted((value,), encoding)


FITS: dict[str, Callable[[Source, Array, Prepare], _Fitted | _LeftOut]] = {
    NUMERIC: _fit_numeric,
    BOOLEAN: _fit_boolean,
    DATETIME: _fit_datetime,
    CATEGORICAL: _fit_categorical,
}


def scaler_of(name: str, policy: Prepare, besides: Collection[str] = ()) -> NumericScaler:
    """The scaler of a column; standard in place of kinds that mean nothing for its type, such as the
    logarithm of a date or the quantiles of two values."""
    chosen = policy.per_column.get(name, policy.numeric)
    return Standard() if chosen.kind in besides else chosen


def _fit_value(
    name: str,
    source: Source,
    part: str,
    scaler: NumericScaler,
    observed: Floats,
    policy: Prepare,
    limits: tuple[float, float] = NO_LIMITS,
) -> _FittedValue:
    values = np.clip(observed, *limits)
    scaling = fit_scaler(scaler, values)
    item = ValueInput(name, source.name, part, scaler.kind)
    return _FittedValue(item, scaling, fill_value(policy.missing, values), *limits)


def _indicated(policy: Prepare, some_missing: bool) -> bool:
    return some_missing and getattr(policy.missing, "indicator", False)


def _uninformative(source: Source, observed: Floats, n: int, policy: Prepare) -> _LeftOut | None:
    """A finding where the training cells tell nothing; a constant beside missing cells still has an
    indicator."""
    if len(observed) == 0 or (np.ptp(observed) == 0 and not _indicated(policy, len(observed) < n)):
        return constant_or_empty(source.name, observed=len(observed) > 0)
    return None


def constant_or_empty(name: str, *, observed: bool) -> _LeftOut:
    """The finding for a column whose training cells are all alike, or all missing."""
    code = "constant_column" if observed else "empty_column"
    what = "has one value only" if observed else "is empty"
    detail = f"the column {what} in the training part and is left out"
    return {"code": code, "column": name, "count": 1, "detail": detail}


def _one_level(source: Source, encoding: Encoding, cells: Array) -> _LeftOut:
    if encoding.levels:
        return constant_or_empty(source.name, observed=True)
    detail = "no category is frequent enough in the training part to learn from; the column is left out"
    distinct = len(set(cells.tolist()))
    return {"code": "no_repeated_level", "column": source.name, "count": distinct, "detail": detail}
