"""The target columns: which task they make, which rows have them, and their values."""

from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np

from gradkeel.contract.config import TrainConfig
from gradkeel.contract.resolve import known_task, target_pointers
from gradkeel.local.cells import number_text
from gradkeel_worker.data.categories import level_order
from gradkeel_worker.data.errors import DataError, fault
from gradkeel_worker.data.table import BOOLEAN, DATETIME, NUMERIC, Array, Column, Integers, Mask, Table

Task = Literal["regression", "binary", "multiclass", "quantile"]
REGRESSION: Task = "regression"
BINARY: Task = "binary"
MULTICLASS: Task = "multiclass"
QUANTILE: Task = "quantile"
NUMBERS = (REGRESSION, QUANTILE)
"""Tasks whose target is a number."""
_LOOKED_AT = 4096
FORECAST = "forecast"
"""A task of the config alone: it is a regression on windows that the target's past is part of."""


@dataclass(frozen=True)
class Target:
    """``kept`` [n]: positions in the table of rows with every target. ``values``: float64 [n], or
    [n, targets] of several, or class names [n]."""

    task: Task
    kept: Integers
    values: Array
    findings: tuple[dict[str, Any], ...]

    def strata(self) -> Array:
        """What a stratified split goes by, [n]: of several targets the first."""
        if self.task not in NUMBERS:
            return self.values.astype(str)
        return self.values if self.values.ndim == 1 else self.values[:, 0]


def read_target(table: Table, config: TrainConfig) -> Target:
    """Decide the task and drop rows that lack a target. Raises DataError where there is nothing to learn."""
    pointers = target_pointers(config)
    columns = [table.need(name, pointers[name]) for name in config.targets]
    present = np.all([_present(column) for column in columns], axis=0)
    kept = np.flatnonzero(present)
    if len(kept) == 0:
        raise _nothing(columns)
    task = _task(columns[0], kept, known_task(config))
    for column in columns[1:]:
        _task(column, kept, task)
    findings = _dropped(columns, len(table) - len(kept))
    if task not in NUMBERS:
        return Target(task, kept, class_names(columns[0])[kept], findings)
    values = [column.values[kept] for column in columns]
    return Target(task, kept, values[0] if len(values) == 1 else np.stack(values, axis=1), findings)


def _present(column: Column) -> Mask:
    """Cells with a target, [n]; infinity is none."""
    return ~column.missing() if column.values.dtype == object else np.isfinite(column.values)


def _nothing(columns: list[Column]) -> DataError:
    if len(columns) == 1:
        return fault("target_missing", "no row has a target", pointer="/target", column=columns[0].name)
    return fault("target_missing", "no row has all of the targets", pointer="/target")


def class_names(column: Column) -> Array:
    """Each cell as the name of a class: the file's text, [n]."""
    if column.values.dtype == object:
        return column.values
    distinct, codes = np.unique(column.values, return_inverse=True)
    names = [None if np.isnan(v) else number_text(float(v), integer=column.integer) for v in distinct]
    return np.array(names, dtype=object)[codes]


def class_order(names: Array, task: str, column: str) -> tuple[str, ...]:
    """The classes of the training part: numbers by value, text by code point. Raises DataError."""
    distinct = sorted(set(names.tolist()))
    if len(distinct) < 2:
        detail = f"every training row is of the one class {distinct[0]!r}"
        raise fault("one_class", detail, pointer="/target", column=column)
    if task == BINARY and len(distinct) > 2:
        detail = f"a binary target has two classes, this one has {len(distinct)}"
        raise fault("not_binary", detail, pointer="/task", column=column)
    return tuple(sorted(distinct, key=level_order(distinct)))


def _task(column: Column, kept: Integers, asked: str) -> Task:
    numeric = column.type == NUMERIC
    if asked in (*NUMBERS, FORECAST) and not numeric:
        detail = f"{asked} needs a numeric target; {column.name!r} is {column.type}"
        raise fault("wrong_type", detail, pointer="/target", column=column.name)
    if column.type == DATETIME:
        detail = "a date cannot be a target"
        raise fault("wrong_type", detail, pointer="/target", column=column.name)
    if asked == FORECAST:
        return REGRESSION
    if asked != "auto":
        return cast(Task, asked)
    if column.type == BOOLEAN or _two_valued(column.values[kept]):
        return BINARY
    return REGRESSION if numeric else MULTICLASS


def _two_valued(values: Array) -> bool:
    """Whether there are two different values; most columns show soon that they have more."""
    seen: set[Any] = set()
    for start in range(0, len(values), _LOOKED_AT):
        seen.update(values[start : start + _LOOKED_AT].tolist())
        if len(seen) > 2:
            return False
    return len(seen) == 2


def _dropped(columns: list[Column], count: int) -> tuple[dict[str, Any], ...]:
    if not count:
        return ()
    lacking = "have no target" if len(columns) == 1 else "lack a target"
    detail = f"{count} rows {lacking} and are left out"
    return ({"code": "target_missing", "column": columns[0].name, "count": count, "detail": detail},)
