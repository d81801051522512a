"""Fitting the preparation of the feature columns, one column at a time, on training cells."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradkeel.contract.config import Prepare
from gradkeel_worker.data import datetimes
from gradkeel_worker.data.categories import (
    ORDINAL,
    Encoding,
    filled_with_most_frequent,
    fit_encoding,
)
from gradkeel_worker.data.missing import fill_value
from gradkeel_worker.data.outliers import NO_LIMITS, fit_limits
from gradkeel_worker.data.preparation import CODE, VALUE, Preparation, Source, ValueInput, boolean_values
from gradkeel_worker.data.scalers import LOGARITHMS, fit_scaler
from gradkeel_worker.data.table import BOOLEAN, CATEGORICAL, DATETIME, NUMERIC, Array, Floats, is_none

_LeftOut = dict[str, Any]


@dataclass(frozen=True)
class _FittedValue:
    input: ValueInput
    center: float
    scale: float
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
    arrays = {
        name: np.array([getattr(value, name) for value in values], dtype=np.float64)
        for name in ("center", "scale", "fill", "lower", "upper")
    }
    return Preparation(
        sources=tuple(sources),
        values=tuple(value.input for value in values),
        indicators=tuple(s.name for s, column in zip(sources, fitted, strict=True) if column.indicator),
        encodings=tuple(column.encoding for column in fitted if column.encoding is not None),
        missing=policy.missing.kind,
        **arrays,
    )


def _fit_numeric(source: Source, cells: Array, policy: Prepare) -> _Fitted | _LeftOut:
    kind = policy.per_column.get(source.name, policy.numeric).kind
    observed = cells[np.isfinite(cells)]
    if nothing := _uninformative(source, observed, len(cells), policy):
        return nothing
    limits = fit_limits(policy.outliers, observed)
    value = _fit_value(ValueInput(source.name, source.name, VALUE, kind), observed, policy, limits)
    return _Fitted((value,), indicator=_indicated(policy, len(observed) < len(cells)))


def _fit_boolean(source: Source, cells: Array, policy: Prepare) -> _Fitted | _LeftOut:
    kind = policy.per_column.get(source.name, policy.numeric).kind
    numbers = boolean_values(cells)
    observed = numbers[~np.isnan(numbers)]
    if nothing := _uninformative(source, observed, len(cells), policy):
        return nothing
    value = _fit_value(ValueInput(source.name, source.name, VALUE, kind), observed, policy, NO_LIMITS)
    return _Fitted((value,), indicator=_indicated(policy, len(observed) < len(cells)))


def _fit_datetime(source: Source, cells: Array, policy: Prepare) -> _Fitted | _LeftOut:
    kind = policy.per_column.get(source.name, policy.numeric).kind
    # a logarithm of a date means nothing
    scaler = "standard" if kind in LOGARITHMS else kind
    observed = cells[np.isfinite(cells)]
    parts = datetimes.varying(observed) if len(observed) else ()
    if not parts:
        return constant_or_empty(source.name, observed=len(observed) > 0)
    values = tuple(
        _fit_value(
            ValueInput(f"{source.name}.{part}", source.name, part, scaler),
            datetimes.part(observed, part),
            policy,
            NO_LIMITS,
        )
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
    code = ValueInput(source.name, source.name, CODE, "standard")
    return _Fitted((_fit_value(code, codes.astype(np.float64), policy, NO_LIMITS),), encoding)


FITS: dict[str, Callable[[Source, Array, Prepare], _Fitted | _LeftOut]] = {
    NUMERIC: _fit_numeric,
    BOOLEAN: _fit_boolean,
    DATETIME: _fit_datetime,
    CATEGORICAL: _fit_categorical,
}


def _fit_value(
    item: ValueInput, observed: Floats, policy: Prepare, limits: tuple[float, float]
) -> _FittedValue:
    values = np.clip(observed, *limits)
    center, scale = fit_scaler(item.scaler, values)
    return _FittedValue(item, center, scale, fill_value(policy.missing, values), *limits)


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
